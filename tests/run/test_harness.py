"""lm-evaluation-harness itself asks a work directory, with its prompt and without."""

import json

import numpy as np
import pytest

lm_eval = pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: make parity")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from promot_jax.errors import UserError  # noqa: E402
from promot_jax.models import Decoding  # noqa: E402
from promot_jax.run import LanguageModel  # noqa: E402
from promot_jax.run.harness import HarnessModel  # noqa: E402

LENGTH = 6
QUESTIONS = [f"what follows {a}{b}?" for a in "abcdef" for b in "xyz"]
CHOICES = ["alpha", "gamma", "delta"]

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
target_delimiter: " "
"""
OPEN = """doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
"""
CHOICE = """doc_to_choice: ["alpha", "gamma", "delta"]
doc_to_target: best
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def model(served):
    return LanguageModel(str(served), {"data": 1})


def best_choice(model, question, prompt):
    """As the harness scores choices: what follows the delimiter, without EOS."""
    choices = [model.encode(f" {choice}", None)[:-1] for choice in CHOICES]
    scores = model.score_ids([model.encode(question, prompt)] * 3, choices)
    return max(range(3), key=lambda i: scores[i].log_likelihood)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def tasks(model, folder):
    """Two tasks whose right answers are the prompted model's own, every third one spoilt."""
    answers = model.generate(QUESTIONS, "target", Decoding(LENGTH))
    rows = []
    for i, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True)):
        best, spoilt = best_choice(model, question, "target"), i % 3 == 0
        answer = "spoilt" if spoilt else answer.split("\n")[0]
        rows.append({"question": question, "answer": answer, "best": (best + spoilt) % 3})
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, kind, rest in (
        ("own_open", "generate_until", OPEN),
        ("own_choice", "multiple_choice", CHOICE),
    ):
        text = TASK.format(name=name, kind=kind, file=file) + rest
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluate(tasks, arguments, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    found = lm_eval.simple_evaluate(
        "promot", arguments, tasks=["own_open", "own_choice"], task_manager=tasks, batch_size=8,
        bootstrap_iters=0,
    )["results"]  # fmt: skip
    return found["own_open"]["exact_match,none"], found["own_choice"]["acc,none"]


def test_the_harness_finds_what_the_model_answers(
    served, model, tasks, folder, monkeypatch, tmp_path
):
    arguments = f"path={served},prompt=target"
    assert evaluate(tasks, arguments, monkeypatch, tmp_path) == pytest.approx((2 / 3, 2 / 3))
    bare = evaluate(tasks, f"path={served}", monkeypatch, tmp_path)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").open(encoding="utf-8")]
    outputs = model.generate(QUESTIONS, None, Decoding(LENGTH))
    same = [text.split("\n")[0] == row["answer"] for text, row in zip(outputs, rows, strict=True)]
    best = [best_choice(model, row["question"], None) == row["best"] for row in rows]
    assert bare == pytest.approx((np.mean(same), np.mean(best)))
    assert bare[0] < 2 / 3


@pytest.fixture(scope="module")
def asked(served):
    return HarnessModel(str(served), "target", batch_size="4", mesh={"data": 1})


def request(kind, *arguments):
    return Instance(kind, {}, arguments, 0)


def test_stop_sequences_and_ways_of_decoding(asked, model):
    beams = Decoding(4, beams=2, length_penalty=1.0, beam_search="huggingface")
    outputs = model.generate(QUESTIONS[:2], "target", Decoding(LENGTH))
    stop = outputs[0][1]
    settings = {"max_gen_toks": LENGTH}
    found = asked.generate_until([
        request("generate_until", QUESTIONS[0], settings | {"until": [stop]}),
        request("generate_until", QUESTIONS[1], settings),
        request("generate_until", QUESTIONS[2], {"max_gen_toks": 4, "num_beams": 2}),
    ])  # fmt: skip
    last = model.generate(QUESTIONS[2:3], "target", beams)[0]
    assert found == [outputs[0].split(stop)[0], outputs[1], last]


def test_loglikelihood(asked, model):
    """Spaces at a context's end belong to what follows; an empty context is EOS alone."""
    pairs = [("what follows?", " x"), ("what follows? ", "x"), ("", "x")]
    found = asked.loglikelihood([request("loglikelihood", *pair) for pair in pairs])
    assert found[0] == found[1] != found[2]
    expected = model.score_ids([model.encode("", "target")], [model.encode("x", None)[:-1]])
    assert found[2][0] == pytest.approx(expected[0].log_likelihood, rel=1e-5)


def test_what_it_does_not_have(asked, served):
    with pytest.raises(UserError, match="no rolling log-likelihood"):
        asked.loglikelihood_rolling([request("loglikelihood_rolling", "text")])
    with pytest.raises(UserError, match="'repetition_penalty'"):
        asked.generate_until([request("generate_until", "a", {"repetition_penalty": 2.0})])
    with pytest.raises(UserError, match="no prompt 'taget'"):
        HarnessModel(str(served), "taget", mesh={"data": 1})
    with pytest.raises(UserError, match="context 0 has 109 tokens, more than input_length = 64"):
        short = HarnessModel(str(served), "target", mesh={"data": 1}, input_length=64)
        short.loglikelihood([request("loglikelihood", "a" * 104, "b")])
    with pytest.raises(UserError, match="batch_size = 'many'"):
        HarnessModel(str(served), batch_size="many")

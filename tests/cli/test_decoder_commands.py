"""A tiny Gemma through the command line: run, evaluated, asked, tuned on, and taken out again."""

import json
import shutil

import numpy as np
import pytest
from command_lines import decoder, flags, on_base, own_task

from promot_jax.models import Decoding, unstack_layers
from promot_jax.run import LanguageModel

SHOTS = flags(TARGET_SHOTS=(0, 2, 20), EVAL_LIMIT=3, BEAMS=1, MAX_OUTPUT_LENGTH=4)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows_of(workdir) -> list[dict]:
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy of the tuned work directory, `tuned`, with its rows beside it."""
    shutil.copytree(tuned / "out", tmp_path / "tuned")
    shutil.copy(tuned / "mine.tsv", tmp_path)
    shutil.copytree(tuned / "hf", tmp_path / "hf")
    return tmp_path


def ok(result) -> str:
    assert result.code == 0, result.err
    return result.err


def test_a_run_is_complete(tuned):
    """Both stages, their scores, samples as the model read them, and the page."""
    found = {(row["stage"], row["step"], row["prompt"]) for row in rows_of(tuned / "out")}
    assert found == {(stage, step, True) for stage in ("1-prompt", "2-model") for step in (0, 2)}
    assert (tuned / "out/report.html").exists()
    for sample in lines(tuned / "out/2-model/samples/gemma.0shot.2.jsonl"):
        assert sample["input"].startswith("what follows") and sample["output"] is not None
    told = json.loads((tuned / "out/run.json").read_text(encoding="utf-8"))
    assert told["model"]["kind"] == "decoder_only" and told["vocabulary"]["kind"] == "tokenizer"


@pytest.mark.parametrize("chat", [None, True])
def test_eval(promot, folder, chat):
    """With a prompt and shots, of which those go that have no room in the context."""
    own = [each.replace("NAME", f"asked_{chat}") for each in own_task("mine.tsv", "NAME")]
    more = flags(PROMPT="target", CHAT=chat)
    said = ok(promot(["eval", "tuned", *own, *SHOTS, *more], folder))
    rows = {row["shots"]: row for row in rows_of(folder / "tuned/evaluation")}
    assert set(rows) == {0, 2, 20} and all(row["prompt"] for row in rows.values())
    assert rows[20]["too_long"] == rows[20]["n"] and "Too long inputs lost shots" in said
    (path,) = (folder / "tuned/evaluation/1-evaluation/samples").glob("*.2shot.*")
    for sample in lines(path):
        text = sample["input"]
        assert text.count("what follows") == 3 and text.count("\n\n") == 2
        assert text.startswith("user\n") == text.endswith("model\n") == bool(chat)
        assert "\n\n" not in sample["output"]
    assert (folder / "tuned/evaluation/report.html").exists()


def test_infer(promot, folder):
    """With the prompt and without in one batch; what has no room in the context is flagged."""
    asked = [
        ("what follows ax?", None),
        ("what follows ax?", "target"),
        ("", None),
        ("z" * 199, None),
    ]
    text = "".join(json.dumps({"inputs": x, "prompt": p}) + "\n" for x, p in asked)
    (folder / "in.jsonl").write_text(text, encoding="utf-8")
    command = ["infer", "tuned", "--input=in.jsonl", "--max_length=6"]
    said = ok(promot([*command, "--output=out.jsonl"], folder))
    assert "line 4, is not answered: 200 tokens, more than the model's context" in said
    found = [row["output"] for row in lines(folder / "out.jsonl")]
    assert found[0] != found[1] and found[3] is None
    model = LanguageModel(str(folder / "tuned"), {"data": 1})
    assert found[:3] == [model.generate([x], p, Decoding(6))[0] for x, p in asked[:3]]
    stop = found[1][1]
    ok(promot([*command, "--output=stopped.jsonl", f"--stop_text={stop}"], folder))
    stopped = [row["output"] for row in lines(folder / "stopped.jsonl")]
    assert stopped[:3] == [text.split(stop)[0] for text in found[:3]]


SEVERAL = """from __gin__ import dynamic_registration
from promot_jax import data
one/data.file_task.name = 'one'
one/data.file_task.train = 'mine.tsv'
two/data.file_task.name = 'two'
two/data.file_task.train = 'mine.tsv'
TASK = [@one/data.file_task(), @two/data.file_task()]
"""


def test_a_prompt_for_each_task(promot, folder):
    """On the tuned one as base, computed otherwise: packed, scanned, and with remat."""
    (folder / "several.gin").write_text(SEVERAL, encoding="utf-8")
    how = [f"--gin.run.base_model.{name}=True" for name in ("scan_layers", "remat")]
    command = on_base("--gin_file=several.gin", *how, recipe="multitask_promot", PACKING=True)
    ok(promot([each for each in command if "file_task" not in each], folder))
    targets = {(row["task"], row["prompt"]) for row in rows_of(folder / "out")}
    assert targets == {("one", True), ("two", True)}
    model = LanguageModel(str(folder / "out"), {"data": 1})
    assert model.prompts == ("one", "two") and model.description.model.scan_layers
    scores = model.score(["what follows ax?"] * 3, ["x"] * 3, ["one", "two", None])
    assert len({score.log_likelihood for score in scores}) == 3


def test_a_prompt_that_local_layers_lose(promot, folder):
    """Said once, in words, and no error: the layers that see everything do see it."""
    task = [each.replace("NAME", "beyond") for each in own_task("mine.tsv", "NAME")]
    changes = {"PROMPT_LENGTH": 20, "PROMPT_STEPS": 1, "STEPS": 0, "EVAL_LIMIT": 1, "WORKDIR": "w"}
    said = ok(promot(decoder(*task, recipe="promot", **changes), folder))
    told = "prompt 'target' has 20 vectors, and the model's local layers see 16 tokens back: there"
    assert said.count(told) == 1 and "no text sees the first 5, only the global layers do" in said


def test_out_and_in_again(promot, folder):
    """Exported with its prompt, and imported: the same answers, bit by bit the same weights."""
    ok(promot(["export", "tuned", "hf_again"], folder))
    ok(promot(["import", "hf_again", "back"], folder))
    ours, back = (LanguageModel(str(folder / name), {"data": 1}) for name in ("tuned", "back"))
    assert ours.vocabulary == back.vocabulary and ours.prompts == back.prompts
    layers = unstack_layers(ours.variables)
    assert layers.keys() == back.variables.keys()
    assert all(np.array_equal(layers[path], x) for path, x in back.variables.items())

"""An evaluator end to end: SeqIO tasks, a generator that repeats its input, scores and samples."""

import json
import logging

import numpy as np
import pytest
import sacrebleu
import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task, byte
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluation, Evaluator
from promot_jax.models import Decoding

VOCAB_SIZE = 384
PROMPTS = {"nli": np.arange(384, 388), "other": np.arange(388, 390)}
COPY = [("True", "True"), ("Rome", "Rome"), ("True", "no"), ("x", "y"), ("Oslo", "Oslo")]
MANY = [("x" * (60 if i % 11 == 10 else 1 + i % 9), "y") for i in range(130)]
LONGEST = [(f"{i}" * size, f"{i}" * size) for i, size in enumerate([3000] + 6 * [600] + 12 * [1])]
LONG = [("short", "short"), ("a longer input", "a longer input"), ("tiny", "tiny")]
NLI = TaskInfo(group="nli", answer_format=("True", "False"))


def source(splits):
    def dataset(split, shuffle_files=False, seed=None):
        columns = [list(column) for column in zip(*splits[split], strict=True)]
        return tf.data.Dataset.from_tensor_slices(
            dict(zip(("inputs", "targets"), columns, strict=True))
        )

    return seqio.FunctionDataSource(dataset, splits=("train", "validation"))


def bleu(targets, predictions):
    return {"bleu": sacrebleu.corpus_bleu(predictions, [targets]).score}


def likelihood(targets, scores):
    return {"likelihood": float(np.mean(scores))}


def broken(targets, predictions):
    raise KeyError("answers")


def odd_arguments(references, outputs):
    return {"x": 1.0}


def with_text(targets, predictions):
    return accuracy(targets, predictions) | {"note": seqio.metrics.Text("a note")}


def only_text(targets, predictions):
    return {"note": seqio.metrics.Text("a note")}


def lower(text, example, is_target):
    """Sees the row, and tells targets from outputs."""
    assert set(example) >= {"inputs", "targets"}
    return text.lower() if is_target else text.lower() + example.get("suffix", "")


@pytest.fixture(scope="module", autouse=True)
def tasks():
    def add(name, rows, metric_fns, postprocess_fn=None, info=None, splits=None):
        splits = splits or {"train": rows, "validation": rows}
        add_task(name, source(splits), [], metric_fns, postprocess_fn, info=info)
        return name

    names = [
        add("ev_copy", COPY, [accuracy], info=NLI),
        add("ev_long", LONG, [accuracy]),
        add("ev_many", MANY, [accuracy]),
        add("ev_longest", LONGEST, [accuracy]),
        add("ev_two", [], [accuracy], splits={"train": LONG, "validation": LONG[:1]}),
        add("ev_lower", [("ROME", "rome"), ("Bonn", "BONN")], [accuracy], lower),
        add("ev_bleu", [(f"a b c d {i}", f"a b c d {i % 2}") for i in range(8)], [bleu]),
        add("ev_silent", COPY, []),
        add("ev_scored", COPY, [likelihood]),
        add("ev_broken", COPY, [broken]),
        add("ev_odd", COPY, [odd_arguments]),
        add("ev_text", COPY, [with_text]),
        add("ev_only_text", COPY, [only_text]),
        add("ev_twice", COPY, [accuracy, with_text]),
    ]
    seqio.MixtureRegistry.add("ev_mixture", ["ev_copy", "ev_long"], default_rate=1.0)
    yield
    seqio.MixtureRegistry.remove("ev_mixture")
    for name in names:
        seqio.TaskRegistry.remove(name)


@pytest.fixture
def many():
    """A task of 130 rows, every eleventh of them long."""
    return "ev_many"


class Echo:
    """A generator in plain numpy: answers with its input's text, and keeps what it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, tokens, segments, decoding, rows):
        self.batches.append(tokens)
        outputs = np.full((len(tokens), tokens.shape[1] + 3), 70)  # what follows EOS is rubbish
        for row, ids in zip(outputs, tokens, strict=True):
            text = ids[(ids > 1) & (ids < VOCAB_SIZE)]
            row[: len(text) + 1] = [*text, 1]
        return outputs


def evaluator(tasks, target_format=None, **settings):
    evaluation = Evaluation(tasks, **{"batch_size": 2} | settings)
    return Evaluator(evaluation, byte(), VOCAB_SIZE, PROMPTS, target_format)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_row_as_results_json_has_it():
    (row,) = evaluator(["ev_copy"], NLI)(Echo(), step=30)
    assert row.pop("low") == pytest.approx(0.2307249, abs=1e-6)  # Wilson, 3 of 5
    assert row.pop("high") == pytest.approx(0.8823788, abs=1e-6)
    assert row == {
        "step": 30,
        "task": "ev_copy",
        "group": "nli",
        "shots": 0,
        "prompt": False,
        "metric": "accuracy",
        "value": pytest.approx(0.6),
        "scale": 1,
        "chance": 0.0,
        "n": 5,
        "format_share": 0.4,
    }


def test_a_batch_is_no_larger_than_what_is_left():
    echo, seen = Echo(), []
    (row,) = evaluator(["ev_copy"])(echo, 0, on_batch=lambda *done: seen.append(done))
    assert [batch.shape for batch in echo.batches] == [(2, 32), (2, 32), (1, 32)]
    assert [batch.dtype for batch in echo.batches] == [np.int32] * 3
    assert seen == [("ev_copy", 0, 2), ("ev_copy", 0, 2), ("ev_copy", 0, 1)]
    assert row["n"] == evaluator(["ev_copy"]).rows == 5


def test_batches_have_few_shapes(many):
    """64 rows a batch, then powers of two, filled up with the last row."""
    echo = Echo()
    for limit in range(1, 131):
        evaluator([many], limit=limit, batch_size=64)(echo, 0)
    assert {len(batch) for batch in echo.batches} == {1, 2, 4, 8, 16, 32, 64}
    echo = Echo()
    evaluator([many], limit=83, batch_size=48)(echo, 0)
    assert [len(batch) for batch in echo.batches] == [48, 48]
    assert (echo.batches[1][34:] == echo.batches[1][34]).all()
    echo = Echo()
    evaluator([many], limit=5, batch_size=64)(echo, 0)
    assert [len(batch) for batch in echo.batches] == [8]


@pytest.mark.parametrize("size", [1, 3, 5, 64])
def test_the_batch_size_changes_no_score(size):
    assert evaluator(["ev_copy"], NLI, batch_size=size)(Echo(), 0) == evaluator(["ev_copy"], NLI)(
        Echo(), 0
    )


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_answers_and_numbers_are_those_of_the_rows_whatever_the_batch(many, tmp_path, size):
    """Of inputs of many lengths; what is generated depends on the row's number."""

    def numbered(tokens, segments, decoding, rows):
        outputs = np.zeros((len(tokens), 8), int)
        for output, row in zip(outputs, rows, strict=True):
            text = f"{row}"
            output[: len(text)] = [ord(letter) + 3 for letter in text]
        return outputs

    evaluator([many], limit=23, batch_size=size)(numbered, 0, tmp_path)
    lines = read(tmp_path / f"{many}.0shot.0.jsonl")
    assert [(line["input"], line["output"]) for line in lines] == [
        (text, str(i)) for i, (text, _) in enumerate(MANY[:23])
    ]


def test_one_long_row_costs_nothing_to_the_others(many):
    echo = Echo()
    evaluator([many], limit=30, batch_size=8)(echo, 0)
    assert [batch.shape[1] for batch in echo.batches] == [32, 32, 32, 64]


def test_long_inputs_come_in_small_batches(tmp_path):
    """Attention's memory grows with the square of their length; a row of 3,000 tokens is alone."""
    echo = Echo()
    (row,) = evaluator(["ev_longest"], batch_size=16)(echo, 0, tmp_path)
    shapes = [batch.shape for batch in echo.batches]
    assert shapes == [(16, 32), (4, 1024), (2, 1024), (1, 4096)]
    assert (row["n"], row["value"]) == (len(LONGEST), 1.0)
    lines = read(tmp_path / "ev_longest.0shot.0.jsonl")
    assert [line["input"] for line in lines] == [text for text, _ in LONGEST]


def test_samples_hold_every_row_in_order(tmp_path):
    evaluator(["ev_copy"], prompt="nli")(Echo(), 200, tmp_path / "samples")
    (path,) = (tmp_path / "samples").iterdir()
    assert path.name == "ev_copy.0shot.200.jsonl"
    assert read(path) == [
        {"input": text, "target": target, "output": text, "score": float(text == target)}
        for text, target in COPY
    ]


def test_format_share_is_none_where_the_target_has_no_format():
    for target in (None, TaskInfo()):
        (row,) = evaluator(["ev_copy"], target)(Echo(), 0)
        assert row["format_share"] is None


def test_format_share_looks_at_the_raw_output():
    (row,) = evaluator(["ev_lower"], TaskInfo(answer_format=("ROME", "bonn")))(Echo(), 0)
    assert (row["value"], row["format_share"]) == (1.0, 0.5)


def test_too_long_rows_are_counted_and_none_is_lost(tmp_path):
    echo = Echo()
    (row,) = evaluator(["ev_long"], input_length=8)(echo, 0, tmp_path)
    assert (row["n"], row["too_long"]) == (3, 1)
    assert row["value"] == pytest.approx(2 / 3)
    assert [batch.shape for batch in echo.batches] == [(2, 8), (1, 8)]
    samples = read(tmp_path / "ev_long.0shot.0.jsonl")
    assert [line["input"] for line in samples] == ["short", "a loput", "tiny"]


def test_without_an_input_length_nothing_is_too_long():
    echo = Echo()
    rows = evaluator(["ev_long"], shots=(0, 2), batch_size=4)(echo, 0)
    assert [batch.shape for batch in echo.batches] == [(4, 32), (4, 64)]
    assert all("too_long" not in row for row in rows)


def test_the_prompt_is_in_front_and_nowhere_else():
    echo = Echo()
    (row,) = evaluator(["ev_copy"], prompt="nli")(echo, 0)
    assert row["prompt"] is True
    assert all((batch[:, :4] == PROMPTS["nli"]).all() for batch in echo.batches)
    assert all((batch[:, 4:] < VOCAB_SIZE).all() for batch in echo.batches)


def test_a_mapping_gives_each_task_its_prompt():
    made = evaluator(["ev_copy", "ev_long"], prompt={"ev_long": "other"})
    assert [row["prompt"] for row in made(Echo(), 0)] == [False, True]


def test_a_mapping_gives_each_task_its_split():
    made = evaluator(["ev_long", "ev_two"], split={"ev_long": "train", "ev_two": "validation"})
    assert [row["n"] for row in made(Echo(), 0)] == [3, 1]


def test_inputs_are_padded_no_longer_than_a_task_needs():
    echo = Echo()
    evaluator(["ev_copy", "ev_long"], input_length=1000, shots=(0, 2))(echo, 0)
    assert {batch.shape[1] for batch in echo.batches} == {32, 64}


def test_ids_without_text_are_survived():
    def prompt_ids(tokens, segments, decoding, rows):
        return np.tile([384, 0, 300, -1, 82 + 3, 111 + 3, 1], (len(tokens), 1))

    (row,) = evaluator(["ev_copy"], TaskInfo(answer_format=("Ro",)))(prompt_ids, 0)
    assert (row["value"], row["format_share"]) == (0.0, 1.0)


def test_nothing_generated_is_an_empty_answer(tmp_path):
    (row,) = evaluator(["ev_copy"])(lambda tokens, *_: np.zeros((len(tokens), 4), int), 0, tmp_path)
    assert row["value"] == 0
    assert row["high"] > 0.4  # none of five is not none at all
    assert {line["output"] for line in read(tmp_path / "ev_copy.0shot.0.jsonl")} == {""}


def test_shots_are_rows_of_their_own(tmp_path):
    made = evaluator(["ev_copy"], shots=(0, 1), limit=3)
    rows = made(Echo(), 5, tmp_path)
    assert [(row["shots"], row["n"]) for row in rows] == [(0, 3), (1, 3)]
    lines = read(tmp_path / "ev_copy.1shot.5.jsonl")
    assert [line["input"].split("\n\n")[-1] for line in lines] == ["True", "Rome", "True"]
    assert all(line["input"].count("\n\n") == 1 for line in lines)


def test_the_evaluation_can_set_the_group():
    (row,) = evaluator(["ev_copy"], group="target")(Echo(), 0)
    assert row["group"] == "target"


def test_a_corpus_metric(tmp_path):
    (row,) = evaluator(["ev_bleu"])(Echo(), 0, tmp_path)
    assert 0 < row["low"] <= row["value"] <= row["high"] <= 100.001
    assert row["low"] < row["high"]
    scores = [line["score"] for line in read(tmp_path / "ev_bleu.0shot.0.jsonl")]
    assert scores[0] == pytest.approx(100) and scores[2] < 100


def test_evaluating_twice_gives_the_same_and_leaves_whole_files(tmp_path):
    made = evaluator(["ev_bleu", "ev_copy"], NLI)
    first = made(Echo(), 0, tmp_path)
    assert made(Echo(), 0, tmp_path) == first
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl"] * 2


def test_decoding_is_handed_on():
    seen, settings = set(), Decoding(3, beams=2)

    def generate(tokens, segments, decoding, rows):
        seen.add(decoding)
        return tokens

    evaluator(["ev_copy"], decoding=settings)(generate, 0)
    assert seen == {settings}


def test_what_is_no_number_is_named_and_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        made = evaluator(["ev_text"])
    assert "'ev_text': ['note'] of with_text is no number" in caplog.text
    assert [row["metric"] for row in made(Echo(), 0)] == ["accuracy"]


def test_a_mixture_is_scored_task_by_task():
    rows = evaluator("ev_mixture")(Echo(), 0)
    assert [row["task"] for row in rows] == ["ev_copy", "ev_long"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ["ev_cpoy"]}, "ev_cpoy.*did you mean 'ev_copy'"),
        ({"tasks": ["ev_copy"], "split": "valdation"}, "no split 'valdation'"),
        ({"tasks": ["ev_copy"], "split": {"ev_cpoy": "train"}}, "none for task 'ev_copy'.*ev_cpoy"),
        ({"tasks": ["ev_copy"], "prompt": "nil"}, "no prompt 'nil'.*did you mean 'nli'"),
        ({"tasks": ["ev_copy"], "prompt": {"ev_long": "nli"}}, "'ev_long' is not a task of this"),
        ({"tasks": ["ev_copy"], "prompt": {"ev_copy": "x"}}, "no prompt 'x'"),
        ({"tasks": ["ev_copy"], "prompt": "nli", "input_length": 4}, "prompt .*4 tokens"),
        ({"tasks": ["ev_copy"], "shots": (99,)}, "shots=99"),
        ({"tasks": ["ev_silent"]}, "'ev_silent' has no metric functions"),
        ({"tasks": ["ev_scored"]}, "'ev_scored' has metrics of the kind 'scores'"),
        ({"tasks": ["ev_odd"]}, "'ev_odd'.*positional arguments"),
        ({"tasks": ["ev_broken"]}, "broken fails on the task's own targets .KeyError"),
        ({"tasks": ["ev_only_text"]}, "give no number"),
        ({"tasks": ["ev_twice"]}, "two of its metric functions give 'accuracy'"),
        ({"tasks": ["ev_copy", "ev_copy"]}, "none of them twice"),
        ({"tasks": ["ev_copy"], "shots": (-1,)}, "Evaluation.shots = "),
        ({"tasks": ["ev_copy"], "batch_size": None}, "Evaluation.batch_size = None"),
        ({"tasks": ["ev_copy"], "limit": 0}, "Evaluation.limit = 0"),
        ({"tasks": ["ev_copy"], "every": 0.5}, "Evaluation.every = 0.5"),
        ({"tasks": ["ev_copy"], "seed": -1}, "Evaluation.seed = -1"),
    ],
)
def test_bad_settings_are_told_before_anything_is_generated(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        evaluator(**settings)
    assert "\n" not in str(raised.value)


def test_no_tasks_are_no_rows():
    assert evaluator([])(Echo(), 0) == []


def test_lists_and_single_values_are_one_setting():
    one = Evaluation("ev_copy", shots=1)
    assert (one.tasks, one.shots) == (("ev_copy",), (1,))
    assert Evaluation(["ev_copy"], shots=[1]) == one

"""Runs with terms, weights and filters: resumed bit by bit, against the stage's or run's start."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny_run
from test_runs import BRIEF, stored

from promot_jax.data import TrainData
from promot_jax.errors import UserError
from promot_jax.models import FLOW
from promot_jax.run import Distance, Divergence, run
from promot_jax.run.beginning import beginning
from promot_jax.run.prepare import prepare
from promot_jax.run.training_stage import TrainingStage
from promot_jax.run.workdir import Results
from promot_jax.training import Finch, HalfFrozen, Mofo, Pull, adamw

DECODER = "params/decoder"
FILTERS = [Pull(0.1), Finch(0.5), Mofo(0.5), HalfFrozen(2)]
HOW = BRIEF | {"optimizer": adamw, "checkpoint_every": 2, "keep_minutes": 1e-9}


def with_all(task, steps, **changes):
    """A stage that trains the decoder with all there is."""
    far = TrainData(task, 24, 8, batch_size=4)
    terms = [
        Distance(0.01), Distance(3.0, data=far, rows=3, name="ewc"),
        Divergence(0.3), Divergence(0.2, "reverse", data=far, name="far"),
    ]  # fmt: skip
    how = HOW | {"terms": terms, "token_weights": [FLOW(3.0)]} | changes
    stage = tiny_run.stage("only", DECODER, steps, task, **how)
    parts = [dataclasses.replace(part, filters=FILTERS) for part in stage.train]
    return dataclasses.replace(stage, train=parts)


def metrics(work) -> list[dict]:
    """The logged lines, without what depends on the clock."""
    lines = (work / "1-only/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    clock = ("seconds", "saving_seconds", "examples_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def test_a_run_goes_on_bit_by_bit(task, tmp_path, capsys):
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=[with_all(task, 4)])
    work = run(settings)
    said = capsys.readouterr().err
    assert "1-only: ewc: Fisher information of 3 rows" in said
    assert "1-only: far: 18 examples of tiny_run_task/train" in said
    whole, lines = stored(work, "1-only")[0], metrics(work)
    names = {"distance", "ewc", "kl", "far", "token_weight", "cross_entropy"}
    assert all(names <= line.keys() for line in lines)
    assert [line["distance"] > 0 for line in lines] == [False, True, True, True]
    shutil.rmtree(work / "1-only/checkpoints/4")  # as if it had been killed behind step 2
    run(settings)
    assert "continues at step 2" in capsys.readouterr().err
    for path, x in stored(work, "1-only")[0].items():
        np.testing.assert_array_equal(x, whole[path], err_msg=path)
    assert metrics(work) == lines


def test_what_a_stage_compares_itself_with(task, tmp_path):
    """Copies of what it trains, as the stage began with it, or the run."""
    first = tiny_run.stage("first", "prompt", 1, task, **HOW)
    for reference in ("before", "base"):
        terms = {"terms": [Distance()], "reference": reference}
        stages = [first, tiny_run.stage("second", "prompt", 1, task, **HOW | terms)]
        context = prepare(tiny_run.settings(str(tmp_path), task, stages=stages))
        begun, _ = beginning(context)
        before = begun | {"prompt/target": begun["prompt/target"] + 1}
        with contextlib.closing(TrainingStage(context, 1, tmp_path, Results(tmp_path))) as stage:
            found = stage.compared_with(before).variables
        expected = before if reference == "before" else begun
        assert found.keys() == {"prompt/target"}
        np.testing.assert_array_equal(found["prompt/target"], expected["prompt/target"])
        assert found["prompt/target"] is not before["prompt/target"]


def test_settings_that_cannot_be(task, tmp_path):
    """Found before anything is made."""
    far = TrainData(task, 24, 8, batch_size=3)
    cases = [
        (
            lambda: {"terms": [Divergence(data=far)]},
            "kl: TrainData.batch_size = 3 .* of 2",
        ),
        (lambda: {"terms": [Distance(pattern="params/x")]}, "pattern = 'params/x' matches none"),
        (lambda: {"terms": [Distance(), Distance()]}, "two terms .* 'distance': rename one"),
        (lambda: {"terms": [Distance(name="loss")]}, "name = 'loss': .* no other metric"),
        (lambda: {"terms": [Distance(-1.0)]}, "Distance.weight = -1.0: set 0 to"),
        (lambda: {"terms": [Distance(rows=0)]}, "Distance.rows = 0: set 1 to"),
        (lambda: {"terms": [Divergence(direction="back")]}, "= 'back': set 'forward' or"),
        (lambda: {"terms": [0.1]}, "Stage.terms = "),
        (lambda: {"token_weights": ["stm"]}, "Stage.token_weights = "),
        (lambda: {"reference": "begin"}, "reference = 'begin': set 'before' or 'base'"),
        (lambda: {"sam_radius": -0.1}, "sam_radius = -0.1: set 0 to"),
    ]
    for changes, says in cases:
        with pytest.raises(UserError, match=says):
            stage = tiny_run.stage("only", "prompt", 2, task, **HOW, accumulate=2, **changes())
            run(tiny_run.settings(str(tmp_path / "work"), task, stages=[stage]))
    assert not (tmp_path / "work").exists()

"""Runs with terms, weights and filters: resumed bit by bit, against the stage's or run's start."""

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
from promot_jax.training import Finch, HalfFrozen, Mofo, Pull, adamw

FILTERS = [Pull(0.1), Finch(0.5), Mofo(0.5), HalfFrozen(2)]
HOW = BRIEF | {"optimizer": adamw, "checkpoint_every": 2, "keep_minutes": 1e-9}


def with_all(task, pattern, steps, **changes):
    """A stage that trains the model with all there is, or the prompt with a little of it."""
    far = TrainData(task, 24, 8, batch_size=4)
    how, filters = {"terms": [Distance(0.01)]}, [Pull(0.1)]
    if pattern == "params":
        how["terms"] += [
            Distance(3.0, data=far, rows=3, name="ewc"),
            Divergence(0.3),
            Divergence(0.2, "reverse", data=far, name="far"),
        ]
        how["token_weights"], filters = [FLOW(3.0)], FILTERS
    stage = tiny_run.stage("only", pattern, steps, task, **HOW | how | changes)
    parts = [dataclasses.replace(part, filters=filters) for part in stage.train]
    return dataclasses.replace(stage, train=parts)


def metrics(work) -> list[dict]:
    """The logged lines of the second stage, without what depends on the clock."""
    lines = (work / "2-only/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    clock = ("seconds", "saving_seconds", "examples_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


@pytest.mark.parametrize(("pattern", "reference"), [("params", "base"), ("prompt", "before")])
def test_a_run_goes_on_bit_by_bit(task, tmp_path, capsys, pattern, reference):
    """Behind a stage that has moved the same arrays."""
    first = tiny_run.stage("first", pattern, 1, task, **HOW)

    stages = [first, with_all(task, pattern, 4, reference=reference)]
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=stages)
    work = run(settings)
    said = capsys.readouterr().err
    whole, lines = stored(work, "2-only")[0], metrics(work)
    shutil.rmtree(work / "2-only/checkpoints/4")  # as if it had been killed behind step 2
    run(settings)
    assert "continues at step 2" in capsys.readouterr().err
    for path, x in stored(work, "2-only")[0].items():
        np.testing.assert_array_equal(x, whole[path], err_msg=path)
    assert metrics(work) == lines
    distances = [line["distance"] for line in lines]
    assert (distances[0] > 1e-5) == (reference == "base") and min(distances[1:]) > 0
    if pattern == "params":
        assert "2-only: ewc: Fisher information of 3 rows" in said
        assert "2-only: far: 18 examples of tiny_run_task/train" in said
        names = {"distance", "ewc", "kl", "far", "token_weight", "cross_entropy"}
        assert all(names <= line.keys() for line in lines)


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

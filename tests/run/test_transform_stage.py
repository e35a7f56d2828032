"""Stages that transform what was trained: what they leave and score, and where they go on."""

import contextlib
import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from promot_jax.convert.inspect import inspect
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluator
from promot_jax.run import LanguageModel, Stage, Transform, run
from promot_jax.run.transform_stage import mean_score
from promot_jax.training import Checkpoints, Interrupted, half_reset

STEPS = 16


def back(name: str, task: str, **how) -> Stage:
    """A stage that transforms, scored like the others."""
    asked = tiny_run.stage("model", "params", 1, task).evaluations
    return Stage(name, evaluations=asked, select=task, transform=Transform(**how))


def settings_of(workdir: Path, task: str):
    """ProMoT; the tuned model as it is; a bisection; the model before, with a third reset."""
    after = [
        back("tuned", task, coefficients=1),
        back("bisected", task, reach=0.9, within=0.0, most=2),
        back("third", task, change=half_reset(), coefficients=(0.0, 1 / 3), keep=0.0),
    ]
    return tiny_run.settings(str(workdir), task, STEPS, after=after)


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    return run(settings_of(tmp_path_factory.mktemp("transformed") / "work", task))


def rows_of(workdir: Path, stage: str) -> list[dict]:
    rows = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    return [row for row in rows if row["stage"] == stage]


def kept(workdir: Path, stage: str) -> tuple[int, dict[str, np.ndarray], dict]:
    """Step, arrays and note of a stage's best checkpoint."""
    directory = workdir / stage / "checkpoints"
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        step = checkpoints.best()
        found = checkpoints.variables(step, checkpoints.shapes(step))
        return step, {path: np.asarray(x) for path, x in found.items()}, checkpoints.note(step)


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [
        p for p in ours if np.asarray(ours[p]).tobytes() != np.asarray(theirs[p]).tobytes()
    ] == []


def test_all_of_the_training_is_the_tuned_model_bit_by_bit(finished):
    (_, tuned, _), (step, ours, note) = kept(finished, "2-model"), kept(finished, "3-tuned")
    assert (step, note["coefficient"]) == (1, 1.0)
    assert_equal(ours, tuned)
    best = next(row for row in rows_of(finished, "2-model") if row["selected"])
    (row,) = rows_of(finished, "3-tuned")
    assert row["selected"] and row["coefficient"] == 1.0
    same = ("value", "task", "shots", "prompt", "learning_rate", "group", "n", "low", "high")
    assert {name: row[name] for name in same} == {name: best[name] for name in same}


def test_none_of_it_is_the_model_before_bit_by_bit(finished, task):
    """That has the prompt that was trained before; the stage in between, bisected, is no matter."""
    layout = LanguageModel(str(finished / "1-prompt"), {"data": 1})
    assert_equal(kept(finished, "5-third")[1], layout.variables)


def test_a_bisection_is_scored_and_keeps_the_nearest(finished):
    rows = rows_of(finished, "4-bisected")
    tried = [row["coefficient"] for row in rows]
    assert tried[:3] == [1.0, 0.0, 0.5] and len(tried) == 5
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    scores = dict(zip(tried, (row["value"] for row in rows), strict=True))
    goal = 0.9 * scores[1.0]
    assert scores[0.0] < goal < scores[1.0]
    low = max(c for c in tried[:3] if scores[c] < goal)
    assert tried[3] == (low + min(c for c in tried[:3] if c > low)) / 2
    nearest = min(tried, key=lambda c: (abs(scores[c] - goal), c))
    assert [row["coefficient"] for row in rows if row["selected"]] == [nearest]
    step, ours, note = kept(finished, "4-bisected")
    assert note["coefficient"] == nearest and tried[step - 1] == nearest
    before = LanguageModel(str(finished / "1-prompt"), {"data": 1}).variables
    after = kept(finished, "2-model")[1]
    np.testing.assert_array_equal(ours["prompt/target"], after["prompt/target"])
    for path, x in ours.items():
        x0, x1 = np.asarray(before[path], np.float64), np.asarray(after[path], np.float64)
        np.testing.assert_allclose(x, x0 + nearest * (x1 - x0), rtol=1e-5, atol=1e-6)


def test_a_killed_sweep_goes_on(finished, task, tmp_path):
    """Nothing is scored twice, and all is bit by bit as if nothing had happened."""
    settings, asked, scored = settings_of(tmp_path / "work", task), Evaluator.__call__, []

    def stop(self, generate, step, samples_dir=None, *more):
        stage = samples_dir.parent.name
        if (stage, step) == ("4-bisected", 3) and len(scored) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        scored.append((stage, step))
        return asked(self, generate, step, samples_dir, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "__call__", stop)
        count = 6 + 1 + 2
        with pytest.raises(Interrupted, match="stopped in stage 4-bisected"):
            run(settings)
        assert len(rows_of(tmp_path / "work", "4-bisected")) == 2
        count = None
        run(settings)
    twice = [each for each in scored if scored.count(each) > 1]
    assert set(twice) == {("4-bisected", 3)} and len(twice) == 2
    ours, theirs = (d / "results.json" for d in (tmp_path / "work", finished))
    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")
    for stage in ("4-bisected", "5-third"):
        assert_equal(kept(tmp_path / "work", stage)[1], kept(finished, stage)[1])


def test_a_finished_sweep_does_nothing(finished, task, monkeypatch):
    before = (finished / "results.json").read_text(encoding="utf-8")
    monkeypatch.setattr(Evaluator, "__call__", None)
    run(settings_of(finished, task))
    assert (finished / "results.json").read_text(encoding="utf-8") == before


def test_scores_that_are_gone_are_measured_again(finished, task):
    """Those behind the one that is kept, whose checkpoint stays."""
    path = finished / "results.json"
    before = path.read_text(encoding="utf-8")
    rows = [row for row in json.loads(before) if (row["stage"], row["step"]) != ("5-third", 2)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    run(settings_of(finished, task))
    assert path.read_text(encoding="utf-8") == before


def test_what_reads_checkpoints_reads_it(finished, task, tmp_path):
    facts = inspect(str(finished / "4-bisected"))
    assert facts["coefficient"] == kept(finished, "4-bisected")[2]["coefficient"]
    further = tiny_run.stage("more", "params", 1, task, evaluations=[], select=None)
    base = str(finished / "4-bisected")
    more = run(tiny_run.settings(str(tmp_path / "more"), task, stages=[further], base=base))
    with contextlib.closing(Checkpoints(more / "1-more" / "checkpoints")) as checkpoints:
        assert checkpoints.best() == 1


def test_a_stage_without_evaluations_transforms_alone(task, tmp_path):
    quiet = {"evaluations": [], "select": None}
    stages = [tiny_run.stage("model", "params", 1, task, **quiet)]
    after = [dataclasses.replace(back("back", task, reference="base"), **quiet)]
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=stages, after=after)
    workdir = run(settings)
    assert kept(workdir, "2-back")[2]["coefficient"] == 0.5
    assert not (workdir / "results.json").exists()
    assert run(settings) == workdir


SCORES = {1.0: 0.8, 0.0: 0.2}


@pytest.mark.parametrize(
    ("how", "scores", "then"),
    [
        ({"coefficients": (0.25, 0.75)}, {}, 0.25),
        ({"coefficients": (0.25, 0.75)}, {0.25: None}, 0.75),
        ({"coefficients": (0.25, 0.75)}, {0.25: 0.1, 0.75: 0.2}, None),
        ({"reach": 0.9}, {1.0: 0.8}, 0.0),
        ({"reach": 0.9}, SCORES, 0.5),
        ({"reach": 0.9}, SCORES | {0.5: 0.3}, 0.75),
        ({"reach": 0.9}, SCORES | {0.5: 0.72}, None),  # it is there
        ({"reach": 0.9}, SCORES | {0.5: 0.75}, 0.25),
        ({"reach": 0.9}, SCORES | {0.5: 0.3, 0.75: 0.78, 0.625: 0.5}, 0.6875),
        ({"reach": 0.9, "most": 1}, SCORES | {0.5: 0.3, 0.75: 0.6}, None),
        ({"reach": 0.9, "absolute": True}, SCORES | {0.5: 0.3}, None),  # never reached
        ({"reach": 0.1, "absolute": True}, SCORES | {0.5: 0.3}, None),  # by all of them
        ({"reach": 0.9}, SCORES | {0.5: None}, None),
    ],
)
def test_what_is_tried_next(how, scores, then):
    assert Transform(**how).next(scores) == then


def test_which_one_is_kept(task):
    means = {0.25: 0.5, 0.5: 0.7, 0.75: 0.7}
    sweep = Transform(coefficients=tuple(means))
    assert sweep.kept({}, means) == 0.5
    assert sweep.kept({}, means | {0.25: 0.8}) == 0.25
    assert dataclasses.replace(sweep, keep=0.75).kept({}, means) == 0.75
    bisected = Transform(reach=0.5, coefficients=(0.5, 0.25))
    assert bisected.kept(SCORES | {0.5: 0.7, 0.25: 0.3}, {}) == 0.25
    rows = [
        {"task": task, "shots": 0, "group": "target", "value": 0.5, "scale": 1},
        {"task": "a", "shots": 1, "group": "other", "value": 80, "scale": 100},
        {"task": "a", "shots": 1, "group": "other", "value": 0, "scale": 100},  # another metric
        {"task": "a", "shots": 4, "group": "other", "value": 1, "scale": 1},
    ]
    assert mean_score(back("x", task), rows) == pytest.approx((0.5 + 0.9) / 2)
    assert mean_score(back("x", task), rows[:1]) == 0.5
    assert mean_score(back("x", task), []) is None


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"coefficients": (0.5, 1.5)}, "coefficients: each = 1.5: set 0 to 1"),
        ({"coefficients": ()}, "give one or more"),
        ({"coefficients": (0.5, 0.5)}, "none twice"),
        ({"keep": 0.25}, "keep = 0.25 is none of coefficients"),
        ({"keep": 0.5, "reach": 0.9}, "set one of them"),
        ({"reach": 1.5}, "reach = 1.5: set a share"),
        ({"reference": "after"}, "set 'before' or 'base'"),
        ({"most": 0}, "most = 0: set 1 to 50"),
    ],
)
def test_settings_that_cannot_be(how, says):
    with pytest.raises(UserError, match=says):
        Transform(**how)


def test_stages_that_cannot_be(task, tmp_path):
    stage, trained = back("back", task), tiny_run.stage("model", "params", 1, task)
    with pytest.raises(UserError, match="has transform, and steps = 1"):
        dataclasses.replace(trained, transform=Transform())
    with pytest.raises(UserError, match="no evaluations to choose by"):
        several = Transform(coefficients=(0, 1))
        dataclasses.replace(stage, evaluations=[], select=None, transform=several)
    with pytest.raises(UserError, match="set select"):
        dataclasses.replace(stage, select=None, transform=Transform(reach=0.9))
    prompt = tiny_run.stage("prompt", "prompt", 1, task)
    with pytest.raises(UserError, match="no stage before it trains anything that this covers"):
        run(tiny_run.settings(str(tmp_path / "work"), task, stages=[prompt, stage]))
    assert not (tmp_path / "work").exists()

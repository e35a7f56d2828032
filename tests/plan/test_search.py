"""Settings that fit: which are tried, in which order, on what."""

import dataclasses

import pytest

from promot_jax.data import TrainData, byte
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluation
from promot_jax.models import T5Config
from promot_jax.plan import search as searching
from promot_jax.plan.chips import CHIPS
from promot_jax.plan.planning import Memory, Planned, RunPlan
from promot_jax.plan.search import search, with_settings
from promot_jax.plan.topology import Topology
from promot_jax.run import Run, Stage
from promot_jax.training import Part

CHIPS_ASKED = Topology("v5e:4x4", CHIPS["v5e"], 1, [None] * 16)
STEP, EVALUATION = ("1-model", "step"), ("1-model", "evaluation")
ASKED = Evaluation(["none"], batch_size=64)
STAGE = Stage("model", [Part("params")], TrainData("none", 32, 8), 10, evaluations=[ASKED])
MODEL = T5Config(384, 16, 2, 1, 1, 8, 32)
RUN = Run("planned", "finetune", MODEL, byte(), [STAGE], target="none")


def planned(step: bool, evaluation: bool) -> RunPlan:
    """A step and an evaluation, which fit or not."""
    programs = [
        Planned(*name, "", 1, Memory(0, 0, 0, 0, 0, 1 if fits else -1), None, None, None, 0)
        for name, fits in ((STEP, step), (EVALUATION, evaluation))
    ]
    return RunPlan("finetune", CHIPS_ASKED, {}, tuple(programs), ())


class Tried(list):
    """(remat, mesh, parts, rows at once) of what is planned; `fits` says which programs fit."""

    fits = None


@pytest.fixture
def tried(monkeypatch):
    calls = Tried()

    def plan(run, topology, rows, on_program, known):
        (stage,) = run.stages
        calls.append((run.model.remat, run.mesh, stage.accumulate, stage.evaluations[0].batch_size))
        return planned(*calls.fits(*calls[-1]))

    monkeypatch.setattr(searching, "plan", plan)
    return calls


def test_the_nearest_that_fits(tried):
    tried.fits = lambda remat, mesh, parts, rows: (remat and parts >= 4, rows <= 32 and mesh)
    found = search(RUN, CHIPS_ASKED, planned(False, False), None, {})
    settings = {"remat": True, "MESH": {"fsdp": -1}, "ACCUMULATE": 4, "EVAL_BATCH_SIZE": 32}
    assert found.settings == settings
    assert tried == [
        (True, None, 1, 64),
        (True, {"fsdp": -1}, 1, 64),
        (True, {"fsdp": -1}, 2, 64),
        (True, {"fsdp": -1}, 4, 64),
        (True, {"fsdp": -1}, 4, 32),
    ]


def test_what_fits_is_left_as_it_is(tried):
    """Remat and parts make no evaluation smaller."""
    run = dataclasses.replace(RUN, mesh={"fsdp": 2, "tensor": 2})
    tried.fits = lambda remat, mesh, parts, rows: (True, rows <= 16)
    found = search(with_settings(run, {"remat": True}), CHIPS_ASKED, planned(True, False), None, {})
    assert found.settings == {"EVAL_BATCH_SIZE": 16} and len(tried) == 2


def test_nothing_fits(tried):
    tried.fits = lambda *_: (False, False)
    assert search(RUN, CHIPS_ASKED, planned(False, False), None, {}) is None
    assert tried[-1] == (True, {"fsdp": -1, "tensor": 4}, 16, 4)


def test_what_a_model_cannot_have_is_passed_over(tried):
    def fits(remat, mesh, parts, rows):
        if mesh == {"fsdp": -1}:
            raise UserError("emb_dim")
        return parts >= 2, True

    tried.fits = fits
    found = search(RUN, CHIPS_ASKED, planned(False, True), None, {})
    assert found.settings == {"remat": True, "ACCUMULATE": 2}

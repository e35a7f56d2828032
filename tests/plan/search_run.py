"""Searches settings that fit chips with little memory, 8 CPU devices: prints what is found as JSON.

Started by `test_search.py`, since the number of devices is fixed when JAX starts.
"""

import dataclasses
import json

import jax

from promot_jax.data import TrainData, byte
from promot_jax.evaluation import Evaluation
from promot_jax.models import Decoding, T5Config
from promot_jax.plan.chips import CHIPS
from promot_jax.plan.planning import RunPlan, plan
from promot_jax.plan.rows import Rows
from promot_jax.plan.search import search, with_settings
from promot_jax.plan.topology import Topology
from promot_jax.run import Run, Stage
from promot_jax.training import Part, adamw

KNOWN: dict = {}  # compiled programs


def settings(steps: bool, emb_dim: int = 32) -> Run:
    """A stage that only trains, or only evaluates a task that need not exist."""
    model = T5Config(384, emb_dim, 4, 1, 1, 8, 64)
    data = TrainData("none", 128, 32, batch_size=16)
    asked = Evaluation(["none"], batch_size=32, limit=64, input_length=64, decoding=Decoding(4))
    if steps:
        stage = Stage("model", [Part("params", 1e-3, adamw)], data, 2)
    else:
        stage = Stage("model", evaluations=[asked])
    return Run("planned", "finetune", model, byte(), [stage], target="none")


def chips(memory: float) -> Topology:
    chip = dataclasses.replace(CHIPS["h100"], memory=memory)
    return Topology("cpu:8", chip, 1, jax.devices())


def planned(run: Run, topology: Topology) -> RunPlan:
    return plan(run, topology, Rows(), lambda program: None, KNOWN)


def used(run: Run, **changes) -> dict[str, float]:
    """program -> bytes a chip."""
    found = planned(with_settings(run, changes), chips(0))
    return {each.name: -each.memory.free for each in found.programs}


def searched(run: Run, memory: float) -> dict:
    """What is found, whether it fits, and whether it does without the last of its settings."""
    topology, tried = chips(memory), []
    first = planned(run, topology)
    found = search(run, topology, first, tried.append, KNOWN)
    if found is None:
        return {"first": first.fits, "settings": None}
    but_one = dict(list(found.settings.items())[:-1])
    return {
        "first": first.fits,
        "settings": found.settings,
        "fits": planned(with_settings(run, found.settings), topology).fits,
        "plan": found.plan.fits,
        "without_the_last": planned(with_settings(run, but_one), topology).fits,
    }


def main() -> None:
    steps, answers = settings(True), settings(False)
    odd = with_settings(settings(True, emb_dim=36), {"remat": True})
    mesh = {"MESH": {"fsdp": -1}}
    found = {
        "step": searched(steps, used(steps, remat=True, ACCUMULATE=2, **mesh)["step"]),
        "mesh": searched(steps, used(steps, remat=True, **mesh)["step"]),
        "evaluation": searched(answers, used(answers, EVAL_BATCH_SIZE=16, **mesh)["evaluation"]),
        "uneven": searched(odd, used(odd, ACCUMULATE=2)["step"]),
        "nothing": searched(steps, 1000.0),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

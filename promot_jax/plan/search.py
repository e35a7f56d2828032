"""Settings that fit, where those that were given do not: found by trying, nearest first.

Tried are settings that change no result but by rounding: activations that are computed again
(`remat`), a mesh that cuts the model, batches in parts (ACCUMULATE), fewer rows at once in
evaluations (EVAL_BATCH_SIZE). Each is added to those before, where it can help what does not fit,
until everything does. Parameters that are frozen in bfloat16 are none of them: `param_dtype` is of
all parameters, and would train the others in bfloat16 too.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from promot_jax.errors import UserError
from promot_jax.plan.planning import Compiled, OnProgram, RunPlan, plan
from promot_jax.plan.rows import Rows
from promot_jax.plan.topology import Topology
from promot_jax.run.stage import Run

FSDP, FSDP_TENSOR = {"fsdp": -1}, {"fsdp": -1, "tensor": 4}
PARTS = (2, 4, 8, 16)  # of a batch, one after the other
ROWS = (32, 16, 8, 4)  # of an evaluation at once
Settings = Mapping[str, Any]
# The program that a setting makes smaller; None: all.
HELPS = {"remat": "step", "ACCUMULATE": "step", "EVAL_BATCH_SIZE": "evaluation", "MESH": None}


@dataclasses.dataclass(frozen=True)
class Instead:
    """Settings that fit: their names ("remat" is MODEL's) and values, and the plan with them."""

    settings: Settings
    plan: RunPlan


def search(
    run: Run,
    topology: Topology,
    found: RunPlan,
    on_program: OnProgram,
    known: dict[Any, Compiled],
) -> Instead | None:
    """The first settings that fit; None where none of them do.

    Args:
      run: what does not fit.
      topology: the chips.
      found: its plan.
      on_program: called before each compilation.
      known: what has been compiled, as of `plan`.
    """
    changed: dict[str, Any] = {}
    short = {each.name for each in found.programs if not each.fits}
    for name, value in _tries(run, len(topology.devices)):
        if HELPS[name] and HELPS[name] not in short:
            continue
        try:
            new = with_settings(run, changed | {name: value})
            planned = plan(new, topology, Rows(), on_program, known)
        except UserError:  # a mesh, or parts, that this model or batch cannot have
            continue
        changed[name] = value
        short = {each.name for each in planned.programs if not each.fits}
        if not short:
            return Instead(changed, planned)
    return None


def _tries(run: Run, chips: int) -> Iterator[tuple[str, Any]]:
    """Names and values to try in turn."""
    mesh = dict(run.mesh or {})
    whole = mesh.get("fsdp", 1) == mesh.get("tensor", 1) == 1
    if not run.model.remat:
        yield "remat", True
    if whole and chips > 1:
        yield "MESH", FSDP
    begun = max(stage.accumulate for stage in run.stages)
    yield from (("ACCUMULATE", parts) for parts in PARTS if parts > begun)
    yield from (("EVAL_BATCH_SIZE", rows) for rows in ROWS)
    if mesh.get("tensor", 1) == 1 and chips > 4:
        yield "MESH", FSDP_TENSOR


def with_settings(run: Run, settings: Settings) -> Run:
    """A run with some of the settings above."""
    if "remat" in settings:
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, remat=True))
    if "MESH" in settings:
        run = dataclasses.replace(run, mesh=settings["MESH"])
    stages = run.stages
    if parts := settings.get("ACCUMULATE"):
        stages = [dataclasses.replace(stage, accumulate=parts) for stage in stages]
    if rows := settings.get("EVAL_BATCH_SIZE"):
        stages = [
            dataclasses.replace(
                stage,
                evaluations=[dataclasses.replace(x, batch_size=rows) for x in stage.evaluations],
            )
            for stage in stages
        ]
    return dataclasses.replace(run, stages=stages)

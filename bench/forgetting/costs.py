"""What each method's training costs, in units of plain fine-tuning's.

    python -m bench.forgetting.costs          writes bench/forgetting/costs.json, minutes

Every training step of a method's first run is compiled as the run would compile it, and called some
times on zeros. FLOPs are XLA's count; memory is what the program holds at once, arguments and
temporary arrays; seconds are those of the fastest call. A stage one, and the stage that a method
starts from, count with it. What is made beside the updates does not: the rows that a model writes
for self-replay, EWC's Fisher information, evaluations.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.stages import Compiled

from bench.forgetting.plan import Run, runs_of
from bench.forgetting.table import METHODS, PAIRS, TARGETS
from promot_jax.cli import settings
from promot_jax.console import say
from promot_jax.plan.programs import steps
from promot_jax.run.prepare import frame
from promot_jax.training import make_mesh, use

FILE = Path("bench/forgetting/costs.json")
NOWHERE = Path("runs/forgetting")
CALLS = 10
Cost = dict[str, float]  # flops and seconds of all updates, bytes of the largest step


def costs(run: Run) -> Iterator[tuple[str, Cost]]:
    """Each training stage of a run, and what it costs with those before it."""
    settings.parse(run.files, run.all_bindings(NOWHERE))
    framed = frame(settings.build("Run"), make_mesh(None))
    total = {"flops": 0.0, "seconds": 0.0, "bytes": 0.0}
    for index, stage in enumerate(framed.run.stages):
        for program in steps(framed, index):
            with use(framed.layout.mesh):
                compiled = program.lower().compile()
                seconds = fastest(compiled)
            memory = compiled.memory_analysis()
            held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            total["flops"] += program.times * compiled.cost_analysis()["flops"]
            total["seconds"] += program.times * seconds
            total["bytes"] = max(total["bytes"], held)
        if stage.steps:
            yield stage.name, dict(total)


def fastest(compiled: Compiled) -> float:
    """Seconds of the fastest of several calls on zeros."""

    def zeros(about) -> jax.Array:
        if jax.dtypes.issubdtype(about.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(about.shape, about.dtype)

    found = []
    for _ in range(CALLS):
        arguments = jax.block_until_ready(jax.tree.map(zeros, compiled.args_info[0]))
        begun = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        found.append(time.perf_counter() - begun)
    return min(found)


def every() -> Iterator[tuple[str, Cost]]:
    """Each method that trains, and its cost with what it starts from; so each stage of it that
    counts for another one."""
    known: dict[str, Cost] = {}
    for method in METHODS:
        if method.recipe == "evaluate" or method.then is not None:
            continue
        run = next(runs_of(method, TARGETS[0], *PAIRS[method.tier][TARGETS[0]][0]))
        of = dict(costs(run))
        names = {name: of[stage] for stage, name in method.sweeps.items() if stage in of}
        for name, found in (names | {method.name: list(of.values())[-1]}).items():
            before = known.get(method.after, {"flops": 0.0, "seconds": 0.0, "bytes": 0.0})
            known[name] = {
                "flops": found["flops"] + before["flops"],
                "seconds": found["seconds"] + before["seconds"],
                "bytes": max(found["bytes"], before["bytes"]),
            }
            say(f"{name}: {known[name]}")
            yield name, known[name]


def read() -> dict[str, Cost]:
    """What was written; nothing where there is no file."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


if __name__ == "__main__":
    FILE.write_text(json.dumps(dict(every()), indent=1) + "\n", encoding="utf-8")

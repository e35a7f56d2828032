"""What each method's training costs, in units of plain fine-tuning's: counted, not timed.

    python -m bench.forgetting.costs          writes bench/forgetting/costs.json, minutes

Every training step of a method's first run is compiled as the run would compile it. FLOPs are XLA's
count; memory is what the program holds at once, arguments and temporary arrays. A stage one, and
the stage that a method starts from, count with it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from bench.forgetting.plan import Run, runs_of
from bench.forgetting.table import METHODS, PAIRS, TARGETS
from promot_jax.cli import settings
from promot_jax.console import say
from promot_jax.plan.programs import steps
from promot_jax.run.prepare import frame
from promot_jax.training import make_mesh

FILE = Path("bench/forgetting/costs.json")
NOWHERE = Path("runs/forgetting")


def cost(run: Run) -> dict[str, float]:
    """FLOPs of all of a run's updates, and the bytes that the largest step holds."""
    settings.parse(run.files, run.all_bindings(NOWHERE))
    framed = frame(settings.build("Run"), make_mesh(None))
    flops, most = 0.0, 0.0
    for index in range(len(framed.run.stages)):
        for program in steps(framed, index):
            compiled = program.lower().compile()
            memory = compiled.memory_analysis()
            held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            flops += program.times * compiled.cost_analysis()["flops"]
            most = max(most, held)
    return {"flops": flops, "bytes": most}


def every() -> Iterator[tuple[str, dict[str, float]]]:
    """Each method that trains, and its cost with what it starts from."""
    known: dict[str, dict[str, float]] = {}
    for method in METHODS:
        if method.recipe == "evaluate" or method.then is not None:
            continue
        run = next(runs_of(method, TARGETS[0], *PAIRS[method.tier][0]))
        found = cost(run)
        if method.after is not None:
            before = known[method.after]
            found = {"flops": found["flops"] + before["flops"],
                     "bytes": max(found["bytes"], before["bytes"])}  # fmt: skip
        known[method.name] = found
        say(f"{method.name}: {found['flops'] / 1e12:.3f} TFLOP, {found['bytes'] / 1e6:.1f} MB")
        yield method.name, found


def read() -> dict[str, dict[str, float]]:
    """What was written; nothing where there is no file."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


if __name__ == "__main__":
    FILE.write_text(json.dumps(dict(every()), indent=1) + "\n", encoding="utf-8")

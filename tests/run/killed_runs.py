"""Runs that are killed, and what they must have in common with one that is left alone."""

import json
import time
from pathlib import Path

import numpy as np

from promot_jax.training import Checkpoints

STEPS = 16
STAGES = ("1-prompt", "2-model")
PATIENCE = 240  # seconds, far more than a run takes


def lines(workdir: Path) -> int:
    """Steps logged so far, over both stages."""
    files = [workdir / stage / "metrics.jsonl" for stage in STAGES]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def wait_for(process, workdir: Path, count: int) -> None:
    """Until so many steps are logged, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while process.is_alive() and lines(workdir) < count:
        assert time.monotonic() < end, f"{workdir}: only {lines(workdir)} of {count} steps"
        time.sleep(0.01)


def finish(start, workdir: Path, kind: str, **changes) -> None:
    process = start(workdir, steps=STEPS, log_every=1, kind=kind, **changes)
    process.join(PATIENCE)
    assert process.exitcode == 0


def final(workdir: Path, steps: int) -> dict[str, np.ndarray]:
    """Every array of both stages' last checkpoints; of the optimizers' the sum of its bits."""
    arrays = {}
    for stage in STAGES:
        checkpoints = Checkpoints(workdir / stage / "checkpoints", read_only=True)
        step = checkpoints.latest()
        assert step == steps
        variables = checkpoints.variables(step, checkpoints.shapes(step))
        arrays |= {f"{stage} {path}": np.asarray(x) for path, x in variables.items()}
        arrays |= {
            f"{stage} {path}": entry for path, entry in checkpoints.note(step)["state"].items()
        }
    return arrays


def assert_same(workdir: Path, undisturbed: Path, steps: int = STEPS) -> None:
    ours, theirs = final(workdir, steps), final(undisturbed, steps)
    assert ours.keys() == theirs.keys()
    different = [path for path in ours if not np.array_equal(ours[path], theirs[path])]
    assert not different
    assert (workdir / "results.json").read_text(encoding="utf-8") == (
        undisturbed / "results.json"
    ).read_text(encoding="utf-8")
    for stage in STAGES:
        ours, theirs = (
            [
                json.loads(line)
                for line in (d / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            ]
            for d in (workdir, undisturbed)
        )
        assert [(r["step"], r["loss"]) for r in ours] == [(r["step"], r["loss"]) for r in theirs]

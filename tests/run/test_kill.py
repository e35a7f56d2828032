"""A run that is killed at random moments and started again ends bit by bit like one left alone."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from promot_jax.training import Checkpoints

STEPS = 16
LATEST = 2 * STEPS - 6  # later on a run may be over before it is killed
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


@pytest.fixture(scope="session")
def undisturbed(start, kind, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "work"
    finish(start, workdir, kind)
    return workdir


PARTS = [(tiny_run.T5, 0), (tiny_run.DECODER, 1)]


# Five moments in either stage: after a random number of logged steps, and a random while later,
# which mostly lies in an evaluation or while a checkpoint is being written.
@pytest.mark.parametrize(("kind", "part"), PARTS, indirect=["kind"])
def test_kill_9_loses_nothing(start, undisturbed, kind, tmp_path, part):
    rng = random.Random(part)
    moments = sorted(
        rng.sample(range(1, STEPS), 3 - part) + rng.sample(range(STEPS + 1, LATEST), 2 + part)
    )
    killed = 0
    for moment in moments:
        process = start(tmp_path / "work", steps=STEPS, log_every=1, kind=kind)
        wait_for(process, tmp_path / "work", moment)
        time.sleep(rng.uniform(0, 0.4))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
    finish(start, tmp_path / "work", kind)
    assert killed == len(moments)
    assert_same(tmp_path / "work", undisturbed)


def test_sigterm_saves_and_leaves_cleanly(start, undisturbed, kind, tmp_path):
    """In either stage; what is left is complete, and the next start ends bit-identical."""
    workdir = tmp_path / "work"
    for moment in (2, STEPS + 6):
        process = start(workdir, steps=STEPS, log_every=1)
        wait_for(process, workdir, moment)
        process.terminate()
        process.join(PATIENCE)
        assert process.exitcode == 0
        stage = STAGES[moment > STEPS]
        latest = Checkpoints(workdir / stage / "checkpoints", read_only=True).latest()
        assert latest is not None and latest >= moment % STEPS
    finish(start, workdir, kind)
    assert_same(workdir, undisturbed)

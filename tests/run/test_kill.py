"""A run that is killed at random moments and started again ends bit by bit like one left alone."""

import random
import time

import pytest
import tiny_run
from killed_runs import PATIENCE, STAGES, STEPS, assert_same, finish, wait_for

from promot_jax.training import Checkpoints

LATEST = 2 * STEPS - 6  # later on a run may be over before it is killed
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

"""A run in a bucket that is killed, or whose bucket fails, ends bit by bit like one on a disk.

It is killed by the bucket itself, at random requests that write: before or after these are done.
"""

import random

import pytest
from bucket_server import Killer
from killed_runs import PATIENCE, STAGES, STEPS, assert_same, finish

from promot_jax.paths import as_path
from promot_jax.training.checkpoints import COMMITTED, steps_in


@pytest.fixture
def workdir(bucket):
    return as_path(bucket[1]) / "work"


def test_kill_9_loses_nothing(start, undisturbed, bucket, workdir, tmp_path):
    """Once in either stage; then one request in a hundred fails, until it is done.

    `python -m bench.bucket` kills more often, and the command line.
    """
    rng, bad = random.Random(3), [503, 429, "drop", "lose"]
    for stage in STAGES:
        killer = bucket[0].fault = Killer(stage, rng.randrange(5, 80), rng.random() < 0.5)
        killer.process = start(workdir, rows=str(tmp_path), steps=STEPS, log_every=1)
        killer.process.join(PATIENCE)
        assert killer.left <= 0 and killer.process.exitcode == -9
    bucket[0].fault = lambda method, name: rng.choice(bad) if rng.random() < 0.01 else None
    finish(start, workdir, "encoder_decoder", rows=str(tmp_path))
    bucket[0].fault = lambda method, name: None
    assert_same(workdir, undisturbed)
    assert not (workdir / "claim.json").exists()


def test_what_was_not_finished_is_no_checkpoint(bucket, workdir):
    checkpoints = workdir / "checkpoints"
    for name in (f"4/{COMMITTED}", "4/note/metadata", "8/note/metadata", f"08/{COMMITTED}"):
        (checkpoints / name).write_bytes(b"")
    assert steps_in(checkpoints) == [4]

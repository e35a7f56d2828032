"""A run in a bucket that is killed, or whose bucket fails, ends bit by bit like one on a disk.

It is killed by the bucket itself, at random requests that write: before or after these are done.
"""

import random

import pytest
from bucket_server import Killer
from test_kill import PATIENCE, STAGES, STEPS, assert_same, finish, undisturbed  # noqa: F401

from promot_jax.paths import as_path
from promot_jax.training.checkpoints import COMMITTED, steps_in


@pytest.fixture
def workdir(bucket):
    return as_path(bucket[1]) / "work"


def test_kill_9_loses_nothing(start, undisturbed, bucket, workdir, tmp_path):  # noqa: F811
    """Once in either stage; `python -m bench.bucket` does more, with the command line."""
    rng = random.Random(3)
    for stage in STAGES:
        killer = bucket[0].fault = Killer(stage, rng.randrange(5, 80), rng.random() < 0.5)
        killer.process = start(workdir, rows=str(tmp_path), steps=STEPS, log_every=1)
        killer.process.join(PATIENCE)
        assert killer.left <= 0 and killer.process.exitcode == -9
    bucket[0].fault = lambda method, name: None
    finish(start, workdir, "encoder_decoder", rows=str(tmp_path))
    assert_same(workdir, undisturbed)
    assert not (workdir / "claim.json").exists()


def test_a_bucket_that_fails_now_and_then(start, undisturbed, bucket, workdir, tmp_path):  # noqa: F811
    rng = random.Random(0)
    bad = [503, 429, "drop", "lose", None]
    bucket[0].fault = lambda method, name: rng.choice(bad) if rng.random() < 0.01 else None
    finish(start, workdir, "encoder_decoder", rows=str(tmp_path))
    assert_same(workdir, undisturbed)


def test_what_was_not_finished_is_no_checkpoint(bucket, workdir):
    checkpoints = workdir / "checkpoints"
    for name in (f"4/{COMMITTED}", "4/note/metadata", "8/note/metadata", f"08/{COMMITTED}"):
        (checkpoints / name).write_bytes(b"")
    assert steps_in(checkpoints) == [4]

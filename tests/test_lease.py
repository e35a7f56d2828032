"""Of two processes that want something in a bucket one has it, and a dead one does not."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from promot_jax import lease
from promot_jax.errors import UserError
from promot_jax.lease import Lease
from promot_jax.paths import as_path


@pytest.fixture
def path(bucket, monkeypatch):
    monkeypatch.setattr(lease, "EVERY", 0.05)
    monkeypatch.setattr(lease, "LOOK", 0.01)
    monkeypatch.setattr(lease, "PATIENCE", 0.4)
    return as_path(bucket[1]) / "claim.json"


def left_by(path, **changes):
    """What a holder has left there who renews nothing."""
    path.write_bytes(json.dumps(lease._this_process() | changes).encode())


def test_one_has_it(path):
    with Lease(path, "WORKDIR = 'x'"):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
        with pytest.raises(UserError, match="WORKDIR = 'x' is in use by another process"):
            Lease(path, "WORKDIR = 'x'").__enter__()
        time.sleep(0.2)
        assert json.loads(path.read_bytes())["renewals"] > 2
    assert not path.exists()
    with Lease(path, "x"):
        pass


def test_the_dead_of_this_machine_do_not_have_it(path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for gone in ({"pid": dead.pid}, {"started": "1"}):  # a number is given again
        left_by(path, **gone)
        begun = time.monotonic()
        with Lease(path, "x"):
            assert time.monotonic() - begun < lease.PATIENCE


def test_those_of_other_machines_have_it_while_they_renew_it(path, capfd):
    left_by(path, boot="another")
    begun = time.monotonic()
    with Lease(path, "WORKDIR"):
        assert time.monotonic() - begun >= lease.PATIENCE
    assert "WORKDIR is claimed by" in capfd.readouterr().err


def test_one_of_another_machine_that_lives(path, monkeypatch):
    monkeypatch.setattr(lease, "SAME", ("token",))  # so that it is not seen
    with Lease(path, "x"), pytest.raises(UserError, match="in use"):
        Lease(path, "x").__enter__()


def test_one_that_is_given_back_meanwhile(path, monkeypatch):
    left_by(path, boot="another")
    monkeypatch.setattr(lease, "say", lambda line: path.unlink())
    begun = time.monotonic()
    with Lease(path, "x"):
        assert time.monotonic() - begun < lease.PATIENCE


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"pid": "x"}'])
def test_what_nobody_can_read_runs_out(path, content):
    path.write_bytes(content)
    with Lease(path, "x"):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()


def test_an_answer_that_was_lost(path, bucket):
    """The write was done, and is tried again on what it has written itself."""
    answers = iter([None, "lose"])
    bucket[0].fault = lambda method, name: next(answers, None)
    with Lease(path, "x"):
        bucket[0].fault = lambda method, name: "lose" if method == "POST" and lost.pop() else None
        lost = [False] * 100 + [True]
        time.sleep(0.3)
        assert json.loads(path.read_bytes())["pid"] == os.getpid()


def holding(url):
    lease.EVERY = 0.05
    with Lease(as_path(url), "WORKDIR"):
        time.sleep(60)


def test_who_has_lost_it_ends(path, capfd):
    """It was asleep, or cut off; another has it now, and what both write would be neither's."""
    process = multiprocessing.get_context("spawn").Process(target=holding, args=(str(path),))
    process.start()
    while not path.exists():
        time.sleep(0.05)
    left_by(path)
    process.join(30)
    assert process.exitcode == 1
    assert "WORKDIR was taken over by another process" in capfd.readouterr().err
    assert json.loads(path.read_bytes())["pid"] == os.getpid()

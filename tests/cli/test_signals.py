"""Ctrl-C and SIGTERM at any moment: the process ends in seconds, and says so in one line."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from command_lines import SMALL, flags, own_task

PATIENCE = 120  # seconds, far more than any of this takes
SCRIPT = [sys.executable, "-m", "promot_jax.cli.script"]  # what `promot` calls
VERBS = {
    "run": [
        "run", "--gin_file=gin/recipes/promot.gin", "--gin_file=gin/models/lab.gin",
        *own_task("mine.tsv", "mine"), *flags(WORKDIR="out", **SMALL | {"PROMPT_STEPS": 10**5}),
    ],
    "eval": ["eval", "promot_jax/assets/lab/base", "--gin_file=gin/runs/lab.gin"],
    "infer": ["infer", "promot_jax/assets/lab/base", "--input=mine.txt", "--output=out.jsonl"],
}  # fmt: skip


@pytest.fixture
def begin(environment, rows, tmp_path):
    """The arguments of a verb -> its process."""
    (tmp_path / "mine.tsv").write_text(rows, encoding="utf-8")
    (tmp_path / "mine.txt").write_text("what?\n" * 10**5, encoding="utf-8")
    begun = []

    def start(arguments):
        begun.append(
            subprocess.Popen(
                [*SCRIPT, *arguments], cwd=tmp_path, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        return begun[-1]

    yield start
    for process in begun:
        process.kill()


# Python itself takes the first hundredths of a second; after a restart the rest begins again.
@pytest.mark.parametrize(
    ("verb", "number", "after"),
    [
        ("run", signal.SIGINT, 0.15),
        ("run", signal.SIGINT, 0.3),
        ("run", signal.SIGINT, 0.45),
        ("run", signal.SIGTERM, 0.25),
        ("run", signal.SIGINT, 2.5),
        ("infer", signal.SIGINT, 1),
        ("infer", signal.SIGTERM, 5),
        ("eval", signal.SIGINT, 4),
    ],
)
def test_in_the_first_seconds(begin, tmp_path, verb, number, after):
    process = begin(VERBS[verb])
    time.sleep(after)
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - sent < 20
    said = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, out) == (128 + number, ""), err
    assert err.splitlines()[-1] == f"promot {verb}: {said}" and "Traceback" not in err, err


def test_a_stage_at_work_saves(begin, tmp_path):
    """How it goes on is in tests/run/test_kill.py."""
    process, stage = begin(VERBS["run"]), tmp_path / "out/1-prompt"
    metrics, end = stage / "metrics.jsonl", time.monotonic() + PATIENCE
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    # "at step n" while it trains, without it in an evaluation
    said = r"promot: stopped (at step \d+ of|in) stage 1-prompt: run the same command to go on"
    assert re.fullmatch(said, err.splitlines()[-1]), err
    assert any(path.name.isdecimal() for path in (stage / "checkpoints").iterdir())


HELD = """
import ctypes, signal, sys
from promot_jax.process import answer_signals, patient
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
answer_signals()
with patient():
    print("held", flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    for _ in range(100):
        ctypes.CDLL(None).usleep(10**6)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "usleep"), reason="no usleep")
def test_a_second_ctrl_c_ends_what_does_not_listen():
    """C++ that compiles for minutes; the first one is left to who saves."""
    ignoring = HELD.replace(
        "with patient():", "signal.signal(signal.SIGINT, print)\nwith patient():"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and err == "promot: interrupted\n"


def test_an_import_that_is_interrupted_leaves_nothing(begin, promot, trained, tmp_path):
    done = promot(["export", trained[0] / "out", tmp_path / "hf"], tmp_path)
    assert done.code == 0, done.err
    process = begin(["import", "hf", "made/work"])
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "made").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    if process.returncode:  # else it was done before
        assert process.returncode == 130 and err.splitlines()[-1] == "promot import: interrupted"
        assert promot(["import", "hf", "made/work"], tmp_path).code == 0

"""What an evaluation shows while it runs: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from promot_jax.run import progress
from promot_jax.run.progress import Progress

NAME = "2-model: evaluating at step [8]"
SHOWN = f"""
import time
from promot_jax.run.progress import Progress
bar = Progress({NAME!r}, 16)
for task, shots in (("xsum", 0), ("ti[ny]", 1)):
    bar(task, shots, 8)
    time.sleep(0.5)  # a bar is drawn ten times a second
bar.close()
"""


def test_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    shown = Progress(NAME, 24)
    shown("xsum", 4, 8)
    shown("ti[ny]", 1, 8)
    shown.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{NAME} 8/24 rows (xsum, 4 shots), 0 s left"
    assert second == f"{NAME} 16/24 rows (ti[ny], 1 shot), 0 s left"


def test_a_short_one_says_nothing(capsys):
    shown = Progress(NAME, 8)
    shown("xsum", 4, 8)
    shown.close()
    assert capsys.readouterr().err == ""


def test_after_each_batch_the_run_may_stop():
    def stop():
        raise KeyboardInterrupt

    shown = Progress(NAME, 8, stop)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(shown):
        shown("xsum", 4, 8)


def test_a_bar_on_a_terminal():
    ours, theirs = pty.openpty()
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", SHOWN], stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how a pty ends
        while chunk := os.read(ours, 4096):
            seen += chunk
    os.close(ours)
    assert process.wait() == 0
    text = seen.decode()
    for said in (NAME, "8/16", "xsum, 0 shots", "16/16", "ti[ny], 1 shot"):
        assert said in text, text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (200, "3 min"), (9000, "2.5 h")]
)
def test_durations_as_people_say_them(seconds, text):
    assert progress._duration(seconds) == text

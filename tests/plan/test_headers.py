"""What gin files say of hardware: chips that exist, and what a plan says of them."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.plans import LINE, command
from promot_jax.plan.chips import CHIPS

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for path in sorted((ROOT / "gin").glob("*/*.gin"))
    if "\n# Hardware:" in path.read_text(encoding="utf-8")
]
NUMBERS = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
NO_LIBTPU = "libtpu, which compiles for TPUs, is not installed: pip install 'promot_jax[plan]'"


def test_there_are_some():
    names = {path.name for path in FILES}
    assert names >= {path.name for path in (ROOT / "gin/runs").glob("paper_*.gin")}
    assert names >= {"lab.gin", "t5_1_1_small.gin"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_chips_exist(path):
    text = path.read_text(encoding="utf-8")
    _, name = LINE.search(text).groups()
    kind, shape = name.split(":")
    assert CHIPS[kind].has(shape)
    assert command(path.relative_to(ROOT), text)[0] == "run"


@pytest.mark.skipif(
    not (importlib.util.find_spec("libtpu") or os.environ.get("TPU_LIBRARY_PATH")), reason=NO_LIBTPU
)
def test_a_plan_says_the_same():
    """Of the lab, the smallest; another libtpu may need somewhat more or less."""
    path = ROOT / "gin/runs/lab.gin"
    done = subprocess.run(
        [sys.executable, "-m", "bench.plans", str(path.relative_to(ROOT))],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said, planned = LINE.search(path.read_text(encoding="utf-8"))[0], done.stdout.splitlines()[0]
    assert NUMBERS.sub("", said) == NUMBERS.sub("", planned)
    ours, theirs = (list(map(float, NUMBERS.findall(line))) for line in (said, planned))
    assert ours == pytest.approx(theirs, rel=0.1)

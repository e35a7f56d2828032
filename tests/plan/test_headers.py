"""What gin files say of hardware: chips that exist. `tests/cli/test_plan_command.py` plans one."""

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


def test_there_are_some():
    names = {path.name for path in FILES}
    assert names >= {path.name for path in (ROOT / "gin/runs").glob("paper_*.gin")}
    assert "lab.gin" in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_chips_exist(path):
    text = path.read_text(encoding="utf-8")
    _, name = LINE.search(text).groups()
    kind, shape = name.split(":")
    assert CHIPS[kind].has(shape)
    assert command(path.relative_to(ROOT), text)[0] == "run"

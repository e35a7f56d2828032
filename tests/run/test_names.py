"""A work directory, and that of a base, may have any name that a directory can have."""

import pytest
import tiny_run

from promot_jax.errors import UserError
from promot_jax.run import LanguageModel, run
from promot_jax.training import adamw

NAMES = [
    "lr[1e-3]",
    "[!a]*b?c** {x,y}  (d) ~e~",
    '-f "g" it\'s `h` $HOME #1 100% a%20b i&j;k|<l>@m^n=!+',
    "new\nline\r\t\x01\x7f",
    "ünï→🙂e\u0301 file:",
]


def settings(workdir, task, steps=1, **changes):
    stage = tiny_run.stage(
        "short", "prompt", steps, task, optimizer=adamw, evaluations=[], select=None
    )
    return tiny_run.settings(str(workdir), task, stages=[stage], **changes)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(task, tmp_path, name):
    """Run, gone on with, loaded, and started from."""
    root = run(settings(tmp_path / name, task, 1))
    assert run(settings(root, task, 1)) == root
    assert LanguageModel(str(root), {"data": 1}).prompts == ("target",)
    assert run(settings(tmp_path / "below" / name, task, 1, base=str(root))).is_dir()
    assert {x.name for x in tmp_path.iterdir()} == {name, "below"}  # nothing went elsewhere


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("back\\slash", "has a backslash"),
        ("gs:", "has a directory whose name ends with 'gs:'"),
        ("\udcff", "is no UTF-8"),
        ("/".join(["long" * 50] * 18), "3500 bytes"),
    ],
)
def test_what_would_not_do_is_refused(task, tmp_path, name, problem):
    with pytest.raises(UserError, match=f"^WORKDIR = .*its path.* {problem}.*choose another"):
        run(settings(tmp_path / name, task))
    assert not list(tmp_path.iterdir())


def test_a_base_that_would_not_do_is_refused(task, served, tmp_path):
    moved = served.rename(served.parent / "back\\slash")
    try:
        with pytest.raises(UserError, match="has a backslash"):
            run(settings(tmp_path / "work", task, base=str(moved)))
    finally:
        moved.rename(served)

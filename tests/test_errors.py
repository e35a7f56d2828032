"""The one rule for paths and near matches, as every command line message uses them."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import promot_jax
from promot_jax.errors import UserError, near, shortage
from promot_jax.paths import absolute, resolve

NAMES = ["prompt_tuning", "finetune", "promot", "promot_joint"]


def test_user_error_is_a_value_error():
    with pytest.raises(ValueError, match="^steps = 0: set at least 1$"):
        raise UserError("steps = 0: set at least 1")


def test_near_names_the_closest_first():
    assert near("promt", NAMES).startswith(" (did you mean 'promot'")
    assert near("promot_join", NAMES).startswith(" (did you mean 'promot_joint'")


def test_near_says_nothing_where_nothing_resembles():
    assert near("zzz", NAMES) == ""
    assert near("promot", []) == ""


@given(st.text(), st.lists(st.text(), max_size=5))
def test_near_offers_only_candidates(name, candidates):
    offered = near(name, candidates)
    assert offered == "" or any(repr(c) in offered for c in candidates)


@pytest.mark.parametrize("url", ["gs://bucket/model", "https://example.com/a.gin"])
def test_urls_pass_through(url):
    assert resolve(url) == url


def test_a_path_here_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.py").write_text("mine", encoding="utf-8")
    assert resolve("setup.py") == "setup.py"


def test_what_is_installed_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = Path(promot_jax.__file__).parent
    assert os.path.samefile(resolve("promot_jax/errors.py"), package / "errors.py")
    assert Path(resolve("gin/models/t5_1_1_small.gin")).is_file()


def test_only_what_is_installed_is(tmp_path, monkeypatch):
    """Somebody's "runs/demo" means the one here, not one beside the package."""
    monkeypatch.chdir(tmp_path)
    assert resolve("README.md") == "README.md" and resolve("errors.py") == "errors.py"


def test_an_absolute_path_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(promot_jax.__file__).parents[1])
    for path in ("promot_jax/errors.py", "README.md", "nowhere"):
        found = absolute(path)
        monkeypatch.chdir(tmp_path)
        assert Path(resolve(found)).exists() == (path != "nowhere")
        monkeypatch.undo()
        monkeypatch.chdir(Path(promot_jax.__file__).parents[1])
    assert absolute("promot_jax/errors.py") == "promot_jax/errors.py"  # wherever it is installed


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "BATCH_SIZE"),
        (ValueError('RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database'), "make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (ValueError("a damaged file"), None),
    ],
)
def test_shortage(error, says):
    """However deep: Orbax and JAX raise errors of errors."""
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("something failed") from inner
    except ValueError as outer:
        found = shortage(outer)
    assert found is None if says is None else says in found


def test_a_missing_path_comes_back_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("gin/models/none.gin") == "gin/models/none.gin"

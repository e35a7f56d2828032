"""The one rule for paths, and for names in files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import promot_jax
from promot_jax.errors import UserError
from promot_jax.paths import absolute, check_name, expand, resolve


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


def test_a_missing_path_comes_back_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("gin/models/none.gin") == "gin/models/none.gin"


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("x", encoding="utf-8")
    assert expand("~/a") == resolve("~/a") == absolute("~/a") == str(tmp_path / "a")
    assert expand("a~") == "a~" and expand("./~") == "./~"


@pytest.mark.parametrize(
    "path", ["a\0b", "\ud800", "a" * 300, "a/" + "é" * 200, "/".join(["a" * 200] * 30)]
)
def test_what_is_no_path(path):
    with pytest.raises(UserError, match=r"is no path \(.*\): give another"):
        expand(path)


@given(st.text(min_size=1, max_size=80))
def test_names_stay_in_their_directory(name):
    try:
        check_name(name, "x")
    except UserError as error:
        assert "restore it" in str(error)
    else:
        assert os.path.normpath(os.path.join("/here", name)).startswith("/here/")
        assert os.sep not in name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\0", None, 3])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="no plain name"):
        check_name(name, "the stage")

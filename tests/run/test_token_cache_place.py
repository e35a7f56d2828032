"""Where a run keeps the tokens of large tasks."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from promot_jax.data import file_task, reading
from promot_jax.errors import UserError
from promot_jax.run.prepare import prepare, token_cache


def test_both_stages_find_the_tokens_of_the_first(tmp_path, monkeypatch):
    """Beside the work directory, which is not there yet; digests are those without a cache."""
    rows = "".join(f"what follows {letter}?\t{letter}\n" for letter in "abcdefghijklmnop")
    (tmp_path / "rows.tsv").write_text(rows, encoding="utf-8")
    task = file_task("token_cache_place", *[str(tmp_path / "rows.tsv")] * 2)
    small = prepare(tiny_run.settings(str(tmp_path / "none/run"), task))
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(reading, "LARGE", 10)
    reading._read.cache_clear()
    large = prepare(tiny_run.settings(str(tmp_path / "runs/run"), task))
    [made] = (tmp_path / "runs/token_cache").iterdir()
    assert made.name.startswith(f"{task}-train-") and (made / "whole.json").exists()
    assert json.loads((made / "about.json").read_text("utf-8"))["split"] == "train"
    for one, other in zip(small.stages, large.stages, strict=True):
        [one, other] = (stage.data[""] for stage in (one, other))
        assert one.digests == other.digests
        batches = one(3), other(3)
        assert all(np.array_equal(batches[0][key], batches[1][key]) for key in batches[0])


def test_where_it_lies(tmp_path, monkeypatch):
    def where(workdir, **settings):
        return token_cache(tiny_run.settings(workdir, "any", **settings))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert where("runs/one") == str(tmp_path / "runs/token_cache")
    assert where("runs/one", data_cache="~/x") == str(Path("~/x").expanduser())
    assert where("gs://bucket/run") == f"{tmp_path}/home/promot_jax/token_cache"
    for workdir, given in (("runs/token_cache", None), ("runs/one", "runs/../runs/one")):
        with pytest.raises(UserError, match=f"WORKDIR = '{workdir}' is where tokens .*: choose"):
            where(workdir, data_cache=given)
    for given, says in (("gs://bucket/x", "is a URL"), ("", "names no directory")):
        with pytest.raises(UserError, match=f"DATA_CACHE = '{given}' {says}: set a directory"):
            where("runs/one", data_cache=given)

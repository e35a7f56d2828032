"""Work directories and their bases, moved: together, apart, to where other weights were."""

import dataclasses
import fcntl
import shutil
import threading

import numpy as np
import pytest
import tiny_run

from promot_jax.errors import UserError
from promot_jax.models import Prompt
from promot_jax.run import LanguageModel, run
from promot_jax.training import adamw
from promot_jax.training.description import Description

BRIEF = {"evaluations": [], "select": None, "checkpoint_every": None, "optimizer": adamw}


def settings(root, name, task, base, pattern, prompts=(), **changes):
    """A run of one step into root/name, on root/base."""
    prompts = tuple(Prompt(prompt, 4) for prompt in prompts)
    named = prompts[-1].name if prompts else None
    stage = tiny_run.stage("only", pattern, 1, task, prompts=named, **BRIEF)
    base = None if base is None else str(root / base)
    made = tiny_run.settings(str(root / name), task, stages=[stage], prompts=prompts, base=base)
    return dataclasses.replace(made, **changes)


def chain(root, task):
    """A model, a prompt on it, and a second prompt on that."""
    for name, base, pattern, prompts in (
        ("model", None, "params", ()),
        ("one", "model", "prompt", ("a",)),
        ("two", "one", "prompt/b", ("a", "b")),
    ):
        run(settings(root, name, task, base, pattern, prompts))


@pytest.fixture(scope="module")
def made(task, tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "runs"
    chain(root, task)
    return root


@pytest.fixture
def runs(made, tmp_path):
    """Moved together: where the chain was made there is nothing any more."""
    hidden = made.with_name("hidden")
    shutil.copytree(made, tmp_path / "runs")
    made.rename(hidden)
    yield tmp_path / "runs"
    hidden.rename(made)


def load(path, *bases):
    return LanguageModel(str(path), {"data": 1}, [str(base) for base in bases]).variables


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(ours[path], theirs[path]) for path in ours)


def test_moved_together(made, runs, capsys):
    moved = load(runs / "two")
    assert f"the base of '{runs / 'two'}' is '{runs / 'one'}', not '" in capsys.readouterr().err
    runs.rename(made)
    try:
        assert same(moved, load(made / "two"))
        assert "the base of" not in capsys.readouterr().err
    finally:
        made.rename(runs)


@pytest.mark.parametrize("link", ["model", "one"])
def test_moved_apart_and_named(runs, tmp_path, link):
    """Whichever link of the chain it is that was moved."""
    before = load(runs / "two")
    (runs / link).rename(tmp_path / "far")
    with pytest.raises(UserError, match=r"is in none of the places tried .*--base"):
        load(runs / "two")
    named = [tmp_path / "far"] + [runs / "model"] * (link == "one")
    assert same(before, load(runs / "two", *named))


def test_digests_decide(made, runs, task):
    """Where the base was there is now another, of the same shape; the right one moved along."""
    before = load(runs / "one")
    try:
        run(settings(made, "model", task, None, "params", seed=9))
        assert same(before, load(runs / "one"))
        (runs / "model").rename(runs / "far")
        with pytest.raises(UserError, match="digests differ"):
            load(runs / "one")
        assert same(before, load(runs / "one", runs / "far"))
    finally:
        shutil.rmtree(made)


def test_a_prompt_in_the_place_of_its_base(runs):
    """It is not its own base."""
    (runs / "model").rename(runs / "far")
    (runs / "one").rename(runs / "model")
    for named in ([], [runs / "model"]):
        with pytest.raises(UserError, match="is in none of the places tried"):
            load(runs / "model", *named)
    assert load(runs / "model", runs / "far")


def test_a_run_goes_on_with_a_moved_base(runs, task):
    """BASE is the run's by its weights, not by its path."""
    resumed = settings(runs, "one", task, "model", "prompt", ("a",))
    assert run(resumed) == runs / "one"
    assert Description.read(str(runs / "one")).base == str(runs / "model")
    run(settings(runs, "other", task, None, "params", seed=9))
    with pytest.raises(UserError, match="BASE = '.*other' holds other weights than '.*model'"):
        run(dataclasses.replace(resumed, base=str(runs / "other")))
    (runs / "model").rename(runs / "far")
    two = settings(runs, "two", task, "one", "prompt/b", ("a", "b"))
    with pytest.raises(UserError, match="BASE_PLACES"):
        run(two)
    run(dataclasses.replace(two, base_places=(str(runs / "far"),)))


def test_a_base_that_is_being_trained(runs, task):
    """Its best checkpoint may go while it is read: the one that is there then is; unless named."""
    note = next((runs / "model/1-only/checkpoints").glob("*/note/metadata"))
    hidden = note.with_name("hidden")
    note.rename(hidden)
    with (runs / "model/config.gin").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(1.5, lambda: hidden.rename(note)).start()
        assert load(runs / "model")
    note.rename(hidden)
    with pytest.raises(UserError, match="cannot be read|damaged"):  # nobody trains there
        load(runs / "model")
    hidden.rename(note)
    named = settings(runs, "new", task, "model", "params", base_checkpoint="1-only/9 of 7")
    with pytest.raises(UserError, match="its best checkpoint is 1-only/1 of .* give the command"):
        run(named)

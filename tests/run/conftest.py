"""Runs in processes of their own, which can be killed."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the children: they import `tiny_run` by name


@pytest.fixture(scope="session")
def start():
    """(workdir, **settings) -> a started process of `tiny_run.child`.

    Children are forked from a server that has imported everything and done nothing, so that
    starting again is cheap.
    """
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_run"])
    multiprocessing.forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    import tiny_run

    def begin(workdir, **changes):
        process = context.Process(target=tiny_run.child, args=(str(workdir),), kwargs=changes)
        process.start()
        return process

    return begin


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """One file task a process: a name stands for one file only."""
    import tiny_run

    return tiny_run.write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="session")
def kind(request):
    """Of the model: a T5, unless a test is parametrised (indirectly) with `tiny_run.KINDS`."""
    import tiny_run

    return getattr(request, "param", tiny_run.T5)


@pytest.fixture(scope="session")
def undisturbed(start, kind, tmp_path_factory):
    """A work directory of a run that nothing has happened to, in a process of its own."""
    from killed_runs import finish

    workdir = tmp_path_factory.mktemp("undisturbed") / "work"
    finish(start, workdir, kind)
    return workdir


@pytest.fixture(scope="session")
def served(task, kind, tmp_path_factory):
    """A work directory with a model and a prompt, hardly trained."""
    import tiny_run

    from promot_jax.run import run
    from promot_jax.training import adamw

    root = tmp_path_factory.mktemp("served")
    stage = tiny_run.stage("short", "prompt", 1, task, optimizer=adamw, evaluations=[], select=None)
    return run(tiny_run.settings(str(root / "work"), task, stages=[stage], kind=kind))

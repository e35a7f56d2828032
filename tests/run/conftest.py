"""Runs in processes of their own, which can be killed, and programs compiled once for all."""

import multiprocessing
import os
import sys
from pathlib import Path

import jax
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the children: they import `tiny_run` by name


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Directory of compiled programs, which all runs of a test session share."""
    own = tmp_path_factory.getbasetemp()
    # pytest-xdist's workers have directories of their own inside the session's
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield str(cache)
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def start(compiled):
    """(workdir, **settings) -> a started process of `tiny_run.child`.

    Children are forked from a server that has imported everything and done nothing, so that
    starting again is cheap.
    """
    settings = {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    before = dict(os.environ)
    os.environ.update(settings)
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
def served(task, compiled, tmp_path_factory):
    """A work directory with a model and a prompt, hardly trained."""
    import tiny_run

    from promot_jax.run import run
    from promot_jax.training import adamw

    root = tmp_path_factory.mktemp("served")
    stage = tiny_run.stage("short", "prompt", 1, task, optimizer=adamw, evaluations=[], select=None)
    return run(tiny_run.settings(str(root / "work"), task, stages=[stage]))

"""Runs in processes of their own, which can be killed, and one in-process run that many tests read."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the children: they import `tiny_run` by name


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """(workdir, **settings) -> a started process of `tiny_run.child`.

    Children are forked from a server that has imported everything and done nothing, and share a
    cache of compiled programs, so that starting again is cheap.
    """
    cache = tmp_path_factory.getbasetemp().parent / "compiled"
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
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

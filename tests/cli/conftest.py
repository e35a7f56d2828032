"""The command line for tests: in processes of its own, in directories of its own.

A process that imports JAX and TensorFlow takes seconds to start, so most command lines go, one
after the other, through one long-lived process a worker; the rest through the console script.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from command_lines import SCRIPT, SMALL, decoder, flags, own_task

from bench.fail_io import build, preload

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "vocabularies"))


class Result(NamedTuple):
    """What a command line left."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory):
    """A directory that all workers of the test run share, and this worker alone for now."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def environment():
    """Two devices."""
    changes = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    return os.environ | changes


@pytest.fixture(scope="session")
def fail_io(tmp_path_factory):
    """The library that makes a disk fail; None where there is no compiler for it."""
    return build(tmp_path_factory.mktemp("fail_io"))


@pytest.fixture(scope="session")
def promot(environment, fail_io):
    """(arguments, cwd, disk) -> Result, in the worker's long-lived process.

    `disk`: how the disk fails meanwhile, as `FailingDisk.arm` takes it.
    """
    loaded = {} if fail_io is None else preload(fail_io)
    process = subprocess.Popen(
        [sys.executable, HERE / "cli_server.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment | {"PYTHONPATH": str(HERE.parents[1])} | loaded,
    )  # fmt: skip

    def call(arguments, cwd, disk=None) -> Result:
        request = {"argv": [str(argument) for argument in arguments], "cwd": str(cwd), "disk": disk}
        print(json.dumps(request), file=process.stdin, flush=True)
        return Result(**json.loads(process.stdout.readline()))

    yield call
    process.stdin.close()
    process.wait()


@pytest.fixture(scope="session")
def script(environment):
    """(arguments, cwd) -> Result, of the installed console script."""

    def call(arguments, cwd) -> Result:
        done = subprocess.run(
            [SCRIPT, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def rows():
    """Lines of a TSV of one's own."""
    return "".join(f"what follows {a}{b}?\t{b}\n" for a in "abcdefgh" for b in "xyz")


def made_once(promot, arguments, rows, folder, add=lambda folder: None) -> None:
    """Runs a command line in a folder of its own, if no other worker has done so.

    `add` puts further files there first.
    """
    with folder.with_suffix(".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            folder.mkdir()
            add(folder)
            (folder / "mine.tsv").write_text(rows, encoding="utf-8")
            done = promot(arguments, folder)
            assert done.code == 0, done.err
            (folder / "done").write_text(done.err, encoding="utf-8")


@pytest.fixture(scope="session")
def trained(promot, rows, shared_dir):
    """A finished run of the recipe promot on a TSV of one's own: its folder, and its command line.

    Made by the worker that comes first.
    """
    folder = shared_dir / "trained"
    arguments = [
        "run", "--gin_file=gin/recipes/promot.gin", "--gin_file=gin/models/lab.gin",
        *own_task("mine.tsv", "mine"), *flags(WORKDIR="out", **SMALL),
    ]  # fmt: skip
    made_once(promot, arguments, rows, folder)
    return folder, arguments


@pytest.fixture(scope="session")
def tuned(promot, rows, shared_dir):
    """The folder of the same with a tiny Gemma, whose tokenizer is in `hf`."""
    import small_tokenizers

    folder = shared_dir / "tuned"
    arguments = [each.replace("NAME'", "gemma'") for each in decoder(recipe="promot")]
    made_once(promot, arguments, rows, folder, lambda made: small_tokenizers.gemma(made / "hf"))
    return folder

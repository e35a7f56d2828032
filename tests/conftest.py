"""Compiling takes most of the tests' time, and their programs are tiny: hardly optimise them.

What is compiled once is kept for all processes of a test session.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import bucket_server
import pytest

# Before JAX is imported; processes that tests start, and pytest-xdist's workers, inherit all this.
FAST_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([*FAST_TO_COMPILE, os.environ.get("XLA_FLAGS", "")])
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
BUCKETS = bucket_server.start()  # no test reaches any other


@pytest.fixture
def bucket():
    """The server of all buckets, and the URL of a directory in one that is this test's own."""
    yield BUCKETS, f"gs://bucket-{uuid.uuid4().hex[:8]}/dir"
    BUCKETS.fault = lambda method, name: None


@pytest.fixture(scope="session")
def on_eight_devices():
    """(script, arguments) -> what it prints last, as JSON, in a process with 8 CPU devices.

    Their number is fixed when JAX starts. The script may import what lies beside it, and in `more`.
    """

    def run(script, *arguments, more=()):
        paths = map(str, [script.parent, *more, Path(__file__).parents[1]])
        settings = {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join(paths),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run(
            [sys.executable, script, *arguments], env=os.environ | settings, capture_output=True,
            text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session", autouse=True)
def _only_here():
    """`make test` has the interpreter warn of text files without an encoding: not in children."""
    os.environ.pop("PYTHONWARNDEFAULTENCODING", None)

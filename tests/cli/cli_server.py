"""A process that runs command lines one after the other: JAX and TensorFlow start only once.

It reads a JSON line {"argv", "cwd", "disk"}, calls the real `main(argv)` with stdout and stderr in
files, and writes a JSON line {"code", "out", "err"}. "disk": how it fails meanwhile, or null.
"""

import json
import os
import sys
import tempfile
import traceback

from bench.fail_io import FailingDisk
from promot_jax.cli.main import main


def call(argv: list[str]) -> int:
    """The exit code, as the console script would give it to the shell."""
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code
    except BaseException:
        traceback.print_exc()
        return 1


def answer(request: dict, stdout: int, stderr: int) -> dict:
    """Runs a command line with its output, that of C++ too, in files."""
    os.chdir(request["cwd"])
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        disk = FailingDisk() if request["disk"] else None
        try:
            if disk is not None:
                disk.arm(**request["disk"])
            code = call(request["argv"])
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            if disk is not None:
                disk.disarm()
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
        out.seek(0)
        err.seek(0)
        return {"code": code, "out": out.read(), "err": err.read()}


if __name__ == "__main__":
    stdout, stderr = os.dup(1), os.dup(2)
    replies = os.fdopen(stdout, "w", buffering=1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), stdout, stderr)), file=replies)
    os._exit(0)  # a thread of Orbax's waits minutes for a directory that could not be made

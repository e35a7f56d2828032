"""Disks that fail: a process whose writes below a directory fail, as on a full or broken disk.

    library = build(directory)                       compiles fail_io.c; None where there is no cc
    subprocess.run(command, env=os.environ | preload(library, "/runs/x", after=40))

    disk = FailingDisk(library)                      in a process that was started with `preload`
    disk.arm("/runs/x", after=40, error=errno.EIO)
    disk.disarm()

Only writing fails: to open a file for it, to write, sync, rename, remove, make a directory.
"""

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

OPEN, WRITE, SYNC, RENAME, MKDIR, TRUNCATE, REMOVE = (1 << k for k in range(7))
# What a full disk, or one over its quota, refuses; all else still works on it.
FULL = OPEN | WRITE | SYNC | MKDIR


def build(directory: str | os.PathLike) -> str | None:
    """Compiles the library into a directory; None where there is no compiler, or no Linux."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        return None
    library = Path(directory) / "fail_io.so"
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return str(library)


def preload(
    library: str,
    below: str | os.PathLike = "",
    after: int = 0,
    error: int = errno.ENOSPC,
    kinds: int = 0,
) -> dict[str, str]:
    """Changes to the environment of a process that is about to be started.

    Args:
      library: as `build` made it.
      below: an absolute path; nothing fails where it is empty.
      after: so many calls below it work.
      error: what the others fail with.
      kinds: which calls are meant, a sum of OPEN, WRITE, ...; 0 for all.
    """
    values = {"LD_PRELOAD": library, "FAIL_IO_PREFIX": os.fspath(below), "FAIL_IO_AFTER": after}
    values |= {"FAIL_IO_ERRNO": int(error), "FAIL_IO_KINDS": kinds}
    return {name: str(value) for name, value in values.items()}


class FailingDisk:
    """The library in this process, which was started with it preloaded."""

    def __init__(self, library: str | None = None):
        self.library = ctypes.CDLL(library or os.environ["LD_PRELOAD"])
        self.library.fail_io_arm.argtypes = [
            ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int,
        ]  # fmt: skip
        self.library.fail_io_calls.restype = self.library.fail_io_hits.restype = ctypes.c_long

    def arm(
        self,
        below: str | os.PathLike,
        after: int = 0,
        error: int = errno.ENOSPC,
        kinds: int = 0,
    ) -> None:
        """As `preload`, from now on."""
        self.library.fail_io_arm(os.fsencode(below), after, int(error), kinds)

    def disarm(self) -> None:
        """The disk works again."""
        self.library.fail_io_disarm()

    @property
    def calls(self) -> int:
        """Calls of the kinds that were meant since it was armed."""
        return self.library.fail_io_calls()

    @property
    def hits(self) -> int:
        """Those that failed."""
        return self.library.fail_io_hits()

"""Memory of the host, where the CPU computes."""

import ctypes
import os
import sys


def restart_with_huge_pages() -> None:
    """Starts this program anew, once, with huge pages; does nothing but on Linux.

    XLA's CPU backend allocates the temporary memory of a program at every call and frees it again,
    and the kernel clears every page of it. With pages of 2 MiB that costs little, with pages of
    4 KiB a tenth to a fifth of a step. glibc reads the setting when a process starts, so it must be
    there before. To be called first, before anything heavy is imported.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def give_back_freed_memory() -> None:
    """Gives the kernel back what a compilation has freed, hundreds of MB, where glibc keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

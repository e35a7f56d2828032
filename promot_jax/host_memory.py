"""Memory of the host, where the CPU computes."""

import ctypes


def give_back_freed_memory() -> None:
    """Gives the kernel back what a compilation has freed, hundreds of MB, where glibc keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

"""Memory of the host, where the CPU computes."""

import ctypes
import functools
import importlib.metadata
import importlib.util

# Of glibc's malloc.h: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD (bytes).
SETTINGS = {-8: 1, -4: 0, -1: 2**31 - 1}


@functools.cache
def keep_freed_memory() -> None:
    """Has glibc keep what is freed, for the process; elsewhere, or with an accelerator, nothing.

    XLA's CPU backend allocates the temporary buffers of a program anew at every call. They are so
    large that glibc takes them from the kernel and gives them back each time, and the kernel clears
    every page: a third of a step's processor time (`bench.train_step`). To be called before JAX
    starts its threads, which else have arenas of their own that these settings do not reach.
    """
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if plugins or importlib.util.find_spec("libtpu"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in SETTINGS.items():
            mallopt(name, value)

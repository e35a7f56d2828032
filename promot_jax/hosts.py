"""Several hosts, each of which runs the whole program on its part of one mesh.

All of them read the same files and compute the same scores; the first one writes. The work
directory is thus one that all hosts see.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from promot_jax import lost
from promot_jax.errors import UserError
from promot_jax.failures import writing
from promot_jax.paths import in_bucket

MESSAGE = 2000  # bytes
TIMEOUT = 300  # seconds: a host may need some for a file, or to compile, while the others wait
SHORTEST, LONGEST = 5, 86400


def join(timeout: int = TIMEOUT) -> None:
    """Joins the other hosts; to be called before anything else asks JAX for its devices.

    JAX knows by itself who and how many they are on TPU pods, under SLURM and Open MPI; elsewhere
    JAX_COORDINATOR_ADDRESS (host:port of the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID say so.
    From then on one that dies or hangs ends the others (`promot_jax.lost`).

    Args:
      timeout: seconds after which a host without a sign of life is lost.

    Raises:
      UserError: neither is there, or the others cannot be reached.
    """
    if not SHORTEST <= timeout <= LONGEST:
        raise UserError(f"--host_timeout = {timeout}: set {SHORTEST} to {LONGEST} seconds")
    lost.prepare(timeout)
    try:
        count, index = (
            int(os.environ[name]) if name in os.environ else None
            for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        jax.distributed.initialize(
            num_processes=count, process_id=index, heartbeat_timeout_seconds=timeout
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--multihost: {error} On a cluster that JAX does not know, set"
            " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    lost.watch(distributed.global_state.client, jax.process_index())


def is_first() -> bool:
    """Whether this is the host that writes."""
    return jax.process_index() == 0


def of_first(decide: Callable[[], bool]) -> bool:
    """What the first host decides, or does, on all hosts; also what is wrong is raised on all."""
    lost.came_on(first=False)
    found, failed = False, None
    if is_first():
        try:
            found = decide()
        except (UserError, OSError) as error:
            failed = error
    said = b"" if failed is None else str(failed).encode(errors="replace")[:MESSAGE]
    message = np.frombuffer(said.ljust(MESSAGE, b"\0"), np.uint8)
    found, message = multihost_utils.broadcast_one_to_all((np.bool_(found), message))
    if failed is not None:
        raise failed
    if said := bytes(message).rstrip(b"\0"):
        raise UserError(said.decode(errors="replace"))
    return bool(found)


def everyone(value: bool) -> list[bool]:
    """What each host says; to be asked on all of them."""
    if jax.process_count() == 1:
        return [value]
    lost.came_on(first=False)
    return [bool(said) for said in multihost_utils.process_allgather(value)]


def wait_for_all(where: str) -> None:
    """Returns once every host has called it with this name."""
    lost.came_on(first=False)
    multihost_utils.sync_global_devices(where)


def write_atomically(path: Path, text: str) -> None:
    """On the first host: replaces a file in one step, so that a crash leaves the old or the new."""
    if is_first() and in_bucket(path):
        path.write_bytes(text.encode())  # an object never is anything else
    elif is_first():
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with writing(path):
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

"""Devices that nobody has: "v5e:16x16" as JAX devices to compile for.

libtpu compiles for any topology, on any machine, and needs no TPU for it. XLA's compiler for GPUs
needs one; for those the program is compiled for as many CPU devices in its place.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from promot_jax.errors import UserError, near
from promot_jax.plan.chips import CHIPS, Chip

# libtpu asks a metadata server what machine this is, and takes the machine's lock as one who uses
# its TPU does. What it is told here has no effect on what it compiles.
QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
    "TPU_STDERR_LOG_LEVEL": "4",
    "TPU_MIN_LOG_LEVEL": "4",
}
EXTRA = "promot_jax[plan]"


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind, in one or several slices.

    Attributes:
      name: as it is given, "v5e:16x16".
      chip: their kind.
      slices: how many slices there are of them.
      devices: one a chip, to compile for.
    """

    name: str
    chip: Chip
    slices: int
    devices: Sequence[jax.Device]

    def __str__(self) -> str:
        of = f"{self.slices} slices of " if self.slices > 1 else ""
        count = len(self.devices)
        return f"{of}{self.name} ({count} chip{'s' if count > 1 else ''})"


def stay_on_cpu() -> None:
    """From now on JAX uses this machine's CPUs alone: a plan must not take a device from a run."""
    jax.config.update("jax_platforms", "cpu")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def topology(name: str, slices: int = 1) -> Topology:
    """The chips that a name means.

    Raises:
      UserError: an unknown kind or shape, or libtpu is not installed.
    """
    kind, _, shape = name.lower().partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"--topology={name}: {kind!r} is no chip that is known{near(kind, CHIPS)}; known are"
            f" {', '.join(CHIPS)}, as in v5e:4x4 or h100:8"
        )
    chip = CHIPS[kind]
    if not chip.has(shape):
        raise UserError(
            f"--topology={name}: {kind} has no shape {shape!r}{chip.nearest(shape)}; there are"
            f" {', '.join(chip.shapes)}"
        )
    if slices < 1 or (slices > 1 and not chip.compiles):
        many = "set 1 or more" if slices < 1 else f"{kind} has none: leave it out"
        raise UserError(f"--slices={slices}: {many}")
    devices = _tpus(kind, shape, chip, slices) if chip.compiles else _stand_ins(int(shape))
    return Topology(f"{kind}:{shape}", chip, slices, devices)


def _tpus(kind: str, shape: str, chip: Chip, slices: int) -> Sequence[jax.Device]:
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {}
    try:
        found = topologies.get_topology_desc(
            f"{kind}:{shape}", "tpu", num_slices=slices, chip_config_name=chip.cores, **bounds
        )
    except (RuntimeError, AttributeError) as error:  # the latter of another package of this name
        if "not installed" in str(error):
            raise UserError(
                f"--topology={kind}:{shape}: libtpu is not installed, which compiles for TPUs on"
                f" any machine: pip install '{EXTRA}'"
            ) from error
        raise UserError(f"--topology={kind}:{shape}: libtpu has none ({error!s:.300})") from error
    # What is compiled for chips that are not here cannot be loaded, and so not be kept either.
    jax.config.update("jax_enable_compilation_cache", False)
    return found.devices


def _stand_ins(count: int) -> Sequence[jax.Device]:
    """CPU devices in the place of GPUs."""
    with contextlib.suppress(RuntimeError):  # JAX has begun: then there may be enough
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(
            f"a plan for {count} GPUs needs as many CPU devices, and JAX has made {len(devices)}:"
            " leave XLA_FLAGS and JAX_NUM_CPU_DEVICES out"
        )
    return devices[:count]

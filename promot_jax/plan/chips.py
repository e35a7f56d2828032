"""What the chips can do, from their makers: the one table that every estimate comes from.

Peaks are never reached. A step takes at least what the roofline says; well-laid-out training
reaches about half of it, generation less.
"""

import dataclasses
import math
import re
from collections.abc import Iterable

GB, GIB, TERA = 1e9, 2**30, 1e12
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    "2x2x1",
    "2x2x2",
    "2x2x4",
    "2x4x4",
    "4x4x4",
    "4x4x8",
    "4x8x8",
    "8x8x8",
    "8x8x16",
    "8x16x16",
)
ONE_MACHINE = ("1", "2", "4", "8")


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip.

    Attributes:
      flops: operations a second in bfloat16, dense.
      memory: bytes of its own.
      bandwidth: bytes a second from and to that memory.
      interconnect: bytes a second that it sends to its neighbours (as many come in at once).
      network: bytes a second that it sends to other slices; None: its maker does not say.
      shapes: those that it can be had in; of TPUs with three axes, also such of whole cubes.
      most: chips of the largest shape.
      source: where this stands.
      compiles: whether XLA compiles for it without having one.
      cores: libtpu's name for how its cores are used.
      kinds: what JAX calls it, as a device's kind.
    """

    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    network: float | None
    shapes: tuple[str, ...]
    most: int
    source: str
    compiles: bool = True
    cores: str = "default"
    kinds: tuple[str, ...] = ()

    def has(self, shape: str) -> bool:
        """Whether it can be had in this shape."""
        if shape in self.shapes:
            return True
        if self.shapes[-1].count("x") < 2 or not re.fullmatch(r"\d+x\d+x\d+", shape):
            return False
        sizes = [int(size) for size in shape.split("x")]
        whole = sizes[0] and all(size % 4 == 0 for size in sizes)
        return bool(whole) and sizes == sorted(sizes) and math.prod(sizes) <= self.most

    def nearest(self, shape: str) -> str:
        """`" (the nearest are ...)"` for the shapes that have about as many chips, or `""`."""
        numbers = re.findall(r"\d{1,6}", shape)
        if not numbers:
            return ""
        asked = max(1, _chips(numbers))
        off = lambda known: abs(math.log(_chips(known.split("x")) / asked))  # noqa: E731
        return f" (the nearest are {' and '.join(sorted(self.shapes, key=off)[:2])})"


def _chips(sizes: Iterable[str]) -> int:
    return math.prod(map(int, sizes))


TPU = "https://docs.cloud.google.com/tpu/docs/"
NVIDIA = "https://www.nvidia.com/en-us/data-center/"
MEGACORE = "megacore"  # two that JAX shows as one device, as on the machines themselves
CHIPS = {
    # Of each link 50 GB/s each way, and six links (table 4).
    "v4": Chip(
        275 * TERA, 32 * GIB, 1200 * GB, 300 * GB, None, CUBES, 4096,
        "https://arxiv.org/abs/2304.01433", cores=MEGACORE, kinds=("TPU v4",),
    ),
    "v5e": Chip(
        197 * TERA, 16 * GIB, 819 * GB, 200 * GB, 6400e9 / 8 / 256, FLAT, 256, f"{TPU}v5e",
        kinds=("TPU v5 lite", "TPU v5e"),
    ),
    "v5p": Chip(
        459 * TERA, 95 * GIB, 2765 * GB, 600 * GB, 50e9 / 8, (*CUBES, "16x16x16", "16x16x24"), 6144,
        f"{TPU}v5p", cores=MEGACORE, kinds=("TPU v5", "TPU v5p"),
    ),
    "v6e": Chip(
        918 * TERA, 32 * GIB, 1600 * GB, 400 * GB, 25600e9 / 8 / 256, FLAT, 256, f"{TPU}v6e",
        kinds=("TPU v6 lite", "TPU v6e"),
    ),
    "h100": Chip(
        989 * TERA, 80 * GB, 3350 * GB, 450 * GB, None, ONE_MACHINE, 8, f"{NVIDIA}h100/",
        compiles=False, kinds=("NVIDIA H100 80GB HBM3",),  # others of this name are slower
    ),
    "h200": Chip(
        989 * TERA, 141 * GB, 4800 * GB, 450 * GB, None, ONE_MACHINE, 8, f"{NVIDIA}h200/",
        compiles=False, kinds=("NVIDIA H200",),
    ),
}  # fmt: skip


def chip_of(kind: str) -> Chip | None:
    """The chip that JAX calls so; None: one of which nothing is known here."""
    return next((chip for chip in CHIPS.values() if kind in chip.kinds), None)

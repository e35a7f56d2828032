"""What one chip does in one run of a compiled program: FLOPs, HBM traffic and collectives.

XLA's own cost analysis counts the body of a loop once. Here every computation counts as often as it
is run, so that a scanned layer counts for all layers; the FLOPs of one computation are XLA's.

    sent by a chip, of n that take part and an array of s bytes on each of them afterwards
      all-gather      s (n - 1) / n           all-reduce            2 s (n - 1) / n
      reduce-scatter  s (n - 1)               all-to-all            s (n - 1) / n
      permute         s
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxlib import _hlo, _jax

from promot_jax.plan.hlo import Instruction, Module, bytes_of
from promot_jax.plan.traffic import traffic

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BETWEEN_SLICES = {  # libtpu's names
    "ALL_REDUCE": "all-reduce", "ALL_GATHER": "all-gather", "REDUCE_SCATTER": "reduce-scatter",
    "ALL_TO_ALL": "all-to-all",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind, all of a program's.

    Attributes:
      kind: as XLA calls it.
      count: how many.
      sent: bytes that a chip sends in all of them.
      largest: bytes of the largest array that one of them makes.
      between_slices: whether slices take part, and not chips of one alone.
    """

    kind: str
    count: float
    sent: float
    largest: float
    between_slices: bool


@dataclasses.dataclass(frozen=True)
class Cost:
    """A program's, on one chip.

    Attributes:
      flops: of all loops' rounds.
      traffic: bytes from and to HBM; None: unknown, and so are collectives.
      collectives: by kind, within slices and between them.
      kernels: whether it has kernels of ours (Pallas), whose FLOPs nobody counts.
    """

    flops: float
    traffic: float | None = None
    collectives: tuple[Collective, ...] = ()
    kernels: bool = False

    def sent(self, between_slices: bool) -> float:
        """Bytes that a chip sends to its neighbours, or to other slices."""
        return sum(c.sent for c in self.collectives if c.between_slices == between_slices)


def cost(module: Module, devices: int, slices: int = 1) -> Cost:
    """What a program costs that is made for so many devices."""
    runs = list(module.runs())
    moved = sum(
        times * traffic(module, module.computations[name], instruction)
        for name, times in runs
        for instruction in module.computations[name].values()
    )
    kernels = any(
        instruction.opcode == "custom-call" and "tpu_custom_call" in instruction.rest
        for name, _ in runs
        for instruction in module.computations[name].values()
    )
    return Cost(flops(module), moved, _collectives(module, runs, devices, slices), kernels)


def flops(module: Module) -> float:
    """Of one run of a program, loops in full."""
    once = functools.cache(lambda name: _flops_once(module, name))
    return sum(
        times * (once(name) - sum(once(inner) for inner in module.inside(name)))
        for name, times in module.runs()
    )


def _flops_once(module: Module, name: str) -> float:
    """FLOPs of a computation and all it runs, each loop once, by XLA."""
    part = _hlo.hlo_module_from_text(module.text_from(name))
    return _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, part).get("flops", 0.0)


def _collectives(
    module: Module, runs: Sequence[tuple[str, float]], devices: int, slices: int
) -> tuple[Collective, ...]:
    found: dict[tuple[str, bool], Collective] = {}
    for name, times in runs:
        # One that is spread over several fusions has the same channel in each of them.
        each = (_one(where, x, devices, slices) for where, x in module.fused(name))
        for one in {x.channel: x for x in each if x is not None}.values():
            key = one.kind, one.far
            old = found.get(key, Collective(one.kind, 0, 0.0, 0.0, one.far))
            sent, largest = old.sent + times * one.sent, max(old.largest, one.made)
            found[key] = Collective(one.kind, old.count + times, sent, largest, one.far)
    return tuple(found[key] for key in sorted(found))


class _One(NamedTuple):
    """A collective: what it leaves on each chip, what a chip sends, whether to other slices."""

    kind: str
    made: float
    sent: float
    far: bool
    channel: str


def _one(where: str, instruction: Instruction, devices: int, slices: int) -> _One | None:
    """An instruction as a collective, `where` it is; None for all else, and where one only ends."""
    kind, channel = instruction.opcode.removesuffix("-start"), _channel(instruction)
    if kind == "send":  # so that the hosts do it, with other slices
        transfer = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.rest)
        if transfer is None:
            return None
        kind, n = BETWEEN_SLICES.get(transfer[1], "collective-permute"), slices
        made = bytes_of(instruction.shape) * (n if kind == "all-gather" else 1)
        return _One(kind, made, made * _share(kind, n), True, channel)
    if kind not in KINDS:
        return None
    groups = instruction.groups(devices)
    n, made = groups.shape[1], _made(instruction, groups.shape[1])
    if where.startswith("all-reduce-scatter"):  # libtpu's name for a fused all-reduce and a slice
        kind, made = "reduce-scatter", made / n
    far = bool(np.any(np.ptp(groups // (devices // slices), axis=1)))
    return _One(kind, made, made * _share(kind, n), far, channel)


def _channel(instruction: Instruction) -> str:
    found = re.search(r"channel_id=(\d+)", instruction.rest)
    return f"{instruction.opcode} {found[1] if found else instruction.name}"


def _made(instruction: Instruction, n: int) -> float:
    """Bytes of what a collective of n chips leaves on each of them."""
    size = bytes_of(instruction.shape)
    if instruction.opcode == "all-gather-start":  # what it begins with is there too
        return size / (1 + 1 / n)
    return size / 2 if instruction.opcode == "collective-permute-start" else size


def _share(kind: str, n: int) -> float:
    """What a chip sends, in terms of what is made."""
    if kind == "collective-permute":
        return 1.0
    if kind == "reduce-scatter":
        return n - 1.0
    return (2 if kind == "all-reduce" else 1) * (n - 1) / n

"""The time that a program takes at least on a chip, were all of it done at the maker's peaks.

    compute        FLOPs / peak
    HBM            bytes / bandwidth
    interconnect   bytes sent to neighbours / their links
    network        bytes sent to other slices / the chip's share of its host's network

These overlap, so the longest counts, and is what bounds the program.
"""

import dataclasses

from promot_jax.plan.chips import Chip
from promot_jax.plan.costs import Cost


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Of one run of a program; None: it cannot be said."""

    compute: float
    hbm: float | None
    interconnect: float | None
    network: float | None

    @property
    def bound(self) -> str:
        """What takes longest."""
        known = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return max(known, key=known.__getitem__, default="compute")

    @property
    def total(self) -> float:
        """The time of one run."""
        return getattr(self, self.bound)


def roofline(cost: Cost, chip: Chip) -> Seconds:
    """The least time of a program."""
    if cost.traffic is None:
        return Seconds(cost.flops / chip.flops, None, None, None)
    far = cost.sent(between_slices=True)
    network = far / chip.network if chip.network else None
    near = cost.sent(between_slices=False) / chip.interconnect
    return Seconds(cost.flops / chip.flops, cost.traffic / chip.bandwidth, near, network)

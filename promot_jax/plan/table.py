"""A plan as one table: programs side by side; and as JSON."""

import dataclasses
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from promot_jax.plan.chips import GIB
from promot_jax.plan.costs import Cost
from promot_jax.plan.planning import Planned, RunPlan

CALLED = {"compute": "compute", "hbm": "HBM", "interconnect": "interconnect", "network": "network"}
Rows = list[tuple[str, list[str]]]


def table(plan: RunPlan) -> Table:
    """What each program needs of a chip, and how long the run takes."""
    mesh = ", ".join(f"{name} {size}" for name, size in plan.mesh.items() if size > 1)
    title = f"{plan.method} on {plan.topology}{': ' if mesh else ''}{mesh}"
    made = Table(title=title, box=box.SIMPLE)
    made.add_column("of a chip", no_wrap=True)
    for each in plan.programs:
        head = "\n".join(text for text in (each.stage, each.name, each.size) if text)
        made.add_column(head, justify="right", no_wrap=True)
    for section in (_memory(plan), _work(plan), _time(plan)):
        for name, cells in section:
            made.add_row(name, *cells)
        made.add_section()
    return made


def full_width(made: Table) -> int:
    """Characters that a table has where nothing of it is cut off, as in a file."""
    console = Console(width=10_000)
    return console.measure(made).maximum


def _memory(plan: RunPlan) -> Rows:
    memories = [each.memory for each in plan.programs]
    cells = lambda name: [m and _binary(getattr(m, name)) for m in memories]  # noqa: E731
    return [
        ("parameters", cells("parameters")),
        ("optimizer", cells("optimizer")),
        ("batch", cells("batch")),
        ("gradients, activations", cells("working")),
        ("program", cells("program")),
        (f"free of {_binary(plan.topology.chip.memory)}", cells("free")),
        ("fits", ["yes" if each.fits else "NO" for each in plan.programs]),
    ]


def _work(plan: RunPlan) -> Rows:
    costs = [each.cost for each in plan.programs]
    rows = [("arithmetic", [c and _decimal(c.flops, "FLOP") for c in costs])]
    if plan.topology.chip.compiles:
        rows.append(("HBM traffic", [c and _decimal(c.traffic, "B") for c in costs]))
    found = {(x.kind, x.between_slices) for c in costs if c for x in c.collectives}
    for kind, far in sorted(found):
        name = f"{kind}, sent{' to other slices' if far else ''}"
        rows.append((name, [_sent(c, kind, far) for c in costs]))
    return rows


def _sent(cost: Cost | None, kind: str, far: bool) -> str | None:
    for found in cost.collectives if cost else ():
        if (found.kind, found.between_slices) == (kind, far):
            return f"{found.count:,.0f}: {_decimal(found.sent, 'B')}"
    return None


def _time(plan: RunPlan) -> Rows:
    seconds = [each.seconds for each in plan.programs]
    rows = [
        (called, [s and _time_of(getattr(s, name)) for s in seconds])
        for name, called in CALLED.items()
        if any(s and getattr(s, name) for s in seconds)
    ]
    return [
        *rows,
        ("at least", [s and _time_of(s.total) for s in seconds]),
        ("bound by", [s and CALLED[s.bound] for s in seconds]),
        ("times", [f"{each.times:,.0f}" for each in plan.programs]),
        ("hours", [None if each.hours is None else short(each.hours) for each in plan.programs]),
        ("compiled here in", [_time_of(each.compile_seconds) for each in plan.programs]),
    ]


def short(number: float) -> str:
    """Three digits, without an exponent where it is large."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _binary(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if abs(size) > GIB / 50 else f"{size / 2**20:.1f} MiB"


def _decimal(number: float, unit: str) -> str:
    for prefix, power in (("P", 15), ("T", 12), ("G", 9), ("M", 6)):
        if number >= 10**power:
            return f"{short(number / 10**power)} {prefix}{unit}"
    return f"{short(number / 1000)} k{unit}"


def _time_of(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{short(seconds / size)} {unit}"
    return f"{short(seconds * 1e6)} us"


def summary(plan: RunPlan) -> str:
    """The plan in one line."""
    if not plan.fits:
        bad = next(each for each in plan.programs if not each.fits)
        lacking = bad.too_much or f"{-bad.memory.free / GIB:.1f} GiB a chip are missing"
        return f"does not fit {plan.topology}: {bad.stage} {bad.name}: {lacking}"
    there = plan.topology.chip.memory
    used = there - min(each.memory.free for each in plan.programs)
    room = f"{used / GIB:.1f}" if used >= GIB / 10 else f"{used / 2**20:.0f} MiB"
    time = f"{short(plan.hours)} hours" if plan.hours >= 0.01 else _time_of(plan.hours * 3600)
    return (
        f"fits {plan.topology}: {room} of {there / GIB:.4g} GiB a chip, at least {time},"
        f" {short(plan.chip_hours)} chip-hours"
    )


def as_json(plan: RunPlan) -> dict[str, Any]:
    """The plan for programs; bytes, seconds and hours."""
    topology, chip = plan.topology, dataclasses.asdict(plan.topology.chip)
    return {
        "method": plan.method,
        "topology": topology.name,
        "slices": topology.slices,
        "chips": len(topology.devices),
        "chip": {name: chip[name] for name in ABOUT_A_CHIP},
        "mesh": plan.mesh,
        "fits": plan.fits,
        "hours": plan.hours,
        "chip_hours": plan.chip_hours,
        "programs": [_as_json(each) for each in plan.programs],
        "assumptions": list(plan.assumptions),
    }


ABOUT_A_CHIP = ("flops", "memory", "bandwidth", "interconnect", "network", "source")


def _as_json(each: Planned) -> dict[str, Any]:
    more = {"fits": each.fits, "hours": each.hours}
    if each.seconds is not None:
        more |= {"seconds_at_least": each.seconds.total, "bound": each.seconds.bound}
    return dataclasses.asdict(each) | more

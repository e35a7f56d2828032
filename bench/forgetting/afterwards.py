"""Sections of the page on what runs go on with: rows of one skill, and noise on the prompt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.forgetting.analysis import HELD_OUT, Point
from bench.forgetting.noise import MOST
from bench.forgetting.plan import NAMED
from bench.forgetting.rows import chosen_by, right

RECOVERED = "lab_qa"  # the skill that bench/forgetting/recovery.gin has rows of
OTHERS = tuple(task for task in HELD_OUT if task != RECOVERED)


def goes_on_with(method: str) -> str | None:
    """What a method's runs go on with, by which their rows are of a section of their own."""
    return NAMED[method].then if method in NAMED else None


def recovery(rows: list[Mapping], bases: Mapping[int, Point]) -> Iterator[str]:
    """Before and after the updates on rows of one skill: that skill, and the others.

    Came back: of what the others lost to the base, the share that is there again; of means.
    """
    if not rows:
        yield "Not measured yet."
        return
    yield "| | rate | rows | that skill | the others | came back | in the target's format | runs |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        knobs = row["knobs"]
        key = (row["method"], knobs["LEARNING_RATE"], knobs["RECOVERY_ROWS"])
        groups.setdefault(key, []).append(row)
    for (method, rate, count), found in groups.items():
        before, after = np.mean([_around(row) for row in found], axis=0)
        base = np.mean([bases[row["base"]].rows_of(OTHERS).mean() for row in found])
        hows = ("{:.3f} → {:.3f}", "{:.3f} → {:.3f}", "{:.1%} → {:.1%}")
        skill, others, share = (how.format(*x) for how, *x in zip(hows, before, after, strict=True))
        back = (after[1] - before[1]) / (base - before[1])
        said = method.removeprefix("recovery ")
        yield (
            f"| {said} | {rate} | {count} | {skill} | {others} | {back:.0%} | {share} |"
            f" {len(found)} |"
        )


def _around(row: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """The skill, the others, and these in the target's format: before and after, on test rows."""
    after = row["points"][-1]
    before = [point for point in row["points"] if point["stage"] != after["stage"]][-1]
    return [
        (
            _score(point, [RECOVERED]),
            _score(point, OTHERS),
            float(np.mean([point["format"][task] for task in OTHERS])),
        )
        for point in (before, after)
    ]


def noise(rows: list[Mapping]) -> Iterator[str]:
    """The target's score with so much noise on the prompt."""
    if not rows:
        yield "Not measured yet."
        return
    yield "| noise, in units of the prompt's root mean square | target | runs |"
    yield "|---:|---:|---:|"
    scores: dict[float, list[float]] = {}
    for row in rows:
        for point in row["points"]:
            if point["stage"] == "noise":
                score = _score(point, [row["target"]])
                scores.setdefault(MOST * (1 - point["coefficient"]), []).append(score)
    for size, found in sorted(scores.items()):
        yield f"| {size:.1f} | {np.mean(found):.3f} | {len(found)} |"


def _score(point: Mapping[str, Any], tasks: Sequence[str]) -> float:
    return float(right(point, tasks)[:, ~chosen_by(point["rows"])].mean())

"""From the rows of runs to what the page says: points, retention at levels, comparisons.

A method's points with one (base, seed) and target are those of all its runs, at every evaluation:
of its last training, or of a stage behind it that goes back on the way to the base. What was not
tuned at all is no point, or every method would keep what lies between it and the base. Validation
rows place the points (`statistics.at_level`), and everything that is returned is of test rows.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from bench.forgetting import rows as kept_rows
from bench.forgetting.plan import BASE, NAMED
from bench.forgetting.statistics import Difference, at_level, compare, holm, level
from tasks.lab_more import RELATED as RELATED_SKILLS
from tasks.lab_world import PRETRAINING

HELD_OUT = tuple(f"lab_{skill}" for skill in PRETRAINING)
RELATED = tuple(f"lab_{skill}" for skill in RELATED_SKILLS)
Pair = tuple[int, int]


class Point(NamedTuple):
    """One model that was scored.

    Attributes:
      target: score on the target's validation rows.
      kept: mean score of the held-out tasks, on validation rows.
      test: task -> its test rows' answers, right or wrong.
      scored: the target's task, as it was asked.
      format: share of held-out answers that look like the target's, of all rows.
      about: where it is of: knobs, step, coefficient.
      measured: what else is known of the run, where it is the end of its training.
    """

    target: float
    kept: float
    test: Mapping[str, Bool[np.ndarray, " rows"]]
    scored: str
    format: float
    about: Mapping[str, Any]
    measured: Mapping[str, Any]

    def held_out(self) -> Float[np.ndarray, " rows"]:
        """The test rows of all held-out tasks, one behind the other."""
        return self.rows_of(HELD_OUT)

    def rows_of(self, tasks: Sequence[str]) -> Float[np.ndarray, " rows"]:
        return np.concatenate([self.test[task] for task in tasks]).astype(float)


Points = dict[tuple[str, str], dict[Pair, list[Point]]]  # (target, method) -> pair -> points


def points(rows: Iterable[Mapping[str, Any]]) -> Points:
    """All points in the order of their runs, but for bases, which `bases` has."""
    found: Points = defaultdict(lambda: defaultdict(list))
    for row in rows:
        method = NAMED.get(row["method"])
        if method is None or method.name == BASE:
            continue
        last = end(row)
        for point in row["points"]:
            if point["step"] == 0 and method.after is None:
                continue
            name = method.sweeps.get(point["stage"], method.name)
            pair, measured = (row["base"], row["seed"]), row["measured"] if point is last else {}
            found[row["target"], name][pair].append(_point(row, point, method.variant, measured))
    return {key: dict(pairs) for key, pairs in found.items()}


def end(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The point of a run's row at the end of its last training, without ways back."""
    return [point for point in row["points"] if "coefficient" not in point][-1]


def scores(row: Mapping[str, Any]) -> tuple[float, float]:
    """Target and held-out mean at the end of a run, on test rows."""
    point = _point(row, end(row), NAMED[row["method"]].variant)
    return float(point.test[point.scored].mean()), float(point.held_out().mean())


def bases(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Point]:
    """(target, base) -> the base model itself."""
    return {
        (row["target"], row["base"]): _point(row, row["points"][0], "")
        for row in rows
        if row["method"] == BASE
    }


def _point(
    row: Mapping[str, Any],
    point: Mapping[str, Any],
    variant: str,
    measured: Mapping[str, Any] = MappingProxyType({}),
) -> Point:
    scored = row["target"] + variant
    tasks = (scored, *HELD_OUT, *RELATED)
    right = dict(zip(tasks, kept_rows.right(point, tasks), strict=True))
    chosen = kept_rows.chosen_by(point["rows"])
    about = {k: point[k] for k in ("stage", "step", "coefficient") if k in point}
    return Point(
        float(right[scored][chosen].mean()),
        float(np.mean([right[task][chosen].mean() for task in HELD_OUT])),
        {task: bits[~chosen] for task, bits in right.items()},
        scored,
        float(np.mean([point["format"][task] for task in HELD_OUT])),
        about | row["knobs"],
        measured,
    )


def levels(found: Points, target: str, share: float) -> dict[int, float]:
    """base -> the target score that is a share of its best fine-tuning's."""
    scores: dict[int, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (base, _), every in found.get((target, "fine-tuning"), {}).items():
        by_rate: dict[Any, list[float]] = defaultdict(list)
        for point in every:
            by_rate[point.about["LEARNING_RATE"]].append(point.target)
        for rate, values in by_rate.items():
            scores[base][rate].append(max(values))
    return {base: level(by_rate, share) for base, by_rate in scores.items()}


class Reading(NamedTuple):
    """What a method keeps with one pair, at a level, on test rows.

    Attributes:
      held_out: of each test row, the weighted mean over the points read off.
      related: mean score of the related tasks.
      target: score on the target.
      format: share of held-out answers that look like the target's.
    """

    held_out: Float[np.ndarray, " rows"]
    related: float
    target: float
    format: float

    @property
    def kept(self) -> float:
        return float(self.held_out.mean())

    def by_task(self) -> Float[np.ndarray, " tasks"]:
        """The score of each of `HELD_OUT`."""
        return self.held_out.reshape(len(HELD_OUT), -1).mean(axis=1)


def reading(every: Sequence[Point], at: float) -> Reading | None:
    """Read off a pair's points; None: the level is not reached."""
    targets, kept = (np.array([getattr(p, name) for p in every]) for name in ("target", "kept"))
    weights = at_level(targets, kept, at)
    if weights is None:
        return None
    mean = lambda of: sum(share * of(every[i]) for i, share in weights.items())  # noqa: E731
    return Reading(
        mean(Point.held_out),
        float(mean(lambda p: p.rows_of(RELATED).mean())),
        float(mean(lambda p: p.test[p.scored].mean())),
        float(mean(lambda p: p.format)),
    )


def readings(
    found: Points, target: str, share: float, at: Mapping[int, float] | None = None
) -> dict[str, dict[Pair, Reading | None]]:
    """method -> pair -> what is kept at a share of the best fine-tuning's score.

    Args:
      found: the points that are read.
      target: where.
      share: of the best fine-tuning's score.
      at: `levels`, where `found` has not all of fine-tuning's points.
    """
    at = levels(found, target, share) if at is None else at
    return {
        method: {
            pair: reading(every, at[pair[0]]) for pair, every in pairs.items() if pair[0] in at
        }
        for (where, method), pairs in found.items()
        if where == target
    }


@functools.cache
def row_tasks(rows: int) -> tuple[str, ...]:
    """The task of each of so many rows of `Point.held_out`."""
    return tuple(np.repeat(HELD_OUT, rows // len(HELD_OUT)).tolist())


def difference(
    ours: Mapping[Pair, Reading | None], theirs: Mapping[Pair, Reading | None]
) -> Difference | None:
    """Of what two methods keep, over the pairs with which both reach the level.

    Pairs of one base alone have no interval: of another base nothing is known.
    """
    pairs = sorted(p for p in ours if ours[p] is not None and theirs.get(p) is not None)
    if not pairs:
        return None
    a, b = (np.stack([of[pair].held_out for pair in pairs]) for of in (ours, theirs))
    bases = [base for base, _ in pairs]
    found = compare(a, b, bases, row_tasks(a.shape[1]))
    return found if len(set(bases)) > 1 else found._replace(low=None, high=None, p=None)


def mean_of(ours: Mapping[Pair, Reading | None]) -> Difference | None:
    """The mean of what a method keeps, over the pairs with which it reaches the level."""
    reached = {pair: each for pair, each in ours.items() if each is not None}
    nothing = {
        pair: each._replace(held_out=np.zeros_like(each.held_out)) for pair, each in reached.items()
    }
    return difference(reached, nothing)


def against(
    every: Mapping[str, Mapping[Pair, Reading | None]], method: str, family: Iterable[str]
) -> dict[str, tuple[Difference, float | None]]:
    """Each other method's difference to one; its p-value after Holm, if it is of the family.

    Args:
      every: method -> pair -> reading.
      method: that all others are compared with.
      family: methods whose comparisons are tests; to be chosen by no result.
    """
    if method not in every:
        return {}
    found = {
        name: made
        for name, pairs in every.items()
        if name != method and (made := difference(pairs, every[method])) is not None
    }
    tested = [name for name in family if name in found and found[name].p is not None]
    adjusted = dict(zip(tested, holm([found[name].p for name in tested]), strict=True))
    return {name: (made, adjusted.get(name)) for name, made in found.items()}


def changes(point: Point, base: Point) -> tuple[float, float]:
    """Shares of all held-out test rows that were lost (1 -> 0) and won (0 -> 1)."""
    after, before = point.held_out(), base.held_out()
    return float(np.mean(before > after)), float(np.mean(after > before))

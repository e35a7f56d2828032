"""How methods are compared: what each keeps at one target score, and how sure a difference is.

**Retention at a level.** A method's runs with one base and seed, over its own knobs (steps, rates,
strengths), are points (target score, kept). `at_level` reads off their upper frontier what is kept
where the target score is the level: by linear interpolation between the two neighbours, and never
beyond the best point ("not reached"). Points are placed by validation rows alone; what comes out
are weights of points, and what is reported is the same mean of those points' scores on test rows.
So a point that was lucky when it was chosen is not lucky in the report, and R stays a mean over
test rows, which is what the intervals need. Where it was placed it is lucky still: of many points
those are read whose target score came out high on validation rows; on test rows it is lower, by
one to three rows in a hundred (tests/bench/test_statistics.py). So the target score on test rows
and the number of points belong beside what is kept.

**Intervals.** Two methods are compared by differences on the same pairs (base, seed) and the same
test rows: a table [pairs, rows] in which both are drawn from a population, all rows answered by all
pairs. The plain two-level bootstrap, pairs outside and rows inside, does not hold its level here:
with 5 pairs its percentiles are a quarter too narrow (Hesterberg 2015, arXiv 1411.5279), and the
noise of single answers counts two or three times (Owen 2007, arXiv 0712.1111). The mean is linear
in both levels, so that the variances which those draws estimate have a closed form; `compare` takes
it, corrected:

    variance = between pairs / P + between rows / R - single answers / (P R)

with rows compared within their task, since tasks are fixed, as in Clark 1973 ("The language-as-
fixed-effect fallacy") for subjects and items. An interval takes Satterthwaite's degrees of freedom
for the sum. They are too many in the tails, where Holm's first steps are (10 % of families of six
had a false alarm), so that p takes the pairs' degrees alone: a difference may lie outside 0 by its
interval, and not be told apart by its p, never the other way round.

Seeds of one base share its luck: where base means differ more than the seeds of a base explain,
bases are the units, and with three of them an interval is wide. This holds its level while luck
with bases is at most as large as luck with seeds; at twice that, 3 bases and 15 pairs give an
interval that holds 93 %, and false alarms in 11 % of families of six. More bases are the only
remedy: 8 pairs of 5 bases hold it there, which is why the table has those (`table.PAIRS`).

tests/bench/test_statistics.py draws worlds whose truth is known, and the plain bootstrap beside.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
SHARES = (0.90, 0.95, 0.98)  # of the best fine-tuning score: the levels


class Difference(NamedTuple):
    """A mean difference, its 95 % interval, and the chance of a larger one if there were none.

    `low`, `high` and `p` are None where there is one pair alone: nothing is known of another seed.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def level(scores: Mapping[Hashable, Sequence[float]], share: float) -> float:
    """A target score to compare at: a share of the best fine-tuning's.

    One level for all seeds of a base and target: a level for each seed would follow its luck.

    Args:
      scores: rate -> each seed's best validation score on the target.
      share: one of `SHARES`.
    """
    return share * max(float(np.mean(values)) for values in scores.values())


def frontier(
    targets: Float[np.ndarray, " points"], kept: Float[np.ndarray, " points"]
) -> list[int]:
    """The points that no other one beats in both, from the lowest target score to the highest."""
    best, found = -np.inf, []
    for point in np.lexsort((kept, targets))[::-1]:  # from the highest target, of equals best first
        if kept[point] > best:
            best = kept[point]
            found.append(int(point))
    return found[::-1]


def at_level(
    targets: Float[np.ndarray, " points"], kept: Float[np.ndarray, " points"], level: float
) -> dict[int, float] | None:
    """The mean of which points has the target score `level`: point -> weight; None: not reached.

    Where the whole frontier lies above the level, its lowest point: that model does reach it.

    Args:
      targets, kept: of every point, on validation rows.
      level: the target score.
    """
    points = frontier(np.asarray(targets), np.asarray(kept))
    above = [point for point in points if targets[point] >= level]
    if not above:
        return None
    upper, below = above[0], points[: len(points) - len(above)]
    if not below or targets[upper] == level:
        return {upper: 1.0}
    lower = below[-1]
    share = float((level - targets[lower]) / (targets[upper] - targets[lower]))
    return {lower: 1 - share, upper: share}


def compare(
    a: Float[np.ndarray, "pairs rows"],
    b: Float[np.ndarray, "pairs rows"],
    bases: Sequence[Hashable],
    tasks: Sequence[Hashable],
) -> Difference:
    """The mean of a - b over pairs, tasks and rows, with its interval.

    Args:
      a, b: both methods' scores of every pair (base, seed) on every test row.
      bases: the base of each pair.
      tasks: the task of each row; every task counts the same.
    """
    from scipy import stats  # takes seconds

    differences = np.asarray(a, float) - np.asarray(b, float)
    names, where = np.unique(np.asarray(tasks), return_inverse=True)
    strata = [differences[:, where == task] for task in range(len(names))]
    means = np.mean([table.mean(axis=1) for table in strata], axis=0)  # [pairs]
    mean, pairs = float(means.mean()), len(means)
    if pairs < 2:
        return Difference(mean, None, None, None, pairs)
    outer, degrees = _between(means, np.asarray(bases))
    inner = max(sum(map(_rows_alone, strata)) / len(strata) ** 2, 0.0)
    error = float(np.sqrt(outer + inner))
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, pairs)
    # Satterthwaite; the rows' own degrees are very many.
    of_sum = degrees * ((outer + inner) / outer) ** 2 if outer else differences.size
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, of_sum)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return Difference(mean, mean - reach, mean + reach, p, pairs)


def _between(means: Float[np.ndarray, " pairs"], bases: np.ndarray) -> tuple[float, float]:
    """The variance of the mean that pairs, or bases if these differ more, bring; its freedom."""
    found = [(float(means.var(ddof=1)) / len(means), len(means) - 1)]
    names = np.unique(bases)
    if 1 < len(names) < len(means):
        of_bases = np.array([means[bases == name].mean() for name in names])
        found.append((float(of_bases.var(ddof=1)) / len(names), len(names) - 1))
    return max(found)


def _rows_alone(table: Float[np.ndarray, "pairs rows"]) -> float:
    """The variance that a task's rows bring to its mean, less what pairs have counted already."""
    pairs, rows = table.shape
    if rows < 2:
        return 0.0
    of_rows, of_pairs = table.mean(axis=0), table.mean(axis=1)
    single = table - of_rows - of_pairs[:, None] + table.mean()
    answers = float((single**2).sum()) / ((pairs - 1) * (rows - 1))
    return float(of_rows.var(ddof=1)) / rows - answers / (pairs * rows)


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted so that any false alarm among them is as rare as one alone (Holm 1979).

    SciPy has the false discovery rate alone, and statsmodels is large for five lines.
    """
    order = np.argsort(values)
    scaled = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()

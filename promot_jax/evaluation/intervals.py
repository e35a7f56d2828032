"""How sure a score is: 95 % intervals of SeqIO metric functions, whatever they compute.

A metric function maps (targets, predictions) to named values and says nothing about its kind. So it
is asked: its value on the whole set is compared with its values on each single row.

  the rows' mean equals the whole, rows are 0 or c (accuracy, exact match): Wilson's interval
  the rows' mean equals the whole, other values (ROUGE, token F1):          bootstrap of the mean
  anything else (corpus BLEU, macro F1):                  the function itself on resampled rows

A `Counted` metric is resampled by the sums of its rows' counts, which is a thousand times faster
than calling it and gives the same values.

Wilson's interval keeps a width where all rows agree (0 of 100 right is not known to be 0). What a
right answer would have scored, 1 or 100, then has to be told: `units`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from promot_jax.data import Counted
from promot_jax.data.quiet import seqio

MetricFn = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, Any]]
Scorer = Callable[[Sequence[int]], dict[str, float]]

MEAN_RESAMPLES = 2000
# Each is a pass of the metric function over all rows, unless it is `Counted`.
CORPUS_RESAMPLES = 300


class Interval(NamedTuple):
    """A metric's value with its 95 % interval, in the metric's own units.

    `low` and `high` are nan where no interval exists (the metric is undefined on most resamples).
    `per_row` holds the metric of each single row; None where it cannot be computed on one.
    """

    value: float
    low: float
    high: float
    per_row: list[float] | None


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """What of a metric function's result is a number; texts, images and arrays are left out."""
    found = {}
    for name, value in values.items():
        array = np.asarray(value.value if isinstance(value, seqio.metrics.Scalar) else value)
        if array.ndim == 0 and array.dtype.kind in "biuf":
            found[name] = float(array)
    return found


def interval(
    metric_fn: MetricFn,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    name: str,
    seed: int = 0,
) -> Interval:
    """The interval of one of a metric function's values; see `intervals`."""
    return intervals(metric_fn, targets, predictions, seed)[name]


def intervals(
    metric_fn: MetricFn,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    seed: int = 0,
    units: Mapping[str, float] | None = None,
) -> dict[str, Interval]:
    """The 95 % intervals of all scalars of a metric function, always with low <= value <= high.

    A metric that is not `Counted` is called n + 1 times on n rows, and 300 times more if it is a
    corpus metric.

    Args:
      metric_fn: SeqIO's, (targets, predictions) -> {name: value}.
      targets: n of them, postprocessed.
      predictions: n of them, postprocessed.
      seed: of the bootstrap; the same seed gives the same interval.
      units: name -> value of a perfect answer, 1 where not given.
    """
    score, n = _scorer(metric_fn, targets, predictions), len(targets)
    whole = score(range(n))
    rows = _single_rows(score, n, whole)
    corpus = [name for name, value in whole.items() if not _is_mean(value, rows[name])]
    resampled = _resample(score, n, corpus, seed) if corpus else {}
    found = {}
    for name, value in whole.items():
        low, high = (
            _percentiles(resampled[name])
            if name in corpus
            else _mean_interval(rows[name], (units or {}).get(name, 1.0), seed)
        )
        # A bootstrap is biased where the metric is (resampled rows repeat), by more than its width
        # in small sets; and a value at the border of its range is the border of its interval.
        low, high = (min(low, value), max(high, value)) if math.isfinite(value) else (math.nan,) * 2
        per_row = None if rows[name] is None else rows[name].tolist()
        found[name] = Interval(value, low, high, per_row)
    return found


def _scorer(metric_fn: MetricFn, targets: Sequence[Any], predictions: Sequence[Any]) -> Scorer:
    """The metric's values on rows given by their numbers."""
    pairs = list(zip(targets, predictions, strict=True))
    if isinstance(metric_fn, Counted):
        counts = metric_fn.counts(targets, predictions)
        return lambda rows: scalars(metric_fn.score(counts[rows].sum(axis=0)))
    return lambda rows: scalars(metric_fn(*map(list, zip(*(pairs[i] for i in rows), strict=True))))


def _single_rows(score: Scorer, n: int, names: Sequence[str]) -> dict[str, np.ndarray | None]:
    """name -> its value on each row, [n]; None where the function has none for a single row."""
    undefined = dict.fromkeys(names)
    rows = []
    for i in range(n):
        values = _attempt(score, [i])
        if values is None:
            return undefined
        rows.append(values)
    return undefined | {
        name: np.array([row[name] for row in rows])
        for name in names
        if all(name in row for row in rows)
    }


def _attempt(score: Scorer, rows: Sequence[int]) -> dict[str, float] | None:
    """A foreign function, on rows it may not be made for (one row, one class): None if it fails."""
    try:
        with np.errstate(all="ignore"):
            return score(rows)
    except Exception:
        return None


def _is_mean(value: float, rows: np.ndarray | None) -> bool:
    return rows is not None and math.isclose(value, rows.mean(), rel_tol=1e-6, abs_tol=1e-9)


def _mean_interval(rows: np.ndarray, unit: float, seed: int) -> tuple[float, float]:
    from scipy import stats  # takes seconds, which bad settings need not wait for

    values = set(rows.tolist())
    if values == {0.0}:
        scale = unit
    elif len(values) == 1:  # all right, or all partly right by the same amount
        scale = unit if math.isclose(rows[0], unit) else None
    else:
        scale = next(iter(values - {0.0})) if len(values) == 2 and 0.0 in values else None
    if scale is not None:
        hits = int(np.count_nonzero(rows))
        share = stats.binomtest(hits, len(rows)).proportion_ci(method="wilson")
        return tuple(sorted((float(share.low) * scale, float(share.high) * scale)))
    if len(values) == 1:
        return float(rows[0]), float(rows[0])
    bounds = stats.bootstrap(
        (rows,),
        np.mean,
        n_resamples=MEAN_RESAMPLES,
        batch=100,  # resamples held in memory at once
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def _resample(score: Scorer, n: int, names: Sequence[str], seed: int) -> dict[str, list[float]]:
    """The metric's values on sets of n rows drawn with replacement; nan where it has none."""
    found: dict[str, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(seed)
    for _ in range(CORPUS_RESAMPLES):
        values = _attempt(score, rng.integers(n, size=n)) or {}
        for name in names:
            found[name].append(values.get(name, math.nan))
    return found


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values) / 2:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)

"""A score with its uncertainty, and the two ways scores are averaged.

Over *tasks* one checkpoint's mean is as sure as its test examples allow: each task's 95 % interval
is carried into the mean. Over *seeds* what matters is how much another training run would differ:
the mean comes with the standard deviation between runs, which the test examples do not tell.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

NAN = math.nan


@dataclass(frozen=True)
class Score:
    """A value, its band [low, high] (nan where unknown), the test examples behind it, the seeds.

    With one seed the band is the 95 % interval over test examples; with several it is mean -+ `sd`.
    """

    value: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    seeds: int = 1
    sd: float = NAN


def proportion(share: float, n: int) -> Score:
    """A share of `n` outputs (0..1) with Wilson's 95 % interval (Wilson 1927).

    Written out because importing scipy.stats takes longer than making the whole page.
    """
    if n <= 0:
        return Score(share)
    z2 = 1.959964**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # rounding may not push the bounds past the share itself at 0 and 1
    return Score(share, min(share, max(0.0, center - half)), max(share, min(1.0, center + half)), n)


def over_tasks(scores: Sequence[tuple[str, Score]]) -> Score | None:
    """Plain mean of (task, score) pairs, None if there are none.

    The half-widths of different tasks add in quadrature, on each side separately, so the interval
    never leaves the metric's range (Zou and Donner 2008, "MOVER"). Rows of one task share their
    test examples (0-shot, 1-shot, ...), so theirs simply add up. `n` counts each task once.
    """
    if not scores:
        return None
    if len(scores) == 1:
        return scores[0][1]
    below, above, examples = defaultdict(float), defaultdict(float), defaultdict(int)
    for task, score in scores:
        below[task] += score.value - score.low
        above[task] += score.high - score.value
        examples[task] = max(examples[task], score.n)
    count = len(scores)
    mean = math.fsum(score.value for _, score in scores) / count
    low = mean - math.hypot(*below.values()) / count
    high = mean + math.hypot(*above.values()) / count
    return Score(mean, low, high, sum(examples.values()))


def over_seeds(scores: Sequence[Score | None]) -> Score | None:
    """Mean and standard deviation over runs; a single run keeps its interval."""
    known = [score for score in scores if score is not None]
    if len(known) < 2:
        return known[0] if known else None
    values = [score.value for score in known]
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    n = max(score.n for score in known)
    return Score(mean, mean - sd, mean + sd, n, len(known), sd)

"""Sections of the page that explain: the ladder of prompts, what was spent, and what predicts what
is kept."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.forgetting import analysis
from bench.forgetting.analysis import Pair, Point, Points, Reading
from bench.forgetting.plan import NAMED
from bench.forgetting.statistics import SHARES, Difference, compare
from bench.forgetting.table import BACK, PAIRS, TARGETS

# What a run leaves besides its answers -> where it stands among `measured`.
SCALARS = {
    "KL on the target, as asked": ("kl", "target"),
    "KL on the target without prompt": ("kl", "plain"),
    "distance of the weights": ("distance",),
    "sum of rate x sqrt(loss)": ("rate_sqrt_loss",),
    "first loss": ("first_loss",),
    "KL on held-out rows": ("kl", "held_out"),
    "share of held-out answers in the target's format": ("format",),
}
SPENT = (("first_loss", "{:.2f}"), ("rate_sqrt_loss", "{:.3f}"))
NONE = "–"
RATE = 3e-4  # at which rungs are compared
LADDER = PAIRS[max(PAIRS)][TARGETS[0]]  # and with which pairs, for both targets
RUNGS = ("finetune", "promot", "promot_joint", "lora_promot")  # recipes
PLAIN = {*BACK, "freeze_lower"}  # remedies that add nothing to the loss and no parameters
FEWEST = 5  # runs that a correlation is taken over
# Methods that are compared by what they spent -> updates before those of the last stage.
BUDGETS = {"fine-tuning": 0, "fine-tuning, 2100 steps": 0, "ProMoT": 1500}


def is_plain(method: str) -> bool:
    """Whether it tunes the model by the target's loss alone: methods then differ by what is
    attached to the model meanwhile, and by how far they go."""
    found = NAMED.get(method)
    return found is not None and found.recipe in RUNGS and {*found.remedies} <= PLAIN


def is_rung(method: str) -> bool:
    """Whether it is one of the ladder, which differ by what is attached to the model meanwhile."""
    return is_plain(method) and "freeze_lower" not in NAMED[method].remedies


def ladder(found: Points, target: str) -> Iterator[str]:
    """Methods that train alike, at one rate and with the same pairs, by what is attached meanwhile.

    Held out is at the end of the training, and so are differences; at the level it is read off the
    evaluations of these runs alone.
    """
    rungs: dict[str, dict[Pair, list[Point]]] = {}
    for (where, method), pairs in found.items():
        usual = {pair: list(filter(_usual, pairs.get(pair, ()))) for pair in LADDER}
        if where == target and is_rung(method) and any(usual.values()):
            rungs[method] = {pair: points for pair, points in usual.items() if points}
    share = SHARES[0]
    points = {(target, method): pairs for method, pairs in rungs.items()}
    read = analysis.readings(points, target, share, analysis.levels(found, target, share))
    yield (
        "| attached in training | first loss | sum of rate x sqrt(loss) | target | held out |"
        f" more than fine-tuning | more than ProMoT | kept at {share:.0%} | pairs |"
    )
    yield "|---|" + "---:|" * 8
    ends = {
        method: {
            pair: ends for pair, of in pairs.items() if (ends := [p for p in of if p.measured])
        }
        for method, pairs in rungs.items()
    }
    for method, pairs in sorted(ends.items(), key=lambda each: -_held(each[1])):
        every = [point for of in pairs.values() for point in of]
        cells = [_mean([point.measured[name] for point in every], how) for name, how in SPENT]
        cells.append(_mean([point.test[point.scored].mean() for point in every]))
        cells.append(f"{_held(pairs):.3f}")
        cells += [_more(pairs, ends.get(name, {})) for name in ("fine-tuning", "ProMoT")]
        cells += [kept(read[method]), str(len(pairs))]
        yield f"| {method} | {' | '.join(cells)} |"


def _usual(point: Point) -> bool:
    rate = point.about.get("LEARNING_RATE", RATE)
    return rate == RATE and "coefficient" not in point.about


def _held(pairs: Mapping[Pair, Sequence[Point]]) -> float:
    return float(np.mean([[p.held_out().mean() for p in points] for points in pairs.values()]))


def _mean(values: Sequence[float], how: str = "{:.3f}") -> str:
    return how.format(np.mean(values))


def _more(ours: Mapping[Pair, Sequence[Point]], theirs: Mapping[Pair, Sequence[Point]]) -> str:
    """The difference of what is held out, at the ends of runs with the same pairs."""
    pairs = sorted(pair for pair in ours if pair in theirs)
    if not pairs or ours is theirs:
        return NONE
    a, b = (
        np.stack([np.mean([p.held_out() for p in of[pair]], axis=0) for pair in pairs])
        for of in (ours, theirs)
    )
    return said(compare(a, b, [base for base, _ in pairs], analysis.row_tasks(a.shape[1])))


def said(made: Difference) -> str:
    """A difference, with its interval where it has one."""
    if made.low is None:
        return f"{made.mean:+.3f}"
    return f"{made.mean:+.3f} ({made.low:+.2f} to {made.high:+.2f})"


def budgets(found: Points, target: str) -> Iterator[str]:
    """Fine-tuning and ProMoT by what they spent: updates, and the sum of rate * sqrt(loss)."""
    yield "| method | rate | updates | sum of rate x sqrt(loss) | target | held out | runs |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for method, first in BUDGETS.items():
        groups: dict[float, list[Point]] = {}
        for points in found.get((target, method), {}).values():
            for point in points:
                if point.measured:
                    groups.setdefault(point.about["LEARNING_RATE"], []).append(point)
        for rate, every in sorted(groups.items()):
            updates = every[0].measured["updates"]
            cells = [method, str(rate), f"{first} + {updates}" if first else str(updates)]
            cells += [_mean([point.measured["rate_sqrt_loss"] for point in every])]
            cells += [_mean([point.test[point.scored].mean() for point in every])]
            cells += [_mean([point.held_out().mean() for point in every]), str(len(every))]
            yield f"| {' | '.join(cells)} |"


def kept(readings: Mapping[Pair, Reading | None]) -> str:
    """The mean over the pairs that reach a level, its interval, and [how many] where not all do."""
    found = analysis.mean_of(readings)
    if found is None:
        return "not reached" if readings else NONE
    few = f" [{found.pairs}]" if found.pairs < len(readings) else ""
    if found.low is None:
        return f"{found.mean:.3f}{few}"
    return f"{found.mean:.3f} ({max(found.low, 0):.2f}–{min(found.high, 1):.2f}){few}"


def predictors(found: Points, target: str) -> Iterator[str]:
    """How much of what runs keep each scalar explains, over all runs that tuned the whole model by
    the target's loss alone: R2 of ranks (Spearman's rho, squared)."""
    from scipy import stats

    trained = [
        point
        for (where, method), pairs in found.items()
        if where == target and is_plain(method)
        for points in pairs.values()
        for point in points
        if "kl" in point.measured
    ]
    if len(trained) < FEWEST:
        yield f"{len(trained)} runs are too few."
        return
    held = np.array([point.held_out().mean() for point in trained])
    yield f"| over {len(trained)} runs | R² of ranks |"
    yield "|---|---:|"
    for name, path in SCALARS.items():
        values = [_at(dict(p.measured) | {"format": p.format}, path) for p in trained]
        if np.ptp(values) > 0 and np.ptp(held) > 0:
            yield f"| {name} | {stats.spearmanr(values, held).statistic ** 2:.2f} |"


def _at(measured: Mapping[str, Any], path: tuple[str, ...]) -> float:
    for name in path:
        measured = measured[name]
    return float(measured)

"""Tables of the experiment on a real model: what each run ends with; methods at one target score.

Curves are compared like this. A curve is one method at one learning rate and seed, over its
evaluated steps, or a way back to the base (WiSE-FT), over its coefficients from 0 on. Where its
target score first reaches a level, what is held out is read off by linear interpolation between the
two evaluations around; a curve that does not reach the level is left out, nothing is extrapolated.
Of a method's learning rates the best one is taken at each level, by the mean over seeds, and only
rates at which every seed reaches it.
"""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from bench.real_sets import paired
from promot_jax.report.results import Checkpoint, checkpoints_of
from promot_jax.report.rows import parse_rows

LEVELS = (0.7, 0.8, 0.85, 0.9, 0.95)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t for the mean of so many seeds


class Point(NamedTuple):
    """One evaluated step of a curve, or one coefficient."""

    step: float
    target: float
    values: dict[str, float]


Curves = Mapping[tuple[str, float | None, int | None], Sequence[Point]]
# (method, learning rate, seed, step) -> {"text_losses": ..., "label_mass": ...}
Losses = Mapping[tuple[str, float | None, int | None, int], Mapping]


def tables(rows: Mapping[str, Sequence[Mapping]], measured: Mapping[str, Mapping]) -> list[Table]:
    """Both tables, of each run's rows of results.json and what `bench.real` measured of it."""
    found = {run: rated(checkpoints_of(parse_rows(of))) for run, of in rows.items()}
    every = [checkpoint for checkpoints in found.values() for checkpoint in checkpoints]
    return [_runs(found, measured), matched(curves(every))]


def rated(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Those of one run; a way back has the learning rate of the training that it goes back on."""
    rate = next((c.learning_rate for c in reversed(checkpoints) if c.learning_rate), None)
    return [
        c if c.coefficient is None else dataclasses.replace(c, learning_rate=rate)
        for c in checkpoints
    ]


def _runs(found: Mapping[str, list[Checkpoint]], measured: Mapping[str, Mapping]) -> Table:
    table = Table(title="each run's best checkpoint, held out without its prompt")
    shots = sorted({row.shots for of in found.values() for c in of for row in c.held_rows()})
    names = ["run", "step", "target", *(f"held out, {k}-shot" for k in shots)]
    names += [*(f"True/False, {k}-shot" for k in shots), "P(True)+P(False)", "text against base"]
    for name in names:
        table.add_column(name, justify="left" if name == "run" else "right")
    base = measured["base"]["text_losses"]
    for run, more in measured.items():
        best = [c for c in found[run] if c.selected or run == "base"][-1]
        change, error = paired(more["text_losses"], base)
        masses = more["label_mass"].values()  # none, where nothing held out was asked
        table.add_row(
            run,
            str(best.step),
            _score(best.target()),
            *(_score(best.held_with(k)) for k in shots),
            *(_share(best, k) for k in shots),
            f"{statistics.fmean(masses):.1e}" if masses else "-",
            f"{change:+.3f} ± {error:.3f}" if run != "base" else f"{statistics.fmean(base):.3f}",
        )
    return table


def _score(score) -> str:
    return "-" if score is None else f"{score.value:.3f} ({score.low:.2f}-{score.high:.2f})"


def _share(checkpoint: Checkpoint, shots: int) -> str:
    return f"{_format_share(checkpoint, shots):.1%}" if checkpoint.held_rows() else "-"


def _format_share(checkpoint: Checkpoint, shots: int) -> float:
    """The share of held-out outputs that are the target task's answers."""
    keys = frozenset(row.key for row in checkpoint.held_rows() if row.shots == shots)
    share = checkpoint.format_share(keys)
    return 0.0 if share is None else share.value


def curves(checkpoints: Iterable[Checkpoint], losses: Losses | None = None) -> Curves:
    """Points in order of each method, rate and seed; stages beside the model's are others."""
    found = defaultdict(list)
    for each in checkpoints:
        target, stage = each.target(), each.stage.split("-")[-1]
        if target is None or each.learning_rate is None or stage == "prompt":
            continue  # of a base, of a prompt alone
        if not each.held_rows():
            continue  # of a stage that leaves what is held out as it is
        method = each.method if stage == "model" else f"{each.method}: {stage}"
        run = method, each.learning_rate, each.seed
        values = {
            f"held out, {shots}-shot": each.held_with(shots).value
            for shots in sorted({row.shots for row in each.held_rows()})
        } | {
            f"True/False, {shots}-shot": _format_share(each, shots)
            for shots in sorted({row.shots for row in each.held_rows()})
        }
        place = each.step if each.coefficient is None else each.coefficient
        more = _more(losses or {}, (*run, each.step))
        found[run].append(Point(place, target.value, values | more))
    return {key: sorted(points) for key, points in found.items()}


def _more(losses: Losses, point: tuple) -> dict[str, float]:
    """A point's losses, as changes to the base's."""
    if point not in losses:
        return {}
    base = next(found for (method, *_), found in losses.items() if method == "base")
    here = losses[point]
    return {
        "P(True)+P(False)": statistics.fmean(here["label_mass"].values()),
        "text against base": paired(here["text_losses"], base["text_losses"])[0],
    }


def with_losses(rows: Sequence[Mapping], losses: Losses) -> list[Table]:
    """Both tables of an experiment whose losses are known at every evaluated step."""
    found = curves(checkpoints_of(parse_rows(rows)), losses)
    return [_points(found), matched(found)]


def _points(found: Curves) -> Table:
    """Every method and rate over its steps, the mean over seeds."""
    names = next(iter(found.values()))[0].values if found else {}
    table = Table(title="over the steps, mean over seeds")
    for name in ("method", "learning rate", "step", "target", *names):
        table.add_column(name, justify="right")
    alike = defaultdict(list)
    for (method, rate, _), points in found.items():
        for point in points:
            alike[method, rate, point.step].append(point)
    for (method, rate, step), points in alike.items():
        cells = [interval([point.values[name] for point in points]) for name in names]
        target = interval([point.target for point in points])
        table.add_row(method, f"{rate:g}" if rate else "-", str(step), target, *cells)
    return table


def reading(points: Sequence[Point], level: float) -> dict[str, float] | None:
    """A curve's values where its target first reaches a level; None where it never does."""
    for before, after in zip([points[0], *points], points, strict=False):
        if after.target >= level:
            gained = after.target - before.target
            share = (level - before.target) / gained if gained > 0 else 1.0
            share = min(max(share, 0.0), 1.0)
            return {
                name: before.values[name] + share * (after.values[name] - before.values[name])
                for name in after.values
                if name in before.values
            }
    return None


def matched(found: Curves) -> Table:
    """What is held out where methods have reached the same target scores."""
    names = next(iter(found.values()))[0].values if found else {}
    table = Table(title="at the same target score: each method's best learning rate")
    for name in ("target", "method", "learning rate", *names):
        table.add_column(name, justify="right")
    for level in LEVELS:
        for method in dict.fromkeys(method for method, _, _ in found):
            rated = {
                rate: readings
                for rate, readings in _readings(found, method, level).items()
                if None not in readings
            }
            if not rated:
                table.add_row(f"{level:.2f}", method, "not reached", *["-"] * len(names))
                continue
            rate = max(rated, key=lambda rate: _kept(rated[rate]))
            cells = [interval([reading[name] for reading in rated[rate]]) for name in names]
            table.add_row(f"{level:.2f}", method, f"{rate:g}" if rate else "-", *cells)
    return table


def _readings(found: Curves, method: str, level: float) -> dict:
    """rate -> what each seed's curve reads at the level."""
    rated = defaultdict(list)
    for (name, rate, _), points in found.items():
        if name == method:
            rated[rate].append(reading(points, level))
    return rated


def _kept(readings: Sequence[Mapping[str, float]]) -> float:
    """The mean of what is held out, over shots and seeds."""
    held = [v for r in readings for name, v in r.items() if name.startswith("held out")]
    return statistics.fmean(held)


def interval(values: Sequence[float]) -> str:
    """The mean over seeds, with its 95 % interval where there are several."""
    mean, count = statistics.fmean(values), len(values)
    if count not in T_95:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {T_95[count] * statistics.stdev(values) / count**0.5:.3f}"

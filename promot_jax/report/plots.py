"""The pictures: forgetting curve, format share, trade-off, learning rates, loss.

Bands are 95 % intervals over test examples, or one standard deviation over seeds when there are
several. Each drawing returns None when the results have nothing for it.
"""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from promot_jax.report.canvas import (
    DPI,
    STYLE,
    band,
    figure_with,
    legend,
    rates_axis,
    reference,
    score_limits,
    steps_axis,
)
from promot_jax.report.colors import looks
from promot_jax.report.files import Damage, StageFolder, loss_curve
from promot_jax.report.results import Checkpoint
from promot_jax.report.rows import BASE
from promot_jax.report.scores import Score
from promot_jax.report.table import Line, Measure, Results
from promot_jax.report.text import label, rate_text

Curves = list[tuple[Line, dict[int, Score]]]


def draw_all(results: Results, folders: Sequence[StageFolder], damage: Damage) -> dict[str, bytes]:
    """Each picture that has something to show: name -> PNG."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Of characters that the font lacks, which are boxes then, and of numbers beyond all scales.
        for kind in (UserWarning, RuntimeWarning):
            warnings.simplefilter("ignore", kind)
        figures = {
            "forgetting_curve": forgetting_curve(results),
            "format_share": format_share(results),
            "tradeoff": tradeoff(results),
            "way_back": way_back(results),
            "learning_rate": learning_rate(results),
            "loss": loss(results, folders, damage),
        }
        return {name: _png(figure) for name, figure in figures.items() if figure is not None}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, facecolor="white")
    return buffer.getvalue()


def forgetting_curve(results: Results) -> Figure | None:
    """Target and held-out mean over the steps of the last stage, a panel each (paper: Fig. 1)."""
    panels = [(*named, _curves(results, named[1])) for named in _measures(results)]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    figure, axes = figure_with(len(panels))
    for axis, (title, measure, curves) in zip(axes, panels, strict=True):
        _draw(axis, results, curves, measure)
        axis.set_title(label(title))
    _legend(figure, results, [line for *_, curves in panels for line, _ in curves])
    return figure


def format_share(results: Results) -> Figure | None:
    """Share of held-out outputs in the target task's format, over steps (paper: Fig. 2)."""

    def measure(checkpoint: Checkpoint) -> Score | None:
        return checkpoint.format_share(results.keys)

    curves = _curves(results, measure)
    if not curves:
        return None
    figure, (axis,) = figure_with(1)
    _draw(axis, results, curves, measure)
    axis.set_title("Held-out outputs in the target task's format")
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _legend(figure, results, [line for line, _ in curves])
    return figure


def tradeoff(results: Results) -> Figure | None:
    """Every checkpoint of the last stages as (target, held-out mean) (paper: Figs. 5 and 6)."""
    points = [
        (line.method, checkpoint in line.finals, target.value, held.value)
        for line in results.lines
        for checkpoint in (*line.trail, *line.tries)
        if (target := checkpoint.target()) and (held := checkpoint.held(results.keys))
    ]
    if len(points) < 2:
        return None
    style = looks(results.methods)
    figure, (axis,) = figure_with(1, height=3.9)
    for method, final, x, y in points:
        color, marker = style[method]
        size = (130 if method == BASE else 52) if final else 24
        edge = "black" if final else "none"
        alpha, layer = (0.9, 4) if final else (0.4, 3)
        axis.scatter(
            x, y, size, color, marker=marker, edgecolors=edge, linewidths=0.8, alpha=alpha,
            zorder=layer,
        )  # fmt: skip
    axis.set_title("Every evaluated checkpoint (outlined: the selected ones)")
    axis.set_xlabel(label(results.target_name()))
    axis.set_ylabel("held-out mean")
    score_limits(axis)
    score_limits(axis, "x")
    present = {method for method, *_ in points}
    legend(figure, style, {m: m for m in results.methods if m in present}, linestyle="")
    return figure


def way_back(results: Results) -> Figure | None:
    """Target and held-out mean against the coefficient of stages that transform weights."""
    panels = []
    for title, measure in _measures(results):
        curves = [(line, line.way_back(measure)) for line in results.shown if line.tries]
        panels.append((title, measure, [(line, curve) for line, curve in curves if curve]))
    panels = [panel for panel in panels if any(len(curve) > 1 for _, curve in panel[2])]
    if not panels:
        return None
    figure, axes = figure_with(len(panels))
    for axis, (title, measure, curves) in zip(axes, panels, strict=True):
        style = looks(results.methods)
        for above, (line, curve) in zip(reversed(range(len(curves))), curves, strict=True):
            band(axis, curve, style[line.method], above, markers=True)
        reference(axis, results.base and results.base.final(measure))
        score_limits(axis)
        axis.set_title(label(title))
        axis.set_xlabel("how much of the training is kept")
    _legend(figure, results, [line for *_, curves in panels for line, _ in curves])
    return figure


def learning_rate(results: Results) -> Figure | None:
    """Target and held-out mean of the selected checkpoints against the learning rate."""
    lines: dict[str, list[Line]] = {}
    for line in results.lines:
        if line.learning_rate:
            lines.setdefault(line.method, []).append(line)
    lines = {method: mine for method, mine in lines.items() if len(mine) > 1}
    measured = [line for mine in lines.values() for line in mine]
    panels = [panel for panel in _measures(results) if any(map(_final(panel[1]), measured))]
    if not panels:
        return None
    figure, axes = figure_with(len(panels))
    rates, style = sorted({line.learning_rate for line in measured}), looks(results.methods)
    for axis, (title, measure) in zip(axes, panels, strict=True):
        for above, (method, mine) in zip(reversed(range(len(lines))), lines.items(), strict=True):
            points = {li.learning_rate: s for li in mine if (s := li.final(measure))}
            band(axis, points, style[method], above, markers=True)
        reference(axis, results.base and results.base.final(measure))
        rates_axis(axis, rates)
        score_limits(axis)
        axis.set_title(label(title))
        axis.set_xlabel("learning rate (log scale)")
    shown = [*lines, *[BASE] * (results.base is not None)]
    legend(figure, style, {method: method for method in shown})
    return figure


def loss(results: Results, folders: Sequence[StageFolder], damage: Damage) -> Figure | None:
    """Training loss over steps, a panel a stage name; thin: as logged, thick: running mean."""
    stages: dict[str, list[tuple[str, dict[int, float]]]] = {}
    place: dict[str, int] = {}
    for folder in folders:
        if len(curve := loss_curve(folder, damage)) > 1:
            stages.setdefault(folder.name, []).append((folder.method, curve))
            place[folder.name] = max(place.get(folder.name, 0), folder.k)
    if not stages:
        return None
    methods = list(dict.fromkeys([*results.methods, *(folder.method for folder in folders)]))
    style = looks(methods)
    figure, axes = figure_with(len(stages))
    for axis, stage in zip(axes, sorted(stages, key=place.__getitem__), strict=True):
        for method, curve in stages[stage]:
            color, values = style[method][0], list(curve.values())
            axis.plot(list(curve), values, color=color, alpha=0.25, linewidth=0.7)
            axis.plot(list(curve), _smooth(values), color=color, linewidth=1.4)
        axis.set_title(label(f"Training loss, stage '{stage}'"))
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        steps_axis(axis)
    present = {method for curves in stages.values() for method, _ in curves}
    legend(figure, style, {m: m for m in methods if m in present}, marker="")
    return figure


def _measures(results: Results) -> list[tuple[str, Measure]]:
    percent = " in %" if results.top == 100 else ""
    return [
        (f"Target{results.target_name()[6:]}{percent}", Checkpoint.target),
        (f"Held-out mean{percent}", lambda checkpoint: checkpoint.held(results.keys)),
    ]


def _final(measure: Measure) -> Callable[[Line], Score | None]:
    return lambda line: line.final(measure)


def _curves(results: Results, measure: Measure) -> Curves:
    """Each tuned method's curve, [] when no method was evaluated at more than one step."""
    curves = [(line, line.curve(measure)) for line in results.shown if line.method != BASE]
    curves = [(line, curve) for line, curve in curves if curve]
    return curves if any(len(curve) > 1 for _, curve in curves) else []


def _draw(axis: Axes, results: Results, curves: Curves, measure: Measure) -> None:
    style = looks(results.methods)
    for above, (line, curve) in zip(reversed(range(len(curves))), curves, strict=True):
        band(axis, curve, style[line.method], above, markers=len(curve) <= 25)
    reference(axis, results.base and results.base.final(measure))
    score_limits(axis)
    steps_axis(axis)
    axis.set_xlabel("step of the last stage")


def _legend(figure: Figure, results: Results, present: Sequence[Line]) -> None:
    """Of pictures with one curve a method; their learning rates are named where they differ."""
    rates = {line.method: line.learning_rate for line in results.shown if line in present}
    differ = results.sweep and len(set(rates.values())) > 1
    names: Mapping[str, str] = {
        method: f"{method} ({rate_text(rate)})" if differ else method
        for method, rate in rates.items()
    }
    base = {BASE: BASE} if results.base else {}
    legend(figure, looks(results.methods), {**names, **base})


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over a centred window of a tenth of the curve, narrower where it begins, and falls."""
    smooth = []
    for i in range(len(values)):
        reach = min(i, len(values) // 20)
        part = values[i - reach : i + reach + 1]
        smooth.append(math.fsum(part) / len(part))
    return smooth

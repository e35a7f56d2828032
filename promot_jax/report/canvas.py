"""What all pictures share: size, type, a method's colour and marker, bands, axes, the legend.

Every picture is 900 pixels wide, as wide as a README shows it. A method keeps its colour (Okabe and
Ito's palette, distinct for colour-blind readers) and its marker in all of them; the base model is a
grey dashed line. Curves that coincide stay visible: the ones below are drawn broader.
"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from promot_jax.report.colors import KNOWN
from promot_jax.report.rows import BASE
from promot_jax.report.scores import Score
from promot_jax.report.text import label, rate_text

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "text.parse_math": False,  # a method may be called anything
}
WIDTH, DPI = 6.0, 150
DASHED = (0, (4, 3))


def figure_with(panels: int, height: float = 3.1) -> tuple[Figure, list[Axes]]:
    """A 900 pixel wide figure of at most two panels a row, `height` inches each."""
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(WIDTH, 0.35 + height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def band(
    axis: Axes, points: Mapping[float, Score], look: tuple[str, str], above: int, markers: bool
) -> None:
    """One curve with its band; the more curves come `above` it, the broader it is drawn."""
    x, scores = list(points), list(points.values())
    color, marker = look
    axis.plot(
        x,
        [score.value for score in scores],
        color=color,
        linewidth=1.5 + 0.8 * above,
        marker=marker if markers or len(x) == 1 else None,
        markersize=3.5 + 1.4 * above,
        zorder=3,
        clip_on=False,
    )
    low, high = [score.low for score in scores], [score.high for score in scores]
    axis.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)


def reference(axis: Axes, score: Score | None) -> None:
    """The base model's score as a dashed line."""
    if score is not None:
        axis.axhline(score.value, color=KNOWN[BASE][0], linestyle=DASHED, linewidth=1.2, zorder=4)


def steps_axis(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axis.margins(x=0.02)


def rates_axis(axis: Axes, rates: Sequence[float]) -> None:
    """Logarithmic, with ticks at the rates themselves, at most five of them."""
    axis.set_xscale("log")
    axis.set_xticks(rates[:: math.ceil(len(rates) / 5)])
    axis.minorticks_off()
    axis.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: rate_text(rate)))


def score_limits(axis: Axes, which: str = "y") -> None:
    """0 to 1 for shares and accuracies, from 0 for larger scales: cut axes exaggerate."""
    largest = getattr(axis.dataLim, f"interval{which}")[1]
    top = largest if largest > 1.2 else 1.0
    getattr(axis, f"set_{which}lim")(-0.02 * top, 1.03 * top)


def legend(
    figure: Figure, style: Mapping[str, tuple[str, str]], names: Mapping[str, str], **kind: object
) -> None:
    """One legend above all panels. `names`: method -> its label; `kind`: of Line2D.

    The base model is a dashed line unless `kind` says that the picture has no lines.
    """
    handles = []
    for method, name in names.items():
        color, marker = style[method]
        how = {"color": color, "marker": marker, "markersize": 5, "label": label(name), **kind}
        if method == BASE and kind.get("linestyle") != "":
            how |= {"marker": "", "linestyle": DASHED}
        handles.append(Line2D([], [], **how))
    fits = sum(len(label(name)) + 6 for name in names.values()) <= 76  # characters in 900 pixels
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(handles) if fits else min(len(handles), 3),
        handlelength=1.7,
        handletextpad=0.5,
        columnspacing=1.1,
    )

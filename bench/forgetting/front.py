"""The picture: what each method keeps, at every target score."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from bench.forgetting import analysis
from promot_jax.report.canvas import DPI, STYLE, figure_with
from promot_jax.report.colors import OTHERS

SHARES = np.arange(0.5, 1.001, 0.01)
# As in the report of a run
LOOKS = {"fine-tuning": "#D55E00", "ProMoT": "#0072B2", "prompt tuning": "#CC79A7"}
MOST = 8  # methods in one picture
TITLES = {"lab_nli": "NLI", "lab_translate_quellan": "Translation"}


def curves(found: analysis.Points, target: str) -> dict[str, np.ndarray]:
    """What each method keeps at each of `SHARES`: the mean of all pairs, nan where one lacks."""
    read = [analysis.readings(found, target, share) for share in SHARES]
    return {
        method: np.array([
            np.mean([each.kept for each in at[method].values()])
            if at[method] and None not in at[method].values()
            else np.nan
            for at in read
        ])
        for method in read[0]
    }  # fmt: skip


def draw(found: analysis.Points, targets: Sequence[str], path: Path) -> None:
    """One panel a target; the methods that keep most, and those that are compared in any case."""
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_with(len(targets))
        every = {target: curves(found, target) for target in targets}
        shown = _shown(every)
        colors = LOOKS | {
            name: OTHERS[i % len(OTHERS)][0]
            for i, name in enumerate(name for name in shown if name not in LOOKS)
        }
        for axis, target in zip(axes, targets, strict=True):
            for above, name in enumerate(reversed(shown)):  # where some coincide all are seen
                if name in every[target]:
                    width = 1.2 + 0.6 * above
                    axis.plot(SHARES, every[target][name], color=colors[name], label=name,
                              linewidth=width, zorder=2 + len(shown) - above)  # fmt: skip
            axis.set(title=TITLES[target], xlabel="target score, of the best fine-tuning's")
            axis.set_ylim(-0.02, 1.02)
        axes[0].set_ylabel("held-out mean")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=DPI)


def _shown(every: dict[str, dict[str, np.ndarray]]) -> list[str]:
    means: dict[str, list[float]] = {}
    for of_target in every.values():
        for name, values in of_target.items():
            high = values[SHARES >= 0.9]
            means.setdefault(name, []).append(float(np.nan_to_num(high).mean()))
    ranked = sorted(means, key=lambda name: -np.mean(means[name]))
    return [name for name in ranked if name in LOOKS or ranked.index(name) < MOST - len(LOOKS)]

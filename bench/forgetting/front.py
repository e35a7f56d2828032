"""The picture: what each method keeps, at every target score."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from bench.forgetting import analysis
from promot_jax.report.canvas import DPI, STYLE, figure_with
from promot_jax.report.colors import KNOWN, OTHERS

SHARES = np.arange(0.7, 1.001, 0.01)
# One of each kind, the last on top; colours of methods that a run's report has are the same there.
COLORS = {
    "text tag": OTHERS[4][0],
    "LoRA": OTHERS[3][0],
    "fine-tuning": KNOWN["finetune"][0],
    "fine-tuning + WiSE-FT": OTHERS[0][0],
    "frozen lower layers": KNOWN["promot_joint"][0],
    "self-answered replay": KNOWN["prompt_tuning"][0],
    "replay": OTHERS[2][0],
    "ProMoT": KNOWN["promot"][0],
    "ProMoT, LoRA as the prompt": OTHERS[1][0],
}
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
    """One panel a target, one line for each of `COLORS` that there are runs of."""
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_with(len(targets))
        lines = {}
        for axis, target in zip(axes, targets, strict=True):
            every = curves(found, target)
            for name in [name for name in COLORS if name in every]:
                (lines[name],) = axis.plot(SHARES, every[name], color=COLORS[name], linewidth=2)
            axis.set(title=TITLES[target], xlabel="target score, of the best fine-tuning's")
            axis.set_ylim(-0.02, 1.02)
        axes[0].set_ylabel("held-out mean")
        names = [name for name in reversed(COLORS) if name in lines]
        figure.legend([lines[name] for name in names], names, loc="outside lower center", ncols=3)
        figure.savefig(path, dpi=DPI)

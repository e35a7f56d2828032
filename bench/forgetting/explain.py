"""Sections of the page that explain: the ladder of prompts, what predicts what is kept, and what
comes back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.forgetting.analysis import HELD_OUT, Point, Reading
from bench.forgetting.noise import MOST
from bench.forgetting.plan import NAMED
from bench.forgetting.rows import chosen_by, right

# What a run leaves besides its answers -> where it stands among `measured`.
SCALARS = {
    "KL on the target, as asked": ("kl", "target"),
    "KL on the target without prompt": ("kl", "plain"),
    "KL on held-out rows": ("kl", "held_out"),
    "distance of the weights": ("distance",),
    "sum of rate x sqrt(loss)": ("rate_sqrt_loss",),
    "first loss": ("first_loss",),
    "share of held-out answers in the target's format": ("format",),
}
RUNGS = ("finetune", "promot", "lora_promot")  # recipes
FEWEST = 5  # runs that a correlation is taken over
RECOVERED = "lab_qa"  # the skill that bench/forgetting/recovery.gin has rows of
# Methods that are compared by what they spent -> updates before those of the last stage.
BUDGETS = {"fine-tuning": 0, "fine-tuning, 2100 steps": 0, "ProMoT": 1500}
OTHERS = tuple(task for task in HELD_OUT if task != RECOVERED)


def is_rung(method: str) -> bool:
    """Whether a method is one of the ladder: it differs from ProMoT by what it is attached to."""
    found = NAMED.get(method)
    return found is not None and not found.remedies and found.recipe in RUNGS


def ladder(readings: Mapping[float, Mapping[str, Mapping]], rows: list[Mapping]) -> Iterator[str]:
    """Methods that train alike, by what stands in front of the target's inputs.

    Args:
      readings: share -> method -> pair -> reading, of one target.
      rows: of all runs with that target.
    """
    shares = sorted(readings)
    heads = " | ".join(f"kept at {share:.0%}" for share in shares)
    yield f"| attached in training | first loss | {heads} | target at the end | held out |"
    yield "|---|---:|" + "---:|" * (len(shares) + 2)
    names = dict.fromkeys(row["method"] for row in rows)
    for method in [name for name in names if is_rung(name) or name == "ProMoT"]:
        at = [row for row in rows if row["method"] == method and _usual(row)]
        if not at:
            continue
        kept = " | ".join(_kept(readings[share].get(method, {})) for share in shares)
        first = np.mean([row["measured"]["first_loss"] for row in at])
        target = np.mean([end(row)[0] for row in at])
        held = np.mean([end(row)[1] for row in at])
        yield f"| {method} | {first:.2f} | {kept} | {target:.3f} | {held:.3f} |"


def budgets(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Fine-tuning and ProMoT by what they spent: updates, and the sum of rate * sqrt(loss).

    Args:
      rows: of all runs with one target.
    """
    yield "| method | rate | updates | sum of rate x sqrt(loss) | target | held out | runs |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        if row["method"] in BUDGETS:
            groups.setdefault((row["method"], row["knobs"]["LEARNING_RATE"]), []).append(row)
    for (method, rate), found in sorted(groups.items(), key=lambda x: (BUDGETS[x[0][0]], x[0])):
        spent = np.mean([row["measured"]["rate_sqrt_loss"] for row in found])
        target, held, _ = np.mean([end(row) for row in found], axis=0)
        updates = found[0]["measured"]["updates"]
        updates = f"{BUDGETS[method]} + {updates}" if BUDGETS[method] else f"{updates}"
        yield (
            f"| {method} | {rate} | {updates} | {spent:.3f} | {target:.3f} | {held:.3f} |"
            f" {len(found)} |"
        )


def goes_on_with(method: str) -> str | None:
    """What a method's runs go on with, by which their rows are of a section of their own."""
    return NAMED[method].then if method in NAMED else None


def recovery(rows: list[Mapping], bases: Mapping[int, Point]) -> Iterator[str]:
    """Before and after the updates on rows of one skill: that skill, and the others.

    Came back: of what the others lost to the base, the share that is there again; of means.
    """
    if not rows:
        yield "Not measured yet."
        return
    yield "| | rate | rows | that skill | the others | came back | in the target's format | runs |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        knobs = row["knobs"]
        key = (row["method"], knobs["LEARNING_RATE"], knobs["RECOVERY_ROWS"])
        groups.setdefault(key, []).append(row)
    for (method, rate, count), found in groups.items():
        before, after = np.mean([_around(row) for row in found], axis=0)
        base = np.mean([bases[row["base"]].rows_of(OTHERS).mean() for row in found])
        hows = ("{:.3f} → {:.3f}", "{:.3f} → {:.3f}", "{:.1%} → {:.1%}")
        skill, others, share = (how.format(*x) for how, *x in zip(hows, before, after, strict=True))
        back = (after[1] - before[1]) / (base - before[1])
        said = method.removeprefix("recovery ")
        yield (
            f"| {said} | {rate} | {count} | {skill} | {others} | {back:.0%} | {share} |"
            f" {len(found)} |"
        )


def _around(row: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """The skill, the others, and these in the target's format: before and after, on test rows."""
    after = row["points"][-1]
    before = [point for point in row["points"] if point["stage"] != after["stage"]][-1]
    return [
        (
            _score(point, [RECOVERED]),
            _score(point, OTHERS),
            float(np.mean([point["format"][task] for task in OTHERS])),
        )
        for point in (before, after)
    ]


def noise(rows: list[Mapping]) -> Iterator[str]:
    """The target's score with so much noise on the prompt."""
    if not rows:
        yield "Not measured yet."
        return
    yield "| noise, in units of the prompt's root mean square | target | runs |"
    yield "|---:|---:|---:|"
    scores: dict[float, list[float]] = {}
    for row in rows:
        for point in row["points"]:
            if point["stage"] == "noise":
                score = _score(point, [row["target"]])
                scores.setdefault(MOST * (1 - point["coefficient"]), []).append(score)
    for size, found in sorted(scores.items()):
        yield f"| {size:.1f} | {np.mean(found):.3f} | {len(found)} |"


def _score(point: Mapping[str, Any], tasks: Sequence[str]) -> float:
    return float(right(point, tasks)[:, ~chosen_by(point["rows"])].mean())


def _usual(row: Mapping[str, Any]) -> bool:
    return row["knobs"].get("LEARNING_RATE") in (3e-4, None)


def _kept(readings: Mapping[Any, Reading | None]) -> str:
    reached = [each.kept for each in readings.values() if each is not None]
    if not reached:
        return "not reached"
    few = f" ({len(reached)} of {len(readings)})" if len(reached) < len(readings) else ""
    return f"{np.mean(reached):.3f}{few}"


def end(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Target, held-out mean and format share at the end of the training, on test rows."""
    trained = [point for point in row["points"] if "coefficient" not in point]
    point = max(trained, key=lambda each: each["step"])
    scored = row["target"] + NAMED[row["method"]].variant
    share = np.mean([point["format"][task] for task in HELD_OUT])
    return _score(point, [scored]), _score(point, HELD_OUT), float(share)


def predictors(rows: list[Mapping]) -> Iterator[str]:
    """How much of what runs keep each scalar explains, over all runs that trained the model.

    R2 of a straight line in the scalar's logarithm, and of ranks (Spearman's rho, squared).
    """
    from scipy import stats

    trained = [row for row in rows if "kl" in row["measured"] and _tunes(row["method"])]
    if len(trained) < FEWEST:
        yield f"{len(trained)} runs are too few."
        return
    ends = [end(row) for row in trained]
    kept = np.array([held for _, held, _ in ends])
    yield f"| over {len(trained)} runs | R², log | R², ranks |"
    yield "|---|---:|---:|"
    for name, path in SCALARS.items():
        values = np.array(
            [end[2] if path == ("format",) else _at(row["measured"], path)
             for row, end in zip(trained, ends, strict=True)]
        )  # fmt: skip
        if np.ptp(values) == 0 or np.ptp(kept) == 0:
            continue
        logs = np.log(np.maximum(values, 1e-6))
        line, ranks = stats.pearsonr(logs, kept).statistic, stats.spearmanr(values, kept).statistic
        yield f"| {name} | {line**2:.2f} | {ranks**2:.2f} |"


def _tunes(method: str) -> bool:
    """Whether it changes the model: a prompt alone keeps everything by construction.

    Without FINCH, whose factor is not in the rate of the log.
    """
    found = NAMED.get(method)
    tunes = found is not None and found.recipe not in ("prompt_tuning", "evaluate")
    return tunes and "finch" not in found.remedies


def _at(measured: Mapping[str, Any], path: tuple[str, ...]) -> float:
    for name in path:
        measured = measured[name]
    return float(measured)

"""results.json -> checkpoints: what was measured, of whom, and which numbers count.

A row of results.json is one metric of one task at one evaluated step. The rows of one (method,
learning rate, seed, stage, step) are a *checkpoint*. Scores are shares of what right answers score;
where a metric goes to 100, as BLEU does, all are percentages. A checkpoint's target score is
measured the way the method uses the target task: with the prompt where there is one, and with the
fewest shots. Its held-out scores are measured the way everybody else would use the model: without
the prompt.

Two means stand for them. The plain one is the paper's, which takes it over the tasks with one shot.
But guessing alone scores 50 in WiC and 0 in translation, so a mean can rise by coming nearer to
chance; and the groups have different numbers of tasks. The *chance-adjusted* mean takes
(score - chance) / (1 - chance), 0 for guessing, and gives every group the same weight.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promot_jax.errors import UserError
from promot_jax.report.scores import NAN, Score, over_tasks, proportion

TARGET, BASE = "target", "base"
Key = tuple[str, int]  # (task, shots)


@dataclass(frozen=True)
class Row:
    """One line of results.json; `adjusted` is `score` above chance, `format_share` 0..1 or None.

    `too_long` rows were shortened, which left all rows with `mean_shots` shots on average.
    """

    method: str
    stage: str
    step: int
    task: str
    group: str
    shots: int
    prompt: bool
    metric: str
    score: Score
    adjusted: Score
    format_share: Score | None
    selected: bool
    seed: int | None
    learning_rate: float | None
    too_long: int
    mean_shots: float

    @property
    def key(self) -> Key:
        return self.task, self.shots


@dataclass(frozen=True)
class Checkpoint:
    """The rows of one evaluated checkpoint, one for each (task, shots)."""

    method: str
    learning_rate: float | None
    seed: int | None
    stage: str
    step: int
    selected: bool
    rows: tuple[Row, ...]

    def target(self) -> Score | None:
        """Target score; with several target tasks their mean."""
        best: dict[str, Row] = {}
        for row in sorted(self.rows, key=lambda row: (not row.prompt, row.shots)):
            if row.group == TARGET:
                best.setdefault(row.task, row)
        return over_tasks([(task, row.score) for task, row in best.items()])

    def held_rows(self, keys: frozenset[Key] | None = None) -> list[Row]:
        """Held-out rows, only those of `keys` if given."""
        rows = [row for row in self.rows if row.group != TARGET]
        return [row for row in rows if keys is None or row.key in keys]

    def held(self, keys: frozenset[Key] | None = None) -> Score | None:
        """Plain mean over held-out (task, shots)."""
        return over_tasks([(row.task, row.score) for row in self.held_rows(keys)])

    def held_with(self, shots: int) -> Score | None:
        """Plain mean over the held-out tasks with so many shots."""
        return over_tasks([(r.task, r.score) for r in self.held_rows() if r.shots == shots])

    def group(self, name: str) -> Score | None:
        """Plain mean over the (task, shots) of one held-out group."""
        return over_tasks([(row.task, row.score) for row in self.rows if row.group == name])

    def adjusted_group(self, name: str) -> Score | None:
        """Chance-adjusted mean over the (task, shots) of one held-out group."""
        return over_tasks([(row.task, row.adjusted) for row in self.rows if row.group == name])

    def adjusted(self) -> Score | None:
        """Mean over the held-out groups of their chance-adjusted means."""
        groups = dict.fromkeys(row.group for row in self.held_rows())
        return over_tasks([(group, self.adjusted_group(group)) for group in groups])

    def format_share(self, keys: frozenset[Key] | None = None) -> Score | None:
        """Mean share of held-out outputs that are in the target task's format."""
        rows = [row for row in self.held_rows(keys) if row.format_share is not None]
        return over_tasks([(row.task, row.format_share) for row in rows])


def shared_keys(checkpoints: Iterable[Checkpoint]) -> frozenset[Key]:
    """The held-out (task, shots) that all checkpoints with any were evaluated on."""
    sets = [{row.key for row in checkpoint.held_rows()} for checkpoint in checkpoints]
    sets = [keys for keys in sets if keys]
    return frozenset(set.intersection(*sets)) if sets else frozenset()


def read_rows(workdir: Path) -> list[Any]:
    """The contents of WORKDIR/results.json.

    Raises: UserError if the file is missing or is not a JSON list.
    """
    path = workdir / "results.json"
    if not path.is_file():
        raise UserError(
            f"no results to report: {path} does not exist; give the work directory of a run that"
            " has evaluated at least once (the value of WORKDIR in 'promot run')"
        )
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); remove it and start 'promot run' on this WORKDIR"
            " again"
        ) from error
    if not isinstance(rows, list) or not rows:
        raise UserError(
            f"{path} must hold a list with at least one row; remove it and start 'promot run' on"
            " this WORKDIR again"
        )
    return rows


def parse_rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows that have a value; of repeated ones the last counts.

    Raises: UserError for a row that lacks a field or has one of the wrong type, by its number.
    """
    unique = {}
    top = max((_scale(raw) for raw in rows), default=1.0)
    for number, raw in enumerate(rows, start=1):
        try:
            row = _row(raw, top)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"row {number} of results.json is not a result ({type(error).__name__}: {error});"
                " it needs at least method, task, group and value"
            ) from error
        if math.isfinite(row.score.value):
            run = (row.method, row.learning_rate, row.seed, row.stage, row.step)
            unique[run, row.key, row.prompt, row.metric] = row
    if not unique:
        raise UserError("results.json has no row with a value; let the run reach an evaluation")
    return list(unique.values())


def checkpoints_of(rows: Sequence[Row]) -> list[Checkpoint]:
    """All evaluated checkpoints, in the order of their first rows."""
    first_metric: dict[str, str] = {}
    found: dict[tuple, dict[Key, Row]] = {}
    selected = set()
    for row in rows:
        run = (row.method, row.learning_rate, row.seed, row.stage, row.step)
        kept = found.setdefault(run, {})
        if row.selected:
            selected.add(run)
        if first_metric.setdefault(row.task, row.metric) != row.metric:
            continue
        wants_prompt = row.group == TARGET
        if row.key not in kept or row.prompt == wants_prompt:
            kept[row.key] = row
    return [Checkpoint(*run, run in selected, tuple(kept.values())) for run, kept in found.items()]


def _scale(raw: Any) -> float:
    """What right answers score: 100 or 1; rows of other makers may not say."""
    return float(raw.get("scale") or 1.0) if isinstance(raw, Mapping) else 1.0


def _row(raw: Mapping[str, Any], top: float) -> Row:
    """A row, its score on the scale 0 to `top`."""
    n, rate, share = int(raw.get("n") or 0), raw.get("learning_rate"), raw.get("format_share")
    seed, chance, factor = raw.get("seed"), float(raw.get("chance") or 0.0), top / _scale(raw)
    named = [raw["value"], raw.get("low"), raw.get("high")]
    values = [NAN if value is None else float(value) * factor for value in named]
    above = [(value - chance * top) / (1 - chance) for value in values]
    return Row(
        method=str(raw["method"]),
        stage=str(raw.get("stage") or ""),
        step=int(raw.get("step") or 0),
        task=str(raw["task"]),
        group=str(raw["group"]),
        shots=int(raw.get("shots") or 0),
        prompt=bool(raw.get("prompt")),
        metric=str(raw.get("metric") or "score"),
        score=Score(*values, n),
        adjusted=Score(*above, n),
        format_share=None if share is None else proportion(float(share), n),
        selected=bool(raw.get("selected")),
        seed=None if seed is None else int(seed),
        learning_rate=None if rate is None else float(rate),
        too_long=int(raw.get("too_long") or 0),
        mean_shots=float(raw.get("mean_shots", raw.get("shots")) or 0),
    )

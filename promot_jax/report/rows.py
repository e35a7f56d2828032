"""results.json -> rows, every field checked: others may have written it, or altered it.

Scores are shares of what right answers score; where a metric goes to 100, as BLEU does, all are
percentages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promot_jax.errors import UserError
from promot_jax.files import read_json, unseal
from promot_jax.report.scores import NAN, Score, proportion
from promot_jax.report.text import one_line

TARGET, BASE = "target", "base"
RESULTS = "results.json"
FIX = "restore it, or run into another WORKDIR"
LARGEST = 1e12  # what pictures can be drawn of
Key = tuple[str, int]  # (task, shots)


@dataclass(frozen=True)
class Row:
    """One line of results.json; `adjusted` is `score` above chance, `format_share` 0..1 or None.

    `too_long` rows were shortened, which left all rows with `mean_shots` shots on average. The
    targets of `unwritable` rows are nothing that the vocabulary can write: with all others right
    the score is `ceiling`. A `coefficient` is that of a stage that transforms weights. `lora` is
    what a model's LoRA was multiplied by, None of a model that has none.
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
    unwritable: int
    ceiling: float | None
    coefficient: float | None = None
    lora: float | None = None

    @property
    def key(self) -> Key:
        return self.task, self.shots


def read_rows(workdir: Path) -> list[Any]:
    """The contents of WORKDIR/results.json.

    Raises:
      FileNotFoundError: there is none.
      UserError: it is not a JSON list with anything in it.
    """
    path = workdir / RESULTS
    rows = read_json(path, list, FIX)
    if not rows:
        raise UserError(f"{path} must hold a list with at least one row: {FIX}")
    return rows


def top_of(rows: Sequence[Any]) -> float:
    """What right answers score on the page: 100 as soon as one metric goes to 100, else 1."""
    scales = [raw.get("scale") for raw in rows if isinstance(raw, Mapping)]
    return max((float(x) for x in scales if _is_number(x) and 1e-6 <= x <= LARGEST), default=1.0)


def parse_rows(rows: Sequence[Any]) -> list[Row]:
    """The rows that have a value; of repeated ones the last counts.

    Raises: UserError for a row that lacks a field, has one of the wrong type, or is not as it was
      written, by its number.
    """
    unique, top = {}, top_of(rows)
    for number, raw in enumerate(rows, start=1):
        try:
            if not isinstance(raw, Mapping):
                raise ValueError("no JSON object")
            row = _row(unseal(raw) if "check" in raw else raw, top)
        except ValueError as error:
            raise UserError(f"row {number} of {RESULTS} is damaged ({error}): {FIX}") from error
        if math.isfinite(row.score.value):
            run = (row.method, row.learning_rate, row.seed, row.stage, row.step)
            unique[run, row.key, row.prompt, row.metric] = row
    if not unique:
        raise UserError(f"{RESULTS} has no row with a value; let the run reach an evaluation")
    return list(unique.values())


def _row(raw: Mapping[str, Any], top: float) -> Row:
    """A row, its score on the scale 0 to `top`."""
    n, share = _whole(raw, "n"), _number(raw, "format_share", 0, 1)
    chance = _number(raw, "chance", 0, 1) or 0.0
    scale = _number(raw, "scale", 1e-6) or 1.0
    if chance == 1:
        raise ValueError("chance = 1: a share below 1 is wanted")
    if "value" not in raw:
        raise ValueError("it has no value")
    named = [_number(raw, name) for name in ("value", "low", "high", "ceiling")]
    *values, ceiling = [NAN if value is None else value * (top / scale) for value in named]
    above = [(value - chance * top) / (1 - chance) for value in values]
    shots = _whole(raw, "shots")
    left = _number(raw, "mean_shots", 0)
    return Row(
        method=_text(raw, "method"),
        stage=_text(raw, "stage", ""),
        step=_whole(raw, "step"),
        task=_text(raw, "task"),
        group=_text(raw, "group"),
        shots=shots,
        prompt=_flag(raw, "prompt"),
        metric=_text(raw, "metric", "score"),
        score=Score(*values, n),
        adjusted=Score(*above, n),
        format_share=None if share is None else proportion(share, n),
        selected=_flag(raw, "selected"),
        seed=None if raw.get("seed") is None else _whole(raw, "seed"),
        learning_rate=_number(raw, "learning_rate", 0),
        too_long=_whole(raw, "too_long"),
        mean_shots=shots if left is None else left,
        unwritable=_whole(raw, "unwritable"),
        ceiling=None if math.isnan(ceiling) else ceiling,
        coefficient=_number(raw, "coefficient", 0, 1),
        lora=_number(raw, "lora", -10, 10),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(name: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{name} = {repr(value)[:60]}: {wanted} is wanted")


def _number(
    raw: Mapping[str, Any], name: str, low: float = -LARGEST, high: float = LARGEST
) -> float | None:
    value = raw.get(name)
    if value is None:
        return None
    if not _is_number(value) or not low <= value <= high:  # as a NaN never is
        raise _wrong(name, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _whole(raw: Mapping[str, Any], name: str) -> int:
    value = 0 if raw.get(name) is None else raw[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise _wrong(name, value, "a whole number of at least 0")
    return value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return bool(value)


def _text(raw: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = raw.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return one_line(value)

"""What a page is made of: a line a method (and learning rate), over seeds.

A line's scores are those of its selected checkpoint; its curve has all of its last stage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from promot_jax.report.results import Checkpoint, checkpoints_of, shared_keys
from promot_jax.report.rows import BASE, TARGET, Key, Row, parse_rows, top_of
from promot_jax.report.scores import Score, over_seeds
from promot_jax.report.text import number

Measure = Callable[[Checkpoint], Score | None]


@dataclass(frozen=True)
class Line:
    """One method at one learning rate: the checkpoints of its last stage.

    `finals` are the selected ones, one a seed; `trail` are all, of steps of training. Where the
    last stage transforms weights, all of it are `tries`, and the trail is that of the last stage
    that trains.
    """

    method: str
    learning_rate: float | None
    finals: tuple[Checkpoint, ...]
    trail: tuple[Checkpoint, ...]
    tries: tuple[Checkpoint, ...] = ()

    def final(self, measure: Measure) -> Score | None:
        """`measure` of the selected checkpoints, over seeds."""
        return over_seeds([measure(checkpoint) for checkpoint in self.finals])

    def curve(self, measure: Measure) -> dict[float, Score]:
        """Step -> `measure` over seeds, at the steps that every seed has."""
        return _curve(self.trail, lambda checkpoint: checkpoint.step, measure)

    def way_back(self, measure: Measure) -> dict[float, Score]:
        """Coefficient -> `measure` over seeds, at those that every seed has."""
        return _curve(self.tries, lambda checkpoint: checkpoint.coefficient, measure)


def _curve(
    checkpoints: Sequence[Checkpoint], place: Callable[[Checkpoint], float], measure: Measure
) -> dict[float, Score]:
    seeds = {checkpoint.seed for checkpoint in checkpoints}
    points: dict[float, dict[int | None, Score]] = {}
    for checkpoint in checkpoints:
        if (score := measure(checkpoint)) is not None:
            points.setdefault(place(checkpoint), {})[checkpoint.seed] = score
    complete = {at: by for at, by in points.items() if len(by) == len(seeds)}
    found = sorted((complete or points).items())
    return {at: over_seeds(list(by.values())) for at, by in found}


class Results:
    """Everything the page and the pictures draw from.

    Args: rows as in results.json. Raises: UserError for malformed ones.

    Attributes: `top`, what right answers score: scores are shares of 1, or percentages.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self.rows: list[Row] = parse_rows(rows)
        self.top = top_of(rows)
        self.checkpoints = checkpoints_of(self.rows)
        self.methods = sorted(
            dict.fromkeys(row.method for row in self.rows), key=lambda method: method != BASE
        )
        self.groups = list(dict.fromkeys(r.group for r in self.rows if r.group != TARGET))
        self.lines = [line for method in self.methods for line in self._lines(method)]
        self.keys: frozenset[Key] = shared_keys(
            c for line in self.lines for c in (*line.trail, *line.tries)
        )

    def _lines(self, method: str) -> list[Line]:
        mine = [c for c in self.checkpoints if c.method == method]
        chosen = [c for c in mine if c.selected] or mine
        stage = list(dict.fromkeys(c.stage for c in chosen))[-1]
        last = [c for c in mine if c.stage == stage]
        trained = [c.stage for c in mine if c.coefficient is None]
        rates = sorted({c.learning_rate for c in last}, key=lambda rate: rate or 0.0)
        lines = []
        for rate in rates:
            here = [c for c in last if c.learning_rate == rate]
            latest = {}  # seed -> its selected checkpoint, or the last one of an unfinished run
            for checkpoint in sorted(here, key=lambda c: (c.selected, c.step)):
                latest[checkpoint.seed] = checkpoint
            tries = tuple(c for c in here if c.coefficient is not None)
            if tries:
                way = (c for c in mine if c.stage in trained[-1:] and c.learning_rate == rate)
                here = [c for c in way if c.coefficient is None]
            lines.append(Line(method, rate, tuple(latest.values()), tuple(here), tries))
        return lines

    def held(self) -> list[Row]:
        return [row for checkpoint in self.checkpoints for row in checkpoint.held_rows()]

    @cached_property
    def guessable(self) -> list[str]:
        """The held-out groups in which guessing scores."""
        guessable = (row for row in self.held() if row.adjusted.value != row.score.value)
        return list(dict.fromkeys(row.group for row in guessable))

    @cached_property
    def base(self) -> Line | None:
        """The untuned model, if it was evaluated."""
        return next((line for line in self.lines if line.method == BASE), None)

    @cached_property
    def sweep(self) -> bool:
        """Whether some method was run at several learning rates."""
        return len(self.lines) > len(self.methods)

    @cached_property
    def shown(self) -> list[Line]:
        """One line a method for curves: at the rate most methods share, so that none is favoured.

        Of several such rates it is the smallest that learns the target as well as any (within 2 %,
        about what a few hundred examples tell apart): small rates forget least, so the choice is
        never made against a method. A method without that rate is shown at its own such rate.
        Held-out scores play no part.
        """
        by_rate: dict[float | None, list[Line]] = {}
        for line in self.lines:
            if line.learning_rate is not None and line.method != BASE:
                by_rate.setdefault(line.learning_rate, []).append(line)
        most = max(map(len, by_rate.values()), default=0)
        common = _gentlest({rate: mine for rate, mine in by_rate.items() if len(mine) == most})
        shown = []
        for method in self.methods:
            mine = {line.learning_rate: [line] for line in self.lines if line.method == method}
            shown += mine[common if common in mine else _gentlest(mine)]
        return shown

    @cached_property
    def common(self) -> frozenset[Key]:
        """The held-out (task, shots) that the lines' checkpoints have in common."""
        return shared_keys(checkpoint for line in self.lines for checkpoint in line.finals)

    def compared(self, measure: Measure) -> Measure:
        """A measure over the held-out tasks in common, else a mean would change with its tasks.

        Where there are none, it is over each checkpoint's own.
        """

        def of(checkpoint: Checkpoint) -> Score | None:
            rows = (r for r in checkpoint.rows if r.group == TARGET or r.key in self.common)
            return measure(replace(checkpoint, rows=tuple(rows)) if self.common else checkpoint)

        return of

    def kept(self, line: Line) -> float | None:
        """The line's share of the base model's held-out mean, over the tasks in common."""
        if self.base is None:
            return None
        keys = self.common or shared_keys([*self.base.finals, *line.finals])
        mine = line.final(lambda c: c.held(keys))
        base = self.base.final(lambda c: c.held(keys))
        return mine.value / base.value if mine and base and base.value > 0 else None

    def target_name(self) -> str:
        """`target: lab_nli (accuracy)`."""
        rows = [row for row in self.rows if row.group == TARGET]
        names = dict.fromkeys(row.task for row in rows)
        return f"target: {', '.join(names)} ({rows[0].metric})" if rows else TARGET

    def notes(self) -> list[str]:
        """What a reader must know to read the numbers rightly; [] as a rule."""
        notes = []
        if self.keys != {
            row.key
            for line in self.lines
            for c in (*line.trail, *line.tries)
            for row in c.held_rows()
        }:
            notes.append(
                "Not every checkpoint was scored on the same held-out tasks: means, curves and"
                " scatter use those in common where there are any; groups are each line's own."
            )
        unfinished = [m for m in self.methods if not any(c.selected for c in self._of(m))]
        if unfinished:
            notes.append(
                f"No checkpoint selected yet, the last one is shown: {', '.join(unfinished)}."
            )
        finals = [row for line in self.lines for c in line.finals for row in c.rows]
        shortened = {
            f"{row.task} {row.shots}-shot ({row.too_long} of {row.score.n} rows; all have"
            f" {row.mean_shots:.2g} shots on average)": None
            for row in finals
            if row.too_long
        }
        if shortened:
            notes.append(f"Too long inputs lost shots, then tokens: {'; '.join(shortened)}.")
        limited = {
            f"{row.task} ({row.unwritable} of {row.score.n} rows{self._at_most(row)})": None
            for row in finals
            if row.unwritable
        }
        if limited:
            notes.append(f"Targets that the model's vocabulary cannot write: {'; '.join(limited)}.")
        return notes

    def _at_most(self, row: Row) -> str:
        return "" if row.ceiling is None else f"; at most {number(row.ceiling, self.top)}"

    def _of(self, method: str) -> list[Checkpoint]:
        return [c for c in self.checkpoints if c.method == method]


def _gentlest(by_rate: Mapping[float | None, Sequence[Line]]) -> float | None:
    """The smallest learning rate whose target scores sum to within 2 % of the best rate's."""

    def goal(lines: Sequence[Line]) -> float:
        return math.fsum(s.value for line in lines if (s := line.final(Checkpoint.target)))

    goals = {rate: goal(lines) for rate, lines in by_rate.items()}
    best = max(goals.values(), default=0.0)
    good = [rate for rate, value in goals.items() if value >= best - 0.02 * abs(best)]
    return min(good, key=lambda rate: rate or 0.0, default=None)

"""Rows -> checkpoints: what was measured, of whom, and which numbers count.

A row of results.json is one metric of one task at one evaluated step. The rows of one (method,
learning rate, seed, stage, step) are a *checkpoint*. Its target score is measured the way the
method uses the target task: with the prompt where there is one, and with the fewest shots. Its
held-out scores are measured the way everybody else would use the model: without the prompt.

Two means stand for them. The plain one is the paper's, which takes it over the tasks with one shot.
But guessing alone scores 50 in WiC and 0 in translation, so a mean can rise by coming nearer to
chance; and the groups have different numbers of tasks. The *chance-adjusted* mean takes
(score - chance) / (1 - chance), 0 for guessing, and gives every group the same weight.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from promot_jax.report.rows import TARGET, Key, Row
from promot_jax.report.scores import Score, over_tasks


@dataclass(frozen=True)
class Checkpoint:
    """The rows of one evaluated checkpoint, one for each (task, shots).

    Of a stage that transforms weights, a step is a coefficient that was tried.
    """

    method: str
    learning_rate: float | None
    seed: int | None
    stage: str
    step: int
    selected: bool
    rows: tuple[Row, ...]

    @property
    def coefficient(self) -> float | None:
        """That of a stage that transforms weights, from 0 to 1."""
        return next((row.coefficient for row in self.rows), None)

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

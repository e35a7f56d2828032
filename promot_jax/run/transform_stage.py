"""A stage that transforms what was trained before it: each coefficient is tried and scored, and the
one that is kept is saved as a checkpoint, which all that reads checkpoints takes for one.

In the place of updates it counts coefficients: step n is the n-th that is tried. Their scores are
in the results as soon as they are known, and what follows from them is computed from there, so a
killed stage goes on with the coefficient that it was at.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from promot_jax.console import say
from promot_jax.evaluation import Evaluator
from promot_jax.models import Variables
from promot_jax.run.agreement import disagree
from promot_jax.run.beginning import beginning
from promot_jax.run.stage import Stage, selecting_score
from promot_jax.run.stage_run import StageRun
from promot_jax.training import begin
from promot_jax.training.transforms import places, transformed


class TransformStage(StageRun):
    """A stage with a `transform`."""

    def done(self) -> bool:
        """Whether all coefficients are scored, and the one that is kept is saved."""
        return self.checkpoints.latest() is not None and self._next() is None

    def run(self, before: Variables | None) -> Variables:
        """Tries coefficients until it is known which one is kept, and keeps it."""
        self.leave_if_asked()
        variables = self.began() if before is None else before
        tuned = {path: variables[path] for path in self.prepared.transformed.paths}
        was = self._was()
        self.begin_logs(len(self._tried()))
        while (coefficient := self._next()) is not None:
            self._score(variables | self._new(was, tuned, coefficient), coefficient)
        kept, step = self._kept()
        new = self._new(was, tuned, kept)
        self._keep(variables, new, kept, step)
        return variables | new

    def _was(self) -> Variables:
        """What is gone back to."""
        about = self.prepared.transformed
        if self.stage.transform.reference == "base":
            found = beginning(self.context)[0]
        else:
            with self.other(about.tuned) as stage:
                found = stage.began()
        return {path: found[path] for path in about.paths}

    def _new(self, was: Variables, tuned: Variables, coefficient: float) -> Variables:
        settings = self.stage.transform
        where = places(list(tuned), self.context.layout.abstract(), settings.seed)
        return transformed(settings.change, was, tuned, coefficient, where)

    def _tried(self) -> dict[float, int]:
        """The coefficients that are scored, and at which steps."""
        mine = (row for row in self.results.rows if row["stage"] == self.name)
        return {row["coefficient"]: row["step"] for row in mine}

    def _scores(self) -> dict[float, float | None]:
        """Their selecting scores."""
        return {
            each: selecting_score(self.stage, self.results.of(self.name, step))
            for each, step in self._tried().items()
        }

    def _next(self) -> float | None:
        """The coefficient to try next, if any."""
        return self.stage.transform.next(self._scores()) if self.stage.evaluates(0) else None

    def _score(self, variables: Variables, coefficient: float) -> None:
        step = len(self._tried()) + 1
        said = f"evaluating with {coefficient:.4g} of the training kept"
        rows = self.evaluate(variables, step, said)
        self.results.add([row | {"coefficient": coefficient} for row in rows])

    def due(self, evaluator: Evaluator, step: int) -> bool:
        """All is scored with each coefficient."""
        return True

    def _kept(self) -> tuple[float, int]:
        """The coefficient that is kept, and its step."""
        settings, tried, scores = self.stage.transform, self._tried(), self._scores()
        if not tried:
            return settings.kept({}, {settings.first[0]: None}), 1
        of = {each: self.results.of(self.name, step) for each, step in tried.items()}
        kept = settings.kept(scores, {each: mean_score(self.stage, of[each]) for each in of})
        if settings.reach is not None and (goal := settings.goal(scores)) is not None:
            far = abs(scores[kept] - goal) > settings.within
            missed = ", and nothing that was tried comes nearer" if far else ""
            say(f"{self.name}: {goal:.4g} was to be reached, it is {scores[kept]:.4g}{missed}")
        say(f"{self.name}: {kept:.4g} of the training is kept")
        return kept, tried[kept]

    def _keep(self, variables: Variables, new: Variables, kept: float, step: int) -> None:
        if (saved := self.checkpoints.latest()) is None:
            state = begin(self.context.layout.mesh, self.context.run.seed + self.index, step)
            state = dataclasses.replace(state, trained=new)
            rest = {path: x for path, x in variables.items() if path not in new}
            score = selecting_score(self.stage, self.results.of(self.name, step))
            self.save(state, rest, {"coefficient": kept}, score)
            self.checkpoints.wait()
        elif saved != step:  # of scores that are gone and were measured again
            raise disagree(self.results, self.checkpoints, "which coefficient is kept")
        self.results.select(self.name, step)


def mean_score(stage: Stage, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean of the selecting score and of the held-out mean, as shares of 1; None: neither is.

    The held-out mean is over tasks and shots, the first metric of each.
    """
    held: dict[tuple[str, int], float] = {}
    for row in rows:
        if row["group"] != "target" and row["value"] is not None:
            held.setdefault((row["task"], row["shots"]), row["value"] / row["scale"])
    parts = [selecting_score(stage, rows), statistics.fmean(held.values()) if held else None]
    known = [each for each in parts if each is not None]
    return statistics.fmean(known) if known else None

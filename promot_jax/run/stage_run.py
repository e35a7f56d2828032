"""A stage in its directory: what all kinds of stages share, and the kind that only evaluates.

Where a stage begins, where its checkpoints and scores go, and what of them is known when a run goes
on. What the other kinds do in between lies in files of their own (`training_stage.py`).
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from promot_jax.console import say
from promot_jax.evaluation import Evaluator
from promot_jax.models import Variables
from promot_jax.models.lora import scaled
from promot_jax.run.agreement import agree, counted
from promot_jax.run.beginning import beginning, origin_of
from promot_jax.run.prepare import Context
from promot_jax.run.progress import Progress
from promot_jax.run.workdir import Results
from promot_jax.training import Checkpoints, Interrupted, MetricsLog, State
from promot_jax.training.variables import ADDED, read, reference, verify


class StageRun:
    """One stage in its directory; of itself it evaluates what the stage before left."""

    def __init__(
        self,
        context: Context,
        index: int,
        root: Path,
        results: Results,
        stop: Callable[[], bool] = lambda: False,
    ):
        self.context, self.index, self.root, self.results = context, index, root, results
        self.stop = stop
        self.prepared = context.stages[index]
        self.stage = self.prepared.stage
        self.name = self.prepared.directory
        self.checkpoints = Checkpoints(root / self.name / "checkpoints")
        agree(self.stage, self.name, self.checkpoints, results)
        self.earlier = {path for stage in context.stages[:index] for path in stage.owner}
        self.log: MetricsLog | None = None
        self._reference: tuple[frozenset, dict] | None = None

    def close(self) -> None:
        """Waits for what is still being written."""
        self.checkpoints.close()
        if self.log is not None:
            self.log.close()

    def done(self) -> bool:
        """Whether the stage has reached its end, and was evaluated there."""
        end = self.stage.steps
        measured = self.results.has(self.name, end) or not self.stage.evaluates(end)
        return measured and (not end or self.checkpoints.latest() == end)

    def finished(self) -> None:
        """Makes sure that nothing of a finished stage's results is missing, nor damaged."""
        if best := self.checkpoints.best():
            self.read(best)
        self.results.select(self.name, best or 0)

    def run(self, before: Variables | None) -> Variables:
        """Does what the stage is for; `before`: what the stage before left, None: not in memory.

        Returns the variables of the best checkpoint.
        """
        self.leave_if_asked()
        variables = self.began() if before is None else before
        self.begin_logs(0)
        if self.stage.evaluates(0) and not self.results.has(self.name, 0):
            self.results.add(self.evaluate(variables, 0))
        self.results.select(self.name, 0)
        return variables

    def began(self) -> Variables:
        """The variables that this stage began with, whole: as long as the files are, the same.

        Those of the best checkpoint of the last stage before it that has any; else the run's own
        beginning.
        """
        for index in reversed(range(self.index)):
            with self.other(index) as stage:
                if stage.checkpoints.best() is not None:
                    return stage.whole(stage.checkpoints.best())
        return beginning(self.context)[0]

    def other(self, index: int) -> contextlib.closing["StageRun"]:
        """Another stage of the run, to see what it left."""
        return contextlib.closing(StageRun(self.context, index, self.root, self.results))

    def read(self, step: int) -> Variables:
        """What a checkpoint of this stage holds."""
        return read(self.checkpoints, step, self.context.layout, str(self.root / self.name))

    def whole(self, step: int) -> Variables:
        """A checkpoint's variables, and from the run's beginning what it does not hold."""
        stored = self.read(step)
        missing = set(self.context.layout.abstract()) - set(stored)
        if not missing:
            return stored
        rest = {path: x for path, x in origin_of(self.context).items() if path in missing}
        verify(rest, self.checkpoints.note(step)["reference"], self.context.run.base)
        return stored | rest

    def begin_logs(self, step: int) -> None:
        """Forgets what was logged and measured after a step, and says what is scored."""
        self.results.forget(self.name, step)
        self.log = MetricsLog(self.root / self.name, step)
        for evaluator in self.prepared.evaluators:
            for task, lost in evaluator.lost.items():
                say(f"{self.name}: evaluation on {task}: {lost}")

    def leave_if_asked(self) -> None:
        """Stops an evaluation, after each batch."""
        if self.stop():
            raise Interrupted(f"stopped in stage {self.name}: run the same command to go on")

    def evaluate(
        self, variables: Variables, step: int, doing: str | None = None
    ) -> list[dict[str, Any]]:
        """The rows of results.json; `doing`: what is shown meanwhile."""
        settings = self.context.run
        has_lora = settings.model.lora is not None
        rows: list[dict[str, Any]] = []
        due = [each for each in self.prepared.evaluators if self.due(each, step)]
        said = f"{self.name}: {doing or f'evaluating at step {step}'}"
        asked = sum(each.rows for each in due)
        with contextlib.closing(Progress(said, asked, self.leave_if_asked)) as progress:
            for evaluator in due:
                scale = evaluator.evaluation.lora
                generate = functools.partial(self.context.generator, scaled(variables, scale))
                found = evaluator(generate, step, self.root / self.name / "samples", progress)
                rows += [row | {"lora": scale} for row in found] if has_lora else found
        trained = self.prepared.trained
        rates = [part.peak(trained.steps) for part in trained.train]
        for row in rows:
            if row["task"] in settings.targets:
                row["group"] = "target"
            row |= {"method": settings.method, "stage": self.name, "selected": False}
            row |= {"seed": settings.seed, "learning_rate": max(rates, default=None)}
            if row["value"] is not None:
                name = f"{row['task']}/{row['shots']}shot/{row['metric']}"
                self.log.scalars(step, {name: row["value"]})
        return rows

    def due(self, evaluator: Evaluator, step: int) -> bool:
        """Whether something is to be scored at a step at which anything is."""
        every = evaluator.evaluation.every
        return every is None or step % every == 0 or step == self.stage.steps

    def save(
        self, state: State, frozen: Variables, note: dict[str, Any], score: float | None
    ) -> None:
        """Writes a checkpoint: what this stage and those before it train, prompts and LoRA.

        Args:
          state: has what this stage makes.
          frozen: everything else.
          note: what is to be known of the checkpoint.
          score: what selects the best one.
        """
        ours = {
            path: x for path, x in frozen.items() if path in self.earlier or path.startswith(ADDED)
        }
        untouched = {path: x for path, x in frozen.items() if path not in ours}
        if self._reference is None or self._reference[0] != frozenset(untouched):
            seed = self.context.run.seed
            self._reference = (frozenset(untouched), reference(seed, untouched))
        note = {"reference": self._reference[1], "mesh": self.mesh()} | note
        note["rows"] = counted(self.results, self.name, int(state.step))
        self.log.flush()
        self.checkpoints.save(state, ours, note, score)

    def mesh(self) -> str:
        """The mesh in words: the same words, the same results to the last bit."""
        sizes = (f"{axis} {n}" for axis, n in self.context.layout.mesh.shape.items() if n > 1)
        hosts = jax.process_count()
        return (", ".join(sizes) or "one device") + (f" on {hosts} hosts" if hosts > 1 else "")

"""A stage that trains: begun or resumed, evaluated and saved when due, and its best checkpoint."""

import functools
import time

import jax

from promot_jax.console import say
from promot_jax.data import Batches
from promot_jax.hosts import of_first
from promot_jax.models import Variables
from promot_jax.run.agreement import counted
from promot_jax.run.beginning import beginning
from promot_jax.run.prepare import Prepared
from promot_jax.run.reference import reference_of
from promot_jax.run.stage import selecting_score
from promot_jax.run.stage_run import StageRun
from promot_jax.training import (
    Diverged,
    Interrupted,
    Plan,
    Reference,
    State,
    begin,
    thaw,
    train,
)
from promot_jax.training.finite import all_finite


class TrainingStage(StageRun):
    """A stage of one step or more."""

    def __init__(self, *about, **more):
        super().__init__(*about, **more)
        self.begun, self.saved, self.saving = time.time_ns(), time.monotonic(), 0.0
        self.anchor: Reference | None = None

    @functools.cached_property
    def complete(self) -> Prepared:
        """With all that it trains on."""
        return self.prepared.complete()

    def run(self, before: Variables | None) -> Variables:
        """Trains to the end."""
        self.leave_if_asked()
        step = self.checkpoints.latest()
        if before is None and (step is None or self.stage.compares):
            before = self.began()
        if self.stage.compares:
            self.anchor = self.compared_with(before)
        state, frozen, seconds = self._fresh(before) if step is None else self._resume(step)
        begun = int(state.step)
        self.begin_logs(begun)
        if self.stage.evaluates(begun) and not self.results.has(self.name, begun):
            rows = self.evaluate(state.trained | frozen, begun)
            self.results.add(rows)
            if step is not None:  # a run killed before this does it when it goes on: `agree`
                score = selecting_score(self.stage, rows)
                self.checkpoints.rescore(step, score, rows=counted(self.results, self.name, step))
        state, frozen = self._train(state, frozen, seconds)
        self.checkpoints.wait()
        best, last = self.checkpoints.best() or 0, int(state.step)
        stored = self.read(best) if best != last else {}
        self.results.select(self.name, best)  # now that it is known to be whole
        if best == last:
            return state.trained | frozen
        # A checkpoint from before something was unfrozen does not hold it.
        return frozen | stored if state.trained.keys() <= stored.keys() else self.whole(best)

    def compared_with(self, before: Variables) -> Reference:
        """What the stage compares itself with; `before`: what it began with."""
        if self.stage.reference == "base" and self.index:
            before, _ = beginning(self.context)
        return reference_of(self.context, self.complete, before)

    def _fresh(self, before: Variables) -> tuple[State, Variables, float]:
        mesh, seed = self.context.layout.mesh, self.context.run.seed + self.index
        return begin(mesh, seed), before, 0.0

    def _resume(self, step: int) -> tuple[State, Variables, float]:
        # What is due at this very step is unfrozen by the loop: the checkpoint was made before.
        state = begin(self.context.layout.mesh, self.context.run.seed + self.index, step - 1)
        state, frozen = thaw(state, self.whole(step), self.stage.train, self.prepared.owner)
        state = self.checkpoints.state(step, state)
        note, here = self.checkpoints.note(step), self.mesh()
        before = note.get("mesh", here)
        moved = f" on a mesh of {here}, was {before}" if before != here else ""
        say(f"{self.name}: continues at step {step}{moved}")
        return state, frozen, note["seconds"]

    def _train(self, state: State, frozen: Variables, seconds: float) -> tuple[State, Variables]:
        mesh = self.context.layout.mesh
        try:
            state, frozen, _ = train(
                self._plan(), state, frozen, mesh, self.log, seconds, self.stop
            )
        except Diverged as error:
            self.checkpoints.wait()
            raise Diverged(f"{error}: {self._way_on()}") from error
        return state, frozen

    def _way_on(self) -> str:
        """After a divergence: this run's settings stay what they are, so it takes another one.

        That begins where this stage began: its own checkpoints may be spoilt, if finite.
        """
        said = "give the same command a lower learning rate and another WORKDIR"
        earlier = [each for each in self.context.stages[: self.index] if each.stage.steps]
        if not earlier:
            return said
        flags = [f"--gin.BASE='\"{self.root / earlier[-1].directory}\"'"]
        flags += [f"--gin.{each.stage.name}/run.Stage.steps=0" for each in earlier]
        return f"{said}, and {' '.join(flags)} to begin at this stage"

    def _plan(self) -> Plan:
        stage, mesh = self.stage, self.context.layout.mesh
        return Plan(
            name=self.name,
            steps=stage.steps,
            loss=stage.loss(self.context.layout.model),
            parts=stage.train,
            owner=self.prepared.owner,
            batches=lambda step: self.complete.batch(mesh, step),
            batch_size=stage.data.batch_size,
            accumulate=stage.accumulate,
            log_every=stage.log_every,
            due=self._saves,
            pause=self._pause,
            save=self._stop,
            saving=lambda: self.saving,
            options=self.context.options,
            reference=self.anchor,
            penalties=stage.penalties,
            sam_radius=stage.sam_radius,
        )

    def _stop(self, state: State, frozen: Variables, seconds: float) -> None:
        self._check_finite(state)
        self._write(state, frozen, seconds, None)

    def _check_finite(self, state: State) -> None:
        """The loop looks at a step's metrics, which are those before its update."""
        if not all_finite((state.trained, state.optimizer)):
            raise Diverged(
                f"the variables are no longer finite after step {int(state.step)} of stage"
                f" {self.name}"
            )

    def _saves(self, step: int) -> bool:
        """Whether to save; raises what a checkpoint that is being written has failed of."""
        self.checkpoints.check()
        if self.stage.saves(step):
            return True
        minutes = self.stage.save_minutes
        if minutes is None or step % self.stage.log_every:
            return False
        return of_first(lambda: time.monotonic() - self.saved > 60 * minutes)

    def _keeps(self) -> bool:
        """Whether a checkpoint that is written now stays."""
        minutes = self.stage.keep_minutes
        if minutes is None:
            return False
        last = max(map(self.checkpoints.written, self.checkpoints.kept()), default=self.begun)
        return of_first(lambda: time.time_ns() - last > 60e9 * minutes)

    def _pause(self, state: State, frozen: Variables, seconds: float) -> None:
        self._check_finite(state)
        score = None
        try:
            if self.stage.evaluates(int(state.step)):
                rows = self.evaluate(state.trained | frozen, int(state.step))
                self.results.add(rows)
                score = selecting_score(self.stage, rows)
        except BaseException as error:
            # An error, other than a signal, may be one host's alone, and saving is for all of them.
            if isinstance(error, Interrupted) or jax.process_count() == 1:
                self._write(state, frozen, seconds, None)
            raise
        self._write(state, frozen, seconds, score)

    def _write(self, state: State, frozen: Variables, seconds: float, score: float | None) -> None:
        began = time.monotonic()
        self.save(state, frozen, {"seconds": seconds, "keep": self._keeps()}, score)
        self.saved = time.monotonic()
        self.saving += self.saved - began

    def begin_logs(self, step: int) -> None:
        """Also says what it trains on."""
        super().begin_logs(step)
        for name, batches in self.complete.data.items():
            _say_rows(f"{self.name}: {name}" if name else self.name, batches)


def _say_rows(who: str, batches: Batches) -> None:
    data = batches.data
    for task, report in batches.report["tasks"].items():
        rows = f"{task}/{report['split']}"
        said = f"{who}: {report['examples']} examples of {rows}"
        if report["more_than_max_rows"]:
            said += f" (no more than max_rows = {data.max_rows} of its rows)"
        if report["too_long"]:
            said += f", {report['too_long']} too long ({data.too_long})"
        texts = (x if len(x) <= 60 else f"{x[:57]}..." for x in report["first"])
        say(f"{said}, such as {' -> '.join(map(repr, texts))}")
        if report["lost"]:
            say(f"{who}: {rows}: {report['lost']}")

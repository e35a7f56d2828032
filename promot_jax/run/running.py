"""Runs the stages in order and continues where an earlier start of the same run stopped.

Everything that can be wrong with the settings is found in `prepare`, before the work directory is
touched or anything is trained.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluator
from promot_jax.hosts import of_first
from promot_jax.models import Variables
from promot_jax.paths import as_path
from promot_jax.run.agreement import agree, counted
from promot_jax.run.prepare import Context, data_digests, prepare
from promot_jax.run.progress import Progress
from promot_jax.run.stage import Run, selecting_score
from promot_jax.run.workdir import Results, check, claim, continued
from promot_jax.training import (
    Checkpoints,
    Diverged,
    Interrupted,
    MetricsLog,
    Plan,
    State,
    begin,
    local_rows,
    stop_requests,
    thaw,
    train,
)
from promot_jax.training.bases import Bases
from promot_jax.training.description import Description
from promot_jax.training.digests import digest
from promot_jax.training.logs import logged
from promot_jax.training.variables import (
    add_prompts,
    checkpoint_name,
    origin,
    read,
    reference,
    verify,
)


def run(settings: Run, config: str | None = None) -> Path:
    """Runs, or continues, all stages. Returns the work directory.

    Args:
      settings: the run.
      config: the gin settings in force, kept as `config.gin`.

    Raises:
      UserError: a setting that cannot work; nothing has been done then.
      Diverged: a metric is NaN.
      Interrupted: stopped by a signal; the same call continues.
    """
    settings = continued(settings)
    context = prepare(settings)
    data, base_digest = data_digests(context.stages), None
    if check(settings, config, data):
        variables = None
        _check_base(context)
        for stage in context.stages:  # now, and not after hours in the stages before
            logged(as_path(settings.workdir) / stage.directory)
    else:  # before the work directory is made, which a damaged base then leaves untouched
        variables, base_digest = _beginning(context)
    with claim(settings, config, data, base_digest) as root, stop_requests() as stop:
        results = Results(root)
        for index in range(len(context.stages)):
            with contextlib.closing(_StageRun(context, index, root, results, stop)) as stage:
                variables = stage.finished() if stage.done() else stage.run(variables)
    return root


def _beginning(context: Context) -> tuple[Variables, str | None]:
    """The variables that the first stage starts from, and the digest of those that BASE gave."""
    settings, layout = context.run, context.layout
    if settings.base is None:
        say("BASE is not set: the model begins with random weights")
    variables = _origin(context)
    base_digest = None if settings.base is None else digest(variables)
    return add_prompts(variables, settings.prompts, layout, settings.seed), base_digest


def _origin(context: Context) -> Variables:
    settings, places = context.run, Bases(tuple(context.run.base_places))
    try:
        return origin(settings.base, settings.seed, context.layout, places)
    finally:  # a run that goes on there may have found, and removed, another best one meanwhile
        _check_checkpoint(settings)


def _check_checkpoint(settings: Run) -> None:
    wanted = settings.base_checkpoint
    if wanted is not None and (found := checkpoint_name(settings.base)) != wanted:
        raise UserError(
            f"BASE = {settings.base!r}: its best checkpoint is {found} now, and no longer {wanted}:"
            " give the command again"
        )


def _check_base(context: Context) -> None:
    """Raises UserError where BASE is another path than it was, and other weights lie there."""
    settings = context.run
    about = Description.read(settings.workdir)
    if about.base != settings.base and digest(_origin(context)) != about.base_digest:
        raise UserError(
            f"BASE = {settings.base!r} holds other weights than {about.base!r}, with which"
            f" WORKDIR = {settings.workdir!r} began: set that, or choose another WORKDIR"
        )


@jax.jit
def all_finite(arrays: Any) -> Bool[Array, ""]:
    """Whether no array holds NaN or infinity; each device looks at its own part."""
    floats = (x for x in jax.tree.leaves(arrays) if jnp.isdtype(x.dtype, "real floating"))
    return functools.reduce(jnp.logical_and, (jnp.isfinite(x).all() for x in floats), True)


class _StageRun:
    """One stage in its directory."""

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
        self.begun, self.saved, self.saving = time.time_ns(), time.monotonic(), 0.0

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
            self._read(best)
        self.results.select(self.name, best or 0)

    def run(self, before: Variables | None) -> Variables:
        """Trains to the end; `before`: what the stage before left, None: as its checkpoint has it.

        Returns the variables of the best checkpoint.
        """
        self._leave_if_asked()
        step = self.checkpoints.latest()
        state, frozen, seconds = self._fresh(before) if step is None else self._resume(step)
        begun = int(state.step)
        self.results.forget(self.name, begun)
        self.log = MetricsLog(self.root / self.name, begun)
        self._say_data()
        if self.stage.evaluates(begun) and not self.results.has(self.name, begun):
            rows = self._evaluate(state, frozen)
            self.results.add(rows)
            if step is not None:  # a run killed before this does it when it goes on: `agree`
                score = selecting_score(self.stage, rows)
                self.checkpoints.rescore(step, score, rows=counted(self.results, self.name, step))
        if self.stage.steps:
            state, frozen = self._train(state, frozen, seconds)
        self.checkpoints.wait()
        best, last = self.checkpoints.best() or 0, int(state.step)
        stored = self._read(best) if best != last else {}
        self.results.select(self.name, best)  # now that it is known to be whole
        if best == last:
            return state.trained | frozen
        # A checkpoint from before something was unfrozen does not hold it.
        return frozen | stored if state.trained.keys() <= stored.keys() else self._whole(best)

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

    def _fresh(self, before: Variables | None) -> tuple[State, Variables, float]:
        settings, layout = self.context.run, self.context.layout
        if before is None:
            before = self._from_earlier_stages()
        if before is None:
            before, _ = _beginning(self.context)
        return begin(layout.mesh, settings.seed + self.index), before, 0.0

    def _from_earlier_stages(self) -> Variables | None:
        """The best checkpoint of the last stage before this one that has any."""
        for index in reversed(range(self.index)):
            with contextlib.closing(
                _StageRun(self.context, index, self.root, self.results)
            ) as stage:
                if stage.checkpoints.best() is not None:
                    return stage._whole(stage.checkpoints.best())
        return None

    def _read(self, step: int) -> Variables:
        return read(self.checkpoints, step, self.context.layout, str(self.root / self.name))

    def _whole(self, step: int) -> Variables:
        """A checkpoint's variables, and from the run's beginning what it does not hold."""
        stored = self._read(step)
        missing = set(self.context.layout.abstract()) - set(stored)
        if not missing:
            return stored
        rest = {path: x for path, x in _origin(self.context).items() if path in missing}
        verify(rest, self.checkpoints.note(step)["reference"], self.context.run.base)
        return stored | rest

    def _resume(self, step: int) -> tuple[State, Variables, float]:
        # What is due at this very step is unfrozen by the loop: the checkpoint was made before.
        state = begin(self.context.layout.mesh, self.context.run.seed + self.index, step - 1)
        state, frozen = thaw(state, self._whole(step), self.stage.train, self.prepared.owner)
        state = self.checkpoints.state(step, state)
        note, here = self.checkpoints.note(step), self._mesh()
        before = note.get("mesh", here)
        moved = f" on a mesh of {here}, was {before}" if before != here else ""
        say(f"{self.name}: continues at step {step}{moved}")
        return state, frozen, note["seconds"]

    def _mesh(self) -> str:
        """The mesh in words: the same words, the same results to the last bit."""
        sizes = (f"{axis} {n}" for axis, n in self.context.layout.mesh.shape.items() if n > 1)
        hosts = jax.process_count()
        return (", ".join(sizes) or "one device") + (f" on {hosts} hosts" if hosts > 1 else "")

    def _plan(self) -> Plan:
        stage = self.stage
        rows = local_rows(self.context.layout.mesh, stage.data.batch_size)
        return Plan(
            name=self.name,
            steps=stage.steps,
            loss=stage.loss(self.context.layout.model),
            parts=stage.train,
            owner=self.prepared.owner,
            batches=lambda step: self.prepared.batches(step, rows),
            batch_size=stage.data.batch_size,
            accumulate=stage.accumulate,
            log_every=stage.log_every,
            due=self._saves,
            pause=self._pause,
            save=self._stop,
            saving=lambda: self.saving,
        )

    def _stop(self, state: State, frozen: Variables, seconds: float) -> None:
        self._check_finite(state)
        self._save(state, frozen, seconds, None)

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
                rows = self._evaluate(state, frozen)
                self.results.add(rows)
                score = selecting_score(self.stage, rows)
        except BaseException as error:
            # An error, other than a signal, may be one host's alone, and saving is for all of them.
            if isinstance(error, Interrupted) or jax.process_count() == 1:
                self._save(state, frozen, seconds, None)
            raise
        self._save(state, frozen, seconds, score)

    def _leave_if_asked(self) -> None:
        """Stops an evaluation, after each batch."""
        if self.stop():
            raise Interrupted(f"stopped in stage {self.name}: run the same command to go on")

    def _due(self, evaluator: Evaluator, step: int) -> bool:
        every = evaluator.evaluation.every
        return every is None or step % every == 0 or step == self.stage.steps

    def _evaluate(self, state: State, frozen: Variables) -> list[dict[str, Any]]:
        """The rows of results.json."""
        step, settings = int(state.step), self.context.run
        variables = state.trained | frozen
        generate = functools.partial(self.context.generator, variables)
        rows: list[dict[str, Any]] = []
        due = [each for each in self.prepared.evaluators if self._due(each, step)]
        said, asked = f"{self.name}: evaluating at step {step}", sum(each.rows for each in due)
        with contextlib.closing(Progress(said, asked, self._leave_if_asked)) as progress:
            for evaluator in due:
                rows += evaluator(generate, step, self.root / self.name / "samples", progress)
        rates = [part.peak(self.stage.steps) for part in self.stage.train]
        for row in rows:
            if row["task"] in settings.targets:
                row["group"] = "target"
            row |= {"method": settings.method, "stage": self.name, "selected": False}
            row |= {"seed": settings.seed, "learning_rate": max(rates, default=None)}
            if row["value"] is not None:
                name = f"{row['task']}/{row['shots']}shot/{row['metric']}"
                self.log.scalars(step, {name: row["value"]})
        return rows

    def _save(self, state: State, frozen: Variables, seconds: float, score: float | None) -> None:
        began = time.monotonic()
        ours = {
            path: x
            for path, x in frozen.items()
            if path in self.earlier or path.startswith("prompt/")
        }
        untouched = {path: x for path, x in frozen.items() if path not in ours}
        if self._reference is None or self._reference[0] != frozenset(untouched):
            seed = self.context.run.seed
            self._reference = (frozenset(untouched), reference(seed, untouched))
        note = {"seconds": seconds, "reference": self._reference[1], "mesh": self._mesh()}
        note["rows"] = counted(self.results, self.name, int(state.step))
        note["keep"] = self._keeps()
        self.log.flush()
        self.checkpoints.save(state, ours, note, score)
        self.saved = time.monotonic()
        self.saving += self.saved - began

    def _say_data(self) -> None:
        for evaluator in self.prepared.evaluators:
            for task, lost in evaluator.lost.items():
                say(f"{self.name}: evaluation on {task}: {lost}")
        if self.prepared.batches is None:
            return
        data = self.stage.data
        for task, report in self.prepared.batches.report["tasks"].items():
            said = f"{self.name}: {report['examples']} examples of {task}/{data.split}"
            if report["more_than_max_rows"]:
                said += f" (no more than max_rows = {data.max_rows} of its rows)"
            if report["too_long"]:
                said += f", {report['too_long']} too long ({data.too_long})"
            texts = (x if len(x) <= 60 else f"{x[:57]}..." for x in report["first"])
            say(f"{said}, such as {' -> '.join(map(repr, texts))}")
            if report["lost"]:
                say(f"{self.name}: {task}/{data.split}: {report['lost']}")

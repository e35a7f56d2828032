"""Runs the stages in order and continues where an earlier start of the same run stopped.

Everything that can be wrong with the settings is found in `prepare`, before the work directory is
touched or anything is trained.
"""

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.text import Text

from promot_jax import models
from promot_jax.console import console, say
from promot_jax.data import (
    Batches,
    TaskInfo,
    import_modules,
    in_format,
    same_vocabulary,
    task_info,
)
from promot_jax.errors import UserError, check_memory
from promot_jax.evaluation import Evaluator
from promot_jax.models import T5, Variables, prompt_ids
from promot_jax.run.base import base_vocabulary
from promot_jax.run.generation import Generator
from promot_jax.run.stage import Run, Stage
from promot_jax.run.workdir import Results, check, claim
from promot_jax.training import (
    Checkpoints,
    Interrupted,
    MetricsLog,
    Plan,
    State,
    assign,
    begin,
    check_batch,
    check_parts,
    local_rows,
    make_mesh,
    stop_requests,
    thaw,
    train,
)
from promot_jax.training.variables import (
    Layout,
    add_prompts,
    check_base,
    origin,
    read,
    reference,
    verify,
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A stage with its data in memory and its settings checked."""

    stage: Stage
    directory: str
    batches: Batches | None
    evaluators: list[Evaluator]
    owner: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Context:
    """What all stages of a run share."""

    run: Run
    layout: Layout
    generator: Generator
    stages: list[Prepared]


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
    context = prepare(settings)
    # Loaded before the work directory is made, which a damaged base then leaves untouched.
    variables = None if check(settings, config) else _beginning(context)
    with claim(settings, config) as root, stop_requests() as stop:
        results = Results(root)
        for index in range(len(context.stages)):
            with contextlib.closing(_StageRun(context, index, root, results, stop)) as stage:
                variables = stage.finished() if stage.done() else stage.run(variables)
    return root


def prepare(settings: Run) -> Context:
    """Checks every setting and reads all data."""
    import_modules(settings.modules)
    mesh = make_mesh(settings.mesh)
    ids = prompt_ids(settings.prompts, settings.model.vocab_size)
    if settings.base is not None:
        check_base(settings.base, settings.model)
        if not same_vocabulary(base_vocabulary(settings.base), settings.vocabulary):
            raise UserError(
                f"BASE = {settings.base!r} has another vocabulary than VOCABULARY: set the base's,"
                " as gin/models/of_base.gin does"
            )
    model = T5(settings.model, tuple((p.name, p.length) for p in settings.prompts))
    layout = Layout(model, mesh)
    paths = layout.abstract()
    if jax.default_backend() == "cpu":  # an accelerator says at once what it cannot hold
        parameters = sum(x.size * x.dtype.itemsize for x in paths.values())
        check_memory(parameters // jax.process_count(), "MODEL, with its prompts,")
    size = settings.vocabulary.vocab_size
    if size > settings.model.vocab_size:
        raise UserError(
            f"the vocabulary has {size} ids, but T5Config.vocab_size = {settings.model.vocab_size}:"
            " set the model's own vocabulary"
        )
    stages = [
        _prepare_stage(settings, stage, f"{k}-{stage.name}", ids, paths, mesh)
        for k, stage in enumerate(settings.stages, start=1)
    ]
    return Context(settings, layout, Generator(model, mesh), stages)


def _prepare_stage(settings: Run, stage: Stage, directory: str, ids, paths, mesh) -> Prepared:
    batches, owner = None, {}
    if stage.steps:
        owner = assign(stage.train, paths)
        check_parts(stage.train, owner, paths, stage.steps)
        check_batch(
            mesh,
            stage.data.batch_size,
            f"stage {stage.name!r}: TrainData.batch_size",
            stage.accumulate,
        )
        batches = Batches(stage.data, settings.vocabulary, settings.model.vocab_size, ids)
    target = target_format(settings.targets)
    evaluators = [
        Evaluator(evaluation, settings.vocabulary, settings.model.vocab_size, ids, target)
        for evaluation in stage.evaluations
    ]
    return Prepared(stage, directory, batches, evaluators, owner)


def _beginning(context: Context) -> Variables:
    """The variables that the first stage starts from."""
    settings, layout = context.run, context.layout
    if settings.base is None:
        say("BASE is not set: the model begins with random weights")
    variables = origin(settings.base, settings.seed, layout)
    return add_prompts(variables, settings.prompts, layout, settings.seed)


def target_format(targets: tuple[str, ...]) -> TaskInfo | None:
    """The answer format whose share is counted: that of any target."""
    infos = [task_info(name) for name in targets]
    infos = [info for info in infos if info.answer_format is not None]
    if not infos:
        return None
    return TaskInfo(answer_format=lambda text: any(in_format(info, text) for info in infos))


def selecting_score(stage: Stage, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """What selects the best checkpoint: the mean of the tasks' first scores, as shares of 1.

    None where one of them is not defined, or was not due.
    """
    asked = [(task, k) for e in stage.evaluations for task in e.tasks for k in e.shots]
    shots = dict(reversed(asked))  # the first one asked for wins
    firsts = [
        next((row for row in rows if (row["task"], row["shots"]) == (task, shots[task])), None)
        for task in stage.selecting
    ]
    if not firsts or any(row is None or row["value"] is None for row in firsts):
        return None
    return statistics.fmean(row["value"] / row["scale"] for row in firsts)


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
        """Makes sure that nothing of a finished stage's results is missing."""
        self.results.select(self.name, self.checkpoints.best() or 0)

    def run(self, before: Variables | None) -> Variables:
        """Trains to the end; `before`: what the stage before left, None: as its checkpoint has it.

        Returns the variables of the best checkpoint.
        """
        step = self.checkpoints.latest()
        state, frozen, seconds = self._fresh(before) if step is None else self._resume(step)
        begun = int(state.step)
        self.results.forget(self.name, begun)
        self.log = MetricsLog(self.root / self.name, begun)
        self._say_data()
        if self.stage.evaluates(begun) and not self.results.has(self.name, begun):
            rows = self._evaluate(state, frozen)
            if step is not None:  # before the rows are there: a run killed in between begins again
                self.checkpoints.rescore(step, selecting_score(self.stage, rows))
            self.results.add(rows)
        if self.stage.steps:
            mesh = self.context.layout.mesh
            state, frozen, _ = train(
                self._plan(), state, frozen, mesh, self.log, seconds, self.stop
            )
        self.checkpoints.manager.wait_until_finished()
        self.finished()
        best = self.checkpoints.best() or 0
        if best == int(state.step):
            return state.trained | frozen
        stored = self._read(best)
        # A checkpoint from before something was unfrozen does not hold it.
        return frozen | stored if state.trained.keys() <= stored.keys() else self._whole(best)

    def _fresh(self, before: Variables | None) -> tuple[State, Variables, float]:
        settings, layout = self.context.run, self.context.layout
        if before is None:
            before = self._from_earlier_stages()
        if before is None:
            before = _beginning(self.context)
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
        stored, settings, layout = self._read(step), self.context.run, self.context.layout
        missing = set(layout.abstract()) - set(stored)
        if not missing:
            return stored
        rest = {
            p: x for p, x in origin(settings.base, settings.seed, layout).items() if p in missing
        }
        verify(rest, self.checkpoints.note(step)["reference"])
        return stored | rest

    def _resume(self, step: int) -> tuple[State, Variables, float]:
        note, data = self.checkpoints.note(step), self.prepared.batches.digest
        if note["data"] != data:
            raise UserError(
                f"the data of stage {self.stage.name!r} is no longer what {self.name} was begun on:"
                " restore it, or run into another WORKDIR"
            )
        # What is due at this very step is unfrozen by the loop: the checkpoint was made before.
        state = begin(self.context.layout.mesh, self.context.run.seed + self.index, step - 1)
        state, frozen = thaw(state, self._whole(step), self.stage.train, self.prepared.owner)
        state = self.checkpoints.state(step, state)
        say(f"{self.name}: continues at step {step}")
        return state, frozen, note["seconds"]

    def _plan(self) -> Plan:
        stage = self.stage
        loss = functools.partial(
            models.loss,
            self.context.layout.model,
            label_smoothing=stage.label_smoothing,
            z_loss=stage.z_loss,
        )
        rows = local_rows(self.context.layout.mesh, stage.data.batch_size)
        return Plan(
            name=self.name,
            steps=stage.steps,
            loss=loss,
            parts=stage.train,
            owner=self.prepared.owner,
            batches=lambda step: self.prepared.batches(step, rows),
            batch_size=stage.data.batch_size,
            accumulate=stage.accumulate,
            log_every=stage.log_every,
            due=stage.saves,
            pause=self._pause,
            save=lambda state, frozen, seconds: self._save(state, frozen, seconds, None),
        )

    def _pause(self, state: State, frozen: Variables, seconds: float) -> None:
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

    def _leave_if_asked(self, *_: int) -> None:
        """Stops an evaluation, after each batch."""
        if self.stop():
            raise Interrupted(f"stopped in stage {self.name}: run the same command to go on")

    def _evaluate(self, state: State, frozen: Variables) -> list[dict[str, Any]]:
        """The rows of results.json."""
        step, settings = int(state.step), self.context.run
        variables = state.trained | frozen
        generate = functools.partial(self.context.generator, variables)
        rows: list[dict[str, Any]] = []
        with console.status(Text(f"{self.name}: evaluating at step {step}")):
            for evaluator in self.prepared.evaluators:
                every = evaluator.evaluation.every
                if every is None or step % every == 0 or step == self.stage.steps:
                    samples = self.root / self.name / "samples"
                    rows += evaluator(generate, step, samples, self._leave_if_asked)
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
        ours = {
            path: x
            for path, x in frozen.items()
            if path in self.earlier or path.startswith("prompt/")
        }
        untouched = {path: x for path, x in frozen.items() if path not in ours}
        if self._reference is None or self._reference[0] != frozenset(untouched):
            settings = self.context.run
            self._reference = (
                frozenset(untouched),
                reference(settings.base, settings.seed, untouched),
            )
        note = {"seconds": seconds, "reference": self._reference[1]}
        note["data"] = self.prepared.batches.digest
        self.checkpoints.save(state, ours, note, score)

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

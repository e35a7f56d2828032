"""A run is a list of stages; a method is another list of the same parts.

ProMoT is `[prompt stage, model stage]`, standard fine-tuning `[model stage]`. Each stage starts
from the best checkpoint of the one before, the first from the run's base.
"""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from promot_jax.data import TrainData, task_names
from promot_jax.errors import UserError, check_range, check_types
from promot_jax.evaluation import Evaluation
from promot_jax.models import Config, Lora, Model, Prompt, TokenWeight, loss
from promot_jax.models.token_weights import OF_REFERENCE
from promot_jax.paths import absolute, expand, is_name, is_url
from promot_jax.run.generate import Generate
from promot_jax.run.terms import REFERENCES, Distance, Divergence, Term, in_force
from promot_jax.run.transform import Transform
from promot_jax.training import Part, Penalty
from promot_jax.training.compiling import Options
from promot_jax.training.step import Loss
from promot_jax.vocabularies import Vocabulary


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training; with 0 steps, of evaluation alone, or of what needs no data.

    Attributes:
      name: of its directory, `<k>-<name>`.
      train: what is trained; everything else is frozen.
      data: what it is trained on.
      steps: updates.
      label_smoothing: share of the target probability given to the other tokens.
      z_loss: weight of log(Z)^2.
      terms: of the loss beside the cross entropy; None among them is nothing.
      token_weights: how much each target token counts, multiplied; None among them is nothing.
      reference: what terms, weights and filters compare with: the weights 'before' the stage, or
        those of the 'base' that the run began with. It is held only if one of them asks.
      sam_radius: of sharpness-aware minimisation, which takes the gradient that far up the slope;
        0: none.
      accumulate: parts in which a batch goes through, to save memory.
      evaluations: what is measured.
      evaluate_every: updates between evaluations, the first one before training; None: at the end.
      checkpoint_every: updates between checkpoints; None: at evaluations and at the end.
      save_minutes: the same by time, of which the first host's clock decides when `log_every`
        updates are done; None: by updates alone.
      keep_minutes: minutes between checkpoints that stay; None: only the last and the best do.
      select: task whose score chooses the best checkpoint (the first metric of its first evaluation
        in the list; more is better), or tasks or a mixture whose mean does; None: the last one is
        the best.
      log_every: updates between lines of metrics.jsonl.
      transform: what is made, without training, of weights that were trained before; its
        coefficients are all evaluated.
      generate: what the model writes, as it is when the stage begins, for a later stage.
    """

    name: str
    train: Sequence[Part] = ()
    data: TrainData | None = None
    steps: int = 0
    label_smoothing: float = 0.1
    z_loss: float = 1e-4
    terms: Sequence[Term | None] = ()
    token_weights: Sequence[TokenWeight | None] = ()
    reference: str = "before"
    sam_radius: float = 0.0
    accumulate: int = 1
    evaluations: Sequence[Evaluation] = ()
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    save_minutes: float | None = None
    keep_minutes: float | None = None
    select: str | Sequence[str] | None = None
    log_every: int = 10
    transform: Transform | None = None
    generate: Generate | None = None

    def __post_init__(self):
        check_types(self)
        here = f"Stage {self.name!r}"
        self._take_terms(here)
        if not is_name(self.name) or " " in self.name:
            raise UserError(
                f"Stage.name = {self.name!r}: set a short name without spaces and slashes"
            )
        for name in ("steps", "z_loss"):
            if getattr(self, name) < 0:
                raise UserError(f"{here}: {name} = {getattr(self, name)}: set 0 or more")
        for name in ("accumulate", "log_every", "evaluate_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{here}: {name} = {value}: set at least 1")
        for name in ("save_minutes", "keep_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{here}: {name} = {value}: set more than 0, or None")
        check_range(f"{here}: z_loss", self.z_loss, 0, 1e6)
        check_range(f"{here}: steps", self.steps, 0, 2**31 - 1)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"{here}: label_smoothing = {self.label_smoothing}: set a share in [0, 1)"
            )
        if self.steps and (self.data is None or not self.train):
            missing = "data" if self.data is None else "train"
            raise UserError(
                f"{here}: steps = {self.steps}, but {missing} is not set: set it, or steps = 0"
            )
        self._check_kind(here)
        asked = [(t, k) for e in self.evaluations for t in e.tasks for k in e.shots]
        if unknown := [task for task in self.selecting if task not in dict(asked)]:
            raise UserError(
                f"{here}: select = {unknown[0]!r} is a task of none of its evaluations: add it to"
                " one"
            )
        if twice := [each for each in asked if asked.count(each) > 1]:
            task, shots = twice[0]
            raise UserError(
                f"{here}: two of its evaluations score {task!r} with {shots} shots, and have one"
                " file of samples: leave it out of one, and score it by promot eval"
            )
        if late := [part for part in self.train if part.unfreeze >= max(self.steps, 1)]:
            raise UserError(
                f"{here}: Part {late[0].pattern!r} has unfreeze = {late[0].unfreeze}, which is"
                f" never reached in {self.steps} steps: set less"
            )

    def _take_terms(self, here: str) -> None:
        """Leaves out terms and weights that are none; raises UserError for what cannot be."""
        object.__setattr__(self, "terms", in_force(self.terms))
        weights = tuple(weight for weight in self.token_weights if weight is not None)
        object.__setattr__(self, "token_weights", weights)
        check_range(f"{here}: sam_radius", self.sam_radius, 0, 1e6)
        if self.reference not in REFERENCES:
            raise UserError(f"{here}: reference = {self.reference!r}: set 'before' or 'base'")

    def _check_kind(self, here: str) -> None:
        """Raises UserError where a stage is two things, or could not choose."""
        for name in ("transform", "generate"):
            if getattr(self, name) is not None and (self.steps or self.train):
                raise UserError(
                    f"{here}: it has {name}, and steps = {self.steps} and train: set no steps and"
                    " no parts, and train in another stage"
                )
        if self.transform is None:
            return
        if self.generate is not None:
            raise UserError(f"{here}: it has transform and generate: take a stage for each")
        several = len(self.transform.first) > 1 and self.transform.keep is None
        if several and not self.evaluates(0):
            raise UserError(
                f"{here}: it tries coefficients {list(self.transform.first)} and has no evaluations"
                " to choose by: give it some, or one coefficient"
            )
        if self.transform.reach is not None and not self.selecting:
            raise UserError(
                f"{here}: Transform.reach = {self.transform.reach} is of the score that selects:"
                " set select"
            )

    @property
    def selecting(self) -> tuple[str, ...]:
        """The tasks that `select` names."""
        return task_names(self.select or ())

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """The terms that compare distributions of tokens."""
        return tuple(term for term in self.terms if isinstance(term, Divergence))

    @property
    def penalties(self) -> tuple[Penalty, ...]:
        """The terms that compare weights."""
        return tuple(term.penalty for term in self.terms if isinstance(term, Distance))

    @property
    def further(self) -> dict[str, TrainData]:
        """The data of which each batch has a batch of its own beside the stage's, by name."""
        return {term.name: term.data for term in self.divergences if term.data is not None}

    @property
    def reads(self) -> dict[str, TrainData]:
        """All data that it reads to train, by the name of the term that does; "": its own."""
        if not self.steps:
            return {}
        of_weights = {
            term.name: dataclasses.replace(term.data, batch_size=1, packing=False)
            for term in self.terms
            if isinstance(term, Distance) and term.data is not None
        }
        return {"": self.data} | self.further | of_weights

    @property
    def compares(self) -> bool:
        """Whether anything asks for a reference."""
        weights = any(weight.needs & OF_REFERENCE for weight in self.token_weights)
        filters = any(each.reference for part in self.train for each in part.filters)
        return bool(self.terms) or weights or filters

    def loss(self, model: Model) -> Loss:
        """What it minimises, penalties apart."""
        terms: dict[str, Any] = {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}
        terms["token_weights"] = self.token_weights
        terms["divergences"] = tuple(term.kl for term in self.divergences if term.data is None)
        terms["further"] = tuple(
            (term.name, term.kl) for term in self.divergences if term.data is not None
        )
        return functools.partial(loss, model, **terms)

    def evaluates(self, step: int) -> bool:
        """Whether evaluations are due after `step` updates."""
        if not any(evaluation.tasks for evaluation in self.evaluations):
            return False
        every = self.evaluate_every
        return step == self.steps or (every is not None and step % every == 0)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` updates."""
        if step == self.steps or (step and self.evaluates(step)):
            return True
        return (
            bool(step) and self.checkpoint_every is not None and step % self.checkpoint_every == 0
        )


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


@dataclasses.dataclass(frozen=True)
class Run:
    """Stages in order, on one model, into one work directory.

    Attributes:
      workdir: where everything goes; a run started again on it continues.
      method: name of the recipe, in results and report.
      model: architecture.
      vocabulary: the model's.
      stages: what happens.
      before: stages in front of them, and
      after: behind them, all in `stages` in the end: a way to add some to any recipe's.
      target: the task, mixture or tasks tuned on; their answer format is what format shares count.
      base: work directory (or stage directory in one) whose best checkpoint the run starts from;
        None: random weights.
      prompts: the soft prompts, in the order of their ids.
      lora: put onto the model; None: what the model has (`base_model` takes its base's).
      mesh: sizes of the mesh axes; None: all devices along `data`.
      seed: of random weights, prompts and dropout.
      modules: Python modules that register the tasks used.
      base_checkpoint: the `checkpoint_name` that the best of `base` must have; None: any.
      base_places: where the bases that `base` itself refers to may lie, if they were moved.
      data_cache: directory in which the tokens of large tasks are kept; None: `token_cache` beside
        the work directory, or, where that is a bucket, in the home directory's cache.
      compiler_options: of steps and evaluations, see `training.compiling`.
    """

    workdir: str
    method: str
    model: Config
    vocabulary: Vocabulary
    stages: Sequence[Stage]
    target: str | Sequence[str | Sequence[str]] = ()
    base: str | None = None
    prompts: Sequence[Prompt] = ()
    lora: Lora | None = None
    mesh: Mapping[str, int] | None = None
    seed: int = 0
    modules: Sequence[str] = ()
    base_checkpoint: str | None = None
    base_places: Sequence[str] = ()
    data_cache: str | None = None
    before: Sequence[Stage] = ()
    after: Sequence[Stage] = ()
    compiler_options: Options = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_types(self)
        if self.lora is not None:
            object.__setattr__(self, "model", dataclasses.replace(self.model, lora=self.lora))
        object.__setattr__(self, "data_cache", _data_cache(self.data_cache))
        object.__setattr__(self, "workdir", expand(self.workdir, "WORKDIR"))
        if self.base is not None:
            object.__setattr__(self, "base", absolute(expand(self.base, "BASE")))
        if not is_name(self.method):
            raise UserError(f"Run.method = {self.method!r}: set a short name without slashes")
        if not self.stages:
            raise UserError("Run.stages is empty: give at least one Stage")
        object.__setattr__(self, "stages", (*self.before, *self.stages, *self.after))
        object.__setattr__(self, "before", ())
        object.__setattr__(self, "after", ())
        if self.model.lora is None:
            for asked in (each for stage in self.stages for each in stage.evaluations):
                if asked.lora != 1:
                    raise UserError(
                        f"Evaluation.lora = {asked.lora}: the model has no LoRA: leave it out"
                    )
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise UserError(f"Run.stages has two stages of one name in {names}: rename one")

    @property
    def targets(self) -> tuple[str, ...]:
        """The tasks that `target` names."""
        return task_names(self.target)


def _data_cache(given: str | None) -> str | None:
    if given is None:
        return None
    if not given or is_url(given):
        said = "names no directory" if not given else "is a URL"
        raise UserError(f"DATA_CACHE = {given!r} {said}: set a directory on a disk, or None")
    return expand(given, "DATA_CACHE")

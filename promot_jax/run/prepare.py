"""What is done before a run touches anything: every setting is checked, all data is read.

`frame` is what settings alone say, without weights and data: a plan needs no more.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from promot_jax.console import say
from promot_jax.data import (
    Batches,
    TaskInfo,
    TrainData,
    import_modules,
    in_format,
    task_info,
)
from promot_jax.errors import UserError, check_memory, near
from promot_jax.evaluation import Evaluation, Evaluator
from promot_jax.models import Config, build, check_init, prompt_ids
from promot_jax.paths import expand, is_url
from promot_jax.run.base import base_vocabulary
from promot_jax.run.generation import Generator
from promot_jax.run.made import answer_length, here_now
from promot_jax.run.stage import Run, Stage
from promot_jax.training import assign, check_batch, check_parts, local_rows, make_mesh
from promot_jax.training.compiling import options_of
from promot_jax.training.optimizers import matches
from promot_jax.training.variables import EMBEDDING, Layout, check_base

TOKEN_CACHE = "token_cache"


@dataclasses.dataclass(frozen=True)
class Transformed:
    """What a stage transforms.

    Attributes:
      tuned: the index of the last stage before it that trains any of it.
      paths: its arrays.
    """

    tuned: int
    paths: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A stage with its data read and its settings checked.

    Attributes:
      stage: the settings.
      directory: its name.
      data: all that it reads to train, by the name of the term that reads it, "": the stage; of
        what stages before it make only what is there already.
      later: read that in full when its turn comes, by the same names.
      length: most tokens of an answer that it generates.
      inputs: digest of what it answers.
      evaluators: what it measures.
      owner: path of what it trains -> the index of its part.
      transformed: what it transforms, if it does.
      trained: the stage whose learning rates its scores belong to: itself, or that whose weights it
        transforms.
    """

    stage: Stage
    directory: str
    data: Mapping[str, Batches]
    evaluators: list[Evaluator]
    owner: Mapping[str, int]
    transformed: Transformed | None
    trained: Stage
    later: Mapping[str, Callable[[], Batches]]
    length: int | None
    inputs: str | None

    def batch(self, mesh: Mesh, step: int) -> dict[str, Any]:
        """This host's rows of a step's batch; under "further" those of terms with own data."""
        rows = lambda name: self.data[name](step, local_rows(mesh, self.data[name].size))  # noqa: E731
        further = {name: rows(name) for name in self.stage.further}
        return rows("") | ({"further": further} if further else {})

    def complete(self) -> "Prepared":
        """With all that it reads: what a stage before it has made is read now."""
        found = {name: read() for name, read in self.later.items()}
        return dataclasses.replace(self, data={**self.data, **found}, later={})


@dataclasses.dataclass(frozen=True)
class Frame:
    """What settings alone say of a run.

    Attributes:
      run: the settings.
      layout: its model on its mesh.
      owners: for each stage, path of what it trains -> the index of its part.
      transformed: for each stage, what it transforms.
      options: the compiler's.
    """

    run: Run
    layout: Layout
    owners: Sequence[Mapping[str, int]]
    transformed: Sequence[Transformed | None]
    options: Mapping[str, Any]

    def trained(self, index: int) -> Stage:
        """A stage, or where it transforms, the one whose weights it transforms."""
        changed = self.transformed[index]
        return self.run.stages[index if changed is None else changed.tuned]

    def generator(self) -> Generator:
        """What answers in evaluations."""
        return Generator(self.layout.model, self.layout.mesh, self.run.vocabulary, self.options)


@dataclasses.dataclass(frozen=True)
class Context:
    """What all stages of a run share."""

    run: Run
    layout: Layout
    generator: Generator
    stages: list[Prepared]
    options: Mapping[str, Any]


def frame(settings: Run, mesh: Mesh) -> Frame:
    """Checks all that settings alone can have wrong."""
    check_context(settings)
    model = build(settings.model, [(p.name, p.length) for p in settings.prompts])
    layout = Layout(model, mesh)
    paths = layout.abstract()
    check_init(settings.prompts, paths[EMBEDDING])
    size = settings.vocabulary.least_rows
    if size > settings.model.vocab_size:
        raise UserError(
            f"the vocabulary has {size} ids, but {type(settings.model).__name__}.vocab_size ="
            f" {settings.model.vocab_size}: set the model's own vocabulary"
        )
    owners = [_owner(stage, paths, mesh) for stage in settings.stages]
    changed = [_transformed(settings, owners, index) for index in range(len(owners))]
    options = options_of(settings.compiler_options, mesh)
    return Frame(settings, layout, owners, changed, options)


def _owner(stage: Stage, paths: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh) -> dict[str, int]:
    """The index of the part of every path that a stage trains."""
    if not stage.steps:
        return {}
    owner = assign(stage.train, paths)
    check_parts(stage.train, owner, paths, stage.steps)
    for name, data in {"": stage.data, **stage.further}.items():
        setting = f"stage {stage.name!r}: {name and f'{name}: '}TrainData.batch_size"
        check_batch(mesh, data.batch_size, setting, stage.accumulate)
    for penalty in stage.penalties:
        if not any(matches(penalty.pattern, path) for path in owner):
            raise UserError(
                f"stage {stage.name!r}: Distance.pattern = {penalty.pattern!r} matches none of the"
                f" arrays that it trains{near(penalty.pattern, list(owner))}"
            )
    return owner


def _transformed(
    settings: Run, owners: Sequence[Mapping[str, int]], index: int
) -> Transformed | None:
    """What a stage transforms of what was trained before it."""
    stage = settings.stages[index]
    if stage.transform is None:
        return None
    pattern = stage.transform.pattern
    found = {
        i: [path for path in owner if matches(pattern, path)]
        for i, owner in enumerate(owners[:index])
    }
    tuned = max((i for i, paths in found.items() if paths), default=None)
    if tuned is None:
        raise UserError(
            f"stage {stage.name!r}: Transform.pattern = {pattern!r}: no stage before it trains"
            " anything that this covers: take a recipe that tunes the model, or another pattern"
        )
    whole = stage.transform.reference == "base"
    paths = {path for i in (found if whole else [tuned]) for path in found[i]}
    return Transformed(tuned, tuple(sorted(paths)))


def prepare(settings: Run) -> Context:
    """Checks every setting and reads all data."""
    import_modules(settings.modules)
    mesh = make_mesh(settings.mesh)
    ids = prompt_ids(settings.prompts, settings.model.vocab_size)
    if settings.base is not None:
        check_base(settings.base, settings.model)
        if base_vocabulary(settings.base) != settings.vocabulary:
            raise UserError(
                f"BASE = {settings.base!r} has another vocabulary than VOCABULARY: set the base's,"
                " as gin/models/of_base.gin does"
            )
    framed = frame(settings, mesh)
    for stage, owner in zip(settings.stages, framed.owners, strict=True):
        _check_memory(stage, framed.layout.abstract(), owner)
    stages = [_prepare_stage(framed, index, ids) for index in range(len(settings.stages))]
    say_what_prompts_reach(settings)
    return Context(settings, framed.layout, framed.generator(), stages, framed.options)


def _prepare_stage(framed: Frame, index: int, ids: Mapping[str, np.ndarray]) -> Prepared:
    settings, changed = framed.run, framed.transformed[index]
    stage = settings.stages[index]
    reads = settings.vocabulary, settings.model.vocab_size

    def read(data: TrainData) -> Batches:
        return Batches(data, *reads, ids, settings.model.kind, token_cache(settings))

    there = {name: here_now(settings, index, data) for name, data in stage.reads.items()}
    data = {name: read(each) for name, each in there.items() if each is not None}
    later = {
        name: functools.partial(read, each)
        for name, each in stage.reads.items()
        if there[name] is not each
    }
    target = target_format(settings.targets)
    evaluators = [
        Evaluator(in_context(evaluation, settings.model), *reads, ids, target, settings.model.kind)
        for evaluation in stage.evaluations
    ]
    directory, owner = f"{index + 1}-{stage.name}", framed.owners[index]
    trained = framed.trained(index)
    made = (answer_length(settings, index), _inputs(stage)) if stage.generate else (None, None)
    return Prepared(stage, directory, data, evaluators, owner, changed, trained, later, *made)


def _inputs(stage: Stage) -> str:
    """The digest of what a stage answers."""
    stage.generate.check_name()
    stage.generate.infos()
    found = hashlib.blake2b(digest_size=8)
    for line in stage.generate.lines():
        found.update(line.encode())
    return found.hexdigest()


def token_cache(settings: Run) -> str:
    """The directory in which the tokens of large tasks are kept.

    Raises:
      UserError: it is the work directory.
    """
    if is_url(settings.workdir):
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return settings.data_cache or expand(f"{home}/promot_jax/{TOKEN_CACHE}")
    workdir = Path(settings.workdir).absolute()
    found = settings.data_cache or str(workdir.parent / TOKEN_CACHE)
    if os.path.realpath(found) == os.path.realpath(workdir):
        raise UserError(
            f"WORKDIR = {settings.workdir!r} is where tokens of large tasks are kept: choose"
            " another, or set another DATA_CACHE"
        )
    return found


def check_context(settings: Run) -> None:
    """Raises UserError for rows or outputs that are longer than the model's context."""
    model = settings.model
    if model.context is None:
        return
    for index, stage in enumerate(settings.stages):
        if stage.generate and (length := answer_length(settings, index)) >= model.context:
            raise UserError(
                f"stage {stage.name!r}: Generate.length = {length} has no room in the model's"
                f" context of {model.context}: set less"
            )
        for data in (stage.data, *(term.data for term in stage.terms)):
            if data is not None and data.input_length + data.target_length > model.context:
                raise UserError(
                    f"stage {stage.name!r}: INPUT_LENGTH = {data.input_length} and TARGET_LENGTH ="
                    f" {data.target_length} are more than the model's context of {model.context}:"
                    " set less"
                )
        for asked in stage.evaluations:
            least = (asked.input_length or 1) + asked.decoding.max_length
            if least > model.context:
                sizes = f"MAX_OUTPUT_LENGTH = {asked.decoding.max_length}"
                sizes += f" with EVAL_INPUT_LENGTH = {asked.input_length or 'any'}"
                raise UserError(
                    f"stage {stage.name!r}: {sizes} has no room in the model's context of"
                    f" {model.context}: set less"
                )


def say_what_prompts_reach(settings: Run) -> None:
    """Says where a prompt is out of sight of local layers."""
    model = settings.model
    for prompt in settings.prompts:
        if model.window is not None and prompt.length >= model.window:
            say(
                f"prompt {prompt.name!r} has {prompt.length} vectors, and the model's local layers"
                f" see {model.window} tokens back: there no text sees the first"
                f" {prompt.length - model.window + 1}, only the global layers do"
            )


def in_context(evaluation: Evaluation, model: Config) -> Evaluation:
    """What is longer than the context loses shots, then tokens, and is counted."""
    if model.context is None or evaluation.input_length is not None:
        return evaluation
    room = model.context - evaluation.decoding.max_length
    return dataclasses.replace(evaluation, input_length=room)


def _check_memory(stage: Stage, paths, owner) -> None:
    """Raises UserError where parameters, and gradients of what is trained, are more than memory."""
    if not stage.steps or jax.default_backend() != "cpu":
        return  # an accelerator says at once what it cannot hold
    arrays = [*paths.values(), *[paths[path] for path in owner] * (1 + stage.compares)]
    needed = sum(x.size * x.dtype.itemsize for x in arrays) // jax.process_count()
    check_memory(needed, f"MODEL in stage {stage.name!r}, with gradients of what it trains,")


def data_digests(stages: Sequence[Prepared]) -> dict[str, str]:
    """What rows -> their digest, of all that is trained and scored on."""
    found = {}
    for each in stages:
        if each.inputs is not None:
            found[f"inputs of {each.stage.generate.name} ({each.directory})"] = each.inputs
        for name, batches in each.data.items():
            where = f"{each.directory}, {name}" if name else each.directory
            for task, value in batches.digests.items():
                split = batches.report["tasks"][task]["split"]
                found[f"training rows of {task}/{split} ({where})"] = value
        for evaluator in each.evaluators:
            for (task, split, shots), value in evaluator.digests.items():
                found[f"rows of {task}/{split} with {shots} shots ({each.directory})"] = value
    return found


def target_format(targets: tuple[str, ...]) -> TaskInfo | None:
    """The answer format whose share is counted: that of any target."""
    infos = [task_info(name) for name in targets]
    infos = [info for info in infos if info.answer_format is not None]
    if not infos:
        return None
    return TaskInfo(answer_format=lambda text: any(in_format(info, text) for info in infos))

"""What a run computes, as programs to compile: the functions that it calls itself, on abstract
arrays, which have a shape, a type and a layout on the mesh, and no values.

A stage has one step program for each set of parts that is trained at once, and evaluations generate
in batches of one size here: as many rows as go together at the longest input.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jax.stages import Lowered

from promot_jax.data import TrainData, task_names
from promot_jax.data.layouts import make_layout
from promot_jax.data.lengths import padded_length, rows_at_once
from promot_jax.evaluation import Evaluation
from promot_jax.models import Batch, Decoding, Variables
from promot_jax.models.names import matches
from promot_jax.plan.rows import Rows
from promot_jax.run.made import answer_length
from promot_jax.run.prepare import Frame, in_context
from promot_jax.run.stage import Stage
from promot_jax.run.terms import Distance
from promot_jax.training import Reference, State, begin, replicated, thaw, use
from promot_jax.training.loop import lower_step
from promot_jax.training.mesh import BATCH
from promot_jax.training.transforms import lower, places
from promot_jax.training.variables import Layout

LONGEST = 512  # tokens of an evaluation's inputs, where neither it nor the stage says


@dataclasses.dataclass(frozen=True)
class Program:
    """Something that a run computes, and how often.

    Attributes:
      stage: the directory of its stage, or stages, "1-prompt"; "" of none.
      name: "step", "evaluation", "generation", "transform" or "initialisation".
      size: of its batch, "64 x 512 + 64"; "" where it has none.
      times: how often it is run.
      key: equal for programs that are one, on one mesh.
      lower: makes it.
      variables: bytes a chip of the model, its prompts included.
      optimizer: bytes a chip of the optimizer state that lies there meanwhile.
      batch: bytes a chip of what it is given beside.
      taken: bytes a chip of all that the program is given.
      made: of its results, bytes a chip that are counted above.
    """

    stage: str
    name: str
    size: str
    times: float
    key: Any
    lower: Callable[[], Lowered]
    variables: float
    optimizer: float
    batch: float
    taken: float
    made: float = 0.0

    def __str__(self) -> str:
        return " ".join(text for text in (self.stage, self.name, self.size) if text)


def a_chip(tree: Any) -> float:
    """Bytes of abstract arrays that lie on one chip."""
    return float(
        sum(
            np.prod(x.sharding.shard_shape(x.shape)) * _itemsize(x.dtype)
            for x in jax.tree.leaves(tree)
        )
    )


def _itemsize(dtype: Any) -> int:
    return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize


def programs(frame: Frame, rows: Rows, random: Layout) -> list[Program]:
    """All programs of a run, in its order, those of all stages that are one in one place.

    `random`: the layout in which random weights are made, where the run has no base.
    """
    found: dict[Any, Program] = {}
    for new in _every(frame, rows, random):
        if old := found.get(new.key):
            stage = old.stage if new.stage in old.stage.split(", ") else f"{old.stage}, {new.stage}"
            times, optimizer = old.times + new.times, max(old.optimizer, new.optimizer)
            new = dataclasses.replace(old, stage=stage, times=times, optimizer=optimizer)
        found[new.key] = new
    return list(found.values())


def _every(frame: Frame, rows: Rows, random: Layout) -> Iterator[Program]:
    if frame.run.base is None:
        variables = a_chip(frame.layout.abstract())
        lower = random.lower_random
        key = ("random", random.model)
        yield Program("", "initialisation", "", 1, key, lower, variables, 0, 0, 0, variables)
    for index, stage in enumerate(frame.run.stages):
        name = f"{index + 1}-{stage.name}"
        optimizer = 0.0
        for program in steps(frame, index):
            optimizer = program.optimizer
            yield program
        if stage.generate is not None:
            yield from _generate(frame, index, name, rows)
        if stage.transform is not None:
            yield (program := _transform(frame, index, name))
            optimizer = 2 * program.batch  # the weights before and as tuned, beside those tried
        for evaluation in stage.evaluations:
            if evaluation.tasks:
                yield from _evaluation(frame, index, name, evaluation, optimizer, rows)


def steps(frame: Frame, index: int) -> Iterator[Program]:
    """The steps of a stage: one for each set of parts that is trained at once."""
    name = f"{index + 1}-{frame.run.stages[index].name}"
    for state, frozen, times in _phases(frame, index):
        yield _step(frame, index, name, state, frozen, times)


def _phases(frame: Frame, index: int) -> Iterator[tuple[State, Variables, int]]:
    """The abstract states of a stage, what is frozen beside, and for how many steps."""
    stage, owner, mesh = frame.run.stages[index], frame.owners[index], frame.layout.mesh
    if not stage.steps:
        return
    place = lambda tree: jax.tree.map(lambda x: x.update(sharding=replicated(mesh)), tree)  # noqa: E731
    begun = place(jax.eval_shape(lambda: begin(mesh, 0)))
    state, frozen = begun, frame.layout.abstract()
    starts = sorted({part.unfreeze for part in stage.train})
    for start, end in zip(starts, [*starts[1:], stage.steps], strict=True):
        state = dataclasses.replace(state, step=np.int32(start))
        state, frozen = thaw(state, frozen, stage.train, owner)
        state = dataclasses.replace(state, step=begun.step)
        yield state, frozen, end - start


def _step(
    frame: Frame, index: int, name: str, state: State, frozen: Variables, times: int
) -> Program:
    stage, owner = frame.run.stages[index], frame.owners[index]
    batch, loss = abstract_batches(frame, stage), stage.loss(frame.layout.model)
    reference = abstract_reference(frame, index)
    beside = () if reference is None else (reference,)
    settings = {"parts": stage.train, "owner": owner, "accumulate": stage.accumulate}
    settings |= {"penalties": stage.penalties, "sam_radius": stage.sam_radius}
    settings |= {"options": frame.options}

    def lower() -> Lowered:
        with use(frame.layout.mesh):
            return lower_step(state, frozen, batch, *beside, loss=loss, **settings)

    # Which of several prompts is trained, and how fast, makes no difference.
    trees = (state.trained, state.optimizer, frozen, batch, reference)
    arrays = [_shapes(tree) for tree in trees]
    terms = stage.accumulate, stage.label_smoothing, stage.z_loss, stage.terms, stage.token_weights
    filters = [part.filters for part in stage.train]
    terms = [repr(each) for each in (*terms, filters, stage.sam_radius > 0)]
    key = ("step", frame.layout.model.config, *arrays, *terms)
    data = stage.data
    size = f"{data.batch_size} x {data.input_length} + {data.target_length}"
    variables = a_chip((state.trained, frozen, reference))
    given = a_chip(batch)
    taken = variables + a_chip((state.optimizer, state.key, state.step)) + given
    # The next batch lies there as well.
    return Program(
        name, "step", size, times, key, lower, variables, a_chip(state.optimizer), 2 * given, taken,
    )  # fmt: skip


def _transform(frame: Frame, index: int, name: str) -> Program:
    """What makes new weights of those before and after training."""
    settings, paths = frame.run.stages[index].transform, frame.transformed[index].paths
    every = frame.layout.abstract()
    changed = {path: every[path] for path in paths}
    where = places(paths, every, settings.seed)
    # Those before lie there beside the whole model; those that are made are temporary.
    variables, was = a_chip(every), a_chip(changed)
    return Program(
        name, "transform", "", settings.tries + 1, ("transform", name, frame.layout.model),
        lambda: lower(settings.change, changed, where), variables, 0, was, 2 * was,
    )  # fmt: skip


def _shapes(tree: Any) -> tuple[str, ...]:
    described = (f"{x.shape} {x.dtype} {x.sharding.spec}" for x in jax.tree.leaves(tree))
    return tuple(sorted(described))


def abstract_reference(frame: Frame, index: int) -> Reference | None:
    """What a stage compares itself with."""
    stage, shapes = frame.run.stages[index], frame.layout.abstract()
    if not stage.compares:
        return None
    float32 = lambda x: x.update(dtype=np.dtype(np.float32))  # noqa: E731
    paths = sorted(frame.owners[index])
    importance = {
        term.name: {p: float32(shapes[p]) for p in paths if matches(term.pattern, p)}
        for term in stage.terms
        if isinstance(term, Distance) and term.data is not None
    }
    return Reference({path: shapes[path] for path in paths}, importance)


def abstract_batches(frame: Frame, stage: Stage) -> Batch:
    """A stage's global batch, with those of its terms in it."""
    batch = abstract_batch(frame, stage.data)
    further = {name: abstract_batch(frame, data) for name, data in stage.further.items()}
    return batch | ({"further": further} if further else {})


def abstract_batch(frame: Frame, data: TrainData) -> Batch:
    """A global batch."""
    sharding = NamedSharding(frame.layout.mesh, PartitionSpec(BATCH))
    layout = make_layout(frame.run.model.kind, frame.run.vocabulary)
    arrays = layout.empty(1, data.input_length, data.target_length, data.packing)
    return {
        name: jax.ShapeDtypeStruct((data.batch_size, *x.shape[1:]), x.dtype, sharding=sharding)
        for name, x in arrays.items()
    }


def _evaluation(
    frame: Frame, index: int, name: str, evaluation: Evaluation, optimizer: float, rows: Rows
) -> Iterator[Program]:
    """What generates, once for each size of batch."""
    asked, generator = in_context(evaluation, frame.run.model), frame.generator()
    stage, data = frame.run.stages[index], frame.trained(index).data
    longest = asked.input_length or (data.input_length if data else LONGEST)
    length = min(padded_length(longest), asked.input_length or padded_length(longest))
    if asked.input_length is None:
        rows.assume(f"inputs of evaluations without EVAL_INPUT_LENGTH have up to {longest} tokens")
    due = stage.transform.tries if stage.transform else sum(
        stage.evaluates(step) and (asked.every is None or step % asked.every == 0
                                   or step == stage.steps)
        for step in range(stage.steps + 1)
    )  # fmt: skip
    batches: dict[int, int] = {}
    for task in asked.tasks:
        count = rows.of(task, asked)
        most = min(rows_at_once(asked.batch_size, length), 1 << (count - 1).bit_length())
        most = max(most, generator.rows)
        batches[most] = batches.get(most, 0) + -(-count // most) * len(asked.shots)
    sizes = {most: due * count for most, count in batches.items()}
    yield from _answers(frame, name, "evaluation", sizes, length, asked.decoding, optimizer)


def _generate(frame: Frame, index: int, name: str, rows: Rows) -> Iterator[Program]:
    """What writes rows of its own."""
    settings = frame.run.stages[index].generate
    decoding = dataclasses.replace(settings.decoding, max_length=answer_length(frame.run, index))
    tasks, longest = len(task_names(settings.task or ())), 1
    if tasks:
        longest = max((x.data.input_length for x in frame.run.stages if x.data), default=LONGEST)
        rows.assume(f"inputs that are answered to be trained on have up to {longest} tokens")
    count, length = settings.rows * max(tasks, 1), padded_length(longest)
    most = min(rows_at_once(settings.batch_size, length), 1 << (count - 1).bit_length())
    most = max(most, frame.generator().rows)
    yield from _answers(frame, name, "generation", {most: -(-count // most)}, length, decoding, 0.0)


def _answers(
    frame: Frame,
    name: str,
    what: str,
    batches: Mapping[int, int],
    length: int,
    decoding: Decoding,
    optimizer: float,
) -> Iterator[Program]:
    """The programs that answer; `batches`: rows of a batch -> how many there are of it."""
    variables, generator = frame.layout.abstract(), frame.generator()
    for most, count in batches.items():
        most += -most % generator.rows
        size = f"{most} x {length} + {decoding.max_length}"
        given = 2 * 4 * most * length / generator.rows
        yield Program(
            name, what, size, count,
            ("generate", frame.layout.model, most, length, decoding),
            lambda most=most: generator.lower(variables, most, length, decoding),
            a_chip(variables), optimizer, given, a_chip(variables) + given,
        )  # fmt: skip

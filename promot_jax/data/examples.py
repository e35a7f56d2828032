"""Examples: the rows of a task's split, in blocks as they are read, or all of them in memory.

Rows come in the source's own order and with fixed seeds, so that the number of a row always means
the same row. What is evaluated stays in memory; training keeps only ids (`reading.py`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from promot_jax.data.file_parts import Block as RowBlock
from promot_jax.data.file_parts import FileSource
from promot_jax.data.quiet import seqio, tf
from promot_jax.data.rows import BLOCK
from promot_jax.data.tasks import get_task, is_text
from promot_jax.errors import UserError, near


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One row of a task.

    Attributes:
      task: the task's name.
      inputs: the input text, without shots or prompt.
      targets: the target text.
      features: everything the task's preprocessors left in the row, under its own names, as Python
        and numpy values with text decoded; what `postprocess_fn` gets as `example`.
    """

    task: str
    inputs: str
    targets: str
    features: Mapping[str, Any]


def load_examples(task: str, split: str, limit: int | None = None) -> list[Example]:
    """The first `limit` rows (None: all) of a task's split, kept in memory between calls.

    Raises:
      UserError: unknown task or split, a mixture, data that cannot be read, or no rows at all.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit}: the number of rows to read must be positive, or None")
    return list(_load(_no_mixture(task), split, limit))


Block = Callable[[], list[Example]]


def example_blocks(task: str, split: str) -> Iterator[Block]:
    """All rows of a task's split, some at a time: calls that give them, and may be made in threads.

    Nothing is kept of them. A block may turn out to be empty. Raises as `load_examples`, on the way
    and when a block is called.
    """
    return _blocks(_no_mixture(task), split)


def _no_mixture(task: str) -> seqio.Task:
    found = get_task(task)
    if isinstance(found, seqio.Mixture):
        names = [t.name for t in found.tasks]
        raise UserError(f"{task!r} is a mixture; name one of its tasks: {names}")
    return found


@functools.lru_cache(maxsize=64)
def _load(task: seqio.Task, split: str, limit: int | None) -> tuple[Example, ...]:
    rows = (row for block in _blocks(task, split, limit) for row in block())
    return tuple(itertools.islice(rows, limit))


def _blocks(task: seqio.Task, split: str, limit: int | None = None) -> Iterator[Block]:
    """The rows up to `limit`, or some more."""
    text, empty = is_text(task), True
    parts = task.source.parts if isinstance(task.source, FileSource) else {}
    if split in parts and not task.preprocessors:  # the texts are as they are to be
        for block in parts[split].blocks():
            yield functools.partial(_examples, task, block, text)
        return
    dataset = _dataset(task, split)
    _check_features(task, dataset.element_spec)
    blocks = _raw_blocks(dataset if limit is None else dataset.take(limit))
    while block := _next(task, split, blocks):
        yield functools.partial(_examples, task, block, text)
        empty = False
    if empty:
        raise UserError(f"task {task.name!r} has no rows in its split {split!r}")


def _next(task: seqio.Task, split: str, blocks: Iterator[Any]) -> Any:
    """The next block, or None."""
    try:
        return next(blocks, None)
    except (OSError, tf.errors.OpError) as error:
        raise _unreadable(task, split, error) from error


def _examples(task: seqio.Task, block: RowBlock, text: bool) -> list[Example]:
    return [_example(task, row, text) for row in block()]


def _dataset(task: seqio.Task, split: str) -> tf.data.Dataset:
    """The rows as the task's preprocessors leave them."""
    if seqio_cache(task, split) is None:
        dataset = task.preprocess_precache(_open(task, split), seed=0)
        return task.preprocess_postcache(dataset, sequence_length=None, seed=0)
    try:
        return task.get_dataset(
            sequence_length=None, split=split, use_cached=True, shuffle=False, seed=0,
            num_epochs=1, trim_output_features=False,
        )  # fmt: skip
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(task, split, error) from error


def _open(task: seqio.Task, split: str) -> tf.data.Dataset:
    """The raw rows. Sources read, download or look for files here, and fail in many ways."""
    try:
        splits = list(task.source.splits)
        if split in splits:
            return task.source.get_dataset(split=split, shuffle=False)
    except (OSError, ImportError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(task, split, error) from error
    raise UserError(
        f"task {task.name!r} has no split {split!r}{near(split, splits)}; its splits are"
        f" {sorted(splits)}"
    )


def seqio_cache(task: seqio.Task, split: str) -> str | None:
    """The directory in which `seqio_cache_tasks` has left a split of the task, if it has.

    Which directories there are, `seqio.add_global_cache_dirs` says.
    """
    if not task.supports_caching or (directory := task.cache_dir) is None:
        return None
    there = tf.io.gfile.exists(seqio.utils.get_cached_info_path(directory, split))
    return directory if there else None


def _unreadable(task: seqio.Task, split: str, error: Exception) -> UserError:
    part = task.source.parts.get(split) if isinstance(task.source, FileSource) else None
    if (found := getattr(part, "error", None)) is not None:
        return found
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"task {task.name!r}, split {split!r}: its data cannot be read ({reason}); check the path,"
        " or the network if it is to be downloaded"
    )


def _raw_blocks(dataset: tf.data.Dataset) -> Iterator[RowBlock]:
    specs = dataset.element_spec.values()
    if all(isinstance(s, tf.TensorSpec) and s.shape.is_fully_defined() for s in specs):
        for block in dataset.batch(BLOCK).as_numpy_iterator():  # ten times as fast as single rows
            yield functools.partial(_split, block)
        return
    rows = dataset.as_numpy_iterator()
    while block := list(itertools.islice(rows, BLOCK)):
        yield functools.partial(_plain, block)


def _split(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a batch."""
    return _plain([dict(zip(block, row, strict=True)) for row in zip(*block.values(), strict=True)])


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: _python(value) for key, value in row.items()} for row in rows]


def _check_features(task: seqio.Task, spec: Mapping[str, tf.TensorSpec]) -> None:
    for key in ("inputs", "targets"):
        want = task.output_features[key]
        have = spec.get(key)
        if have is None or have.dtype != want.dtype or have.shape.rank != want.rank:
            raise UserError(
                f"task {task.name!r}: after its preprocessors {key!r} is {have}, expected"
                f" {want.dtype.name} of rank {want.rank}; correct the preprocessors"
            )


def _example(task: seqio.Task, row: Mapping[str, Any], text: bool) -> Example:
    inputs, targets = (_text(task, key, row, text) for key in ("inputs", "targets"))
    return Example(task.name, inputs, targets, row)


def _text(task: seqio.Task, key: str, features: Mapping[str, Any], text: bool) -> str:
    """A feature's text: its own, or what a tokenised feature was made from, or its ids decoded."""
    if text:
        if not isinstance(features[key], str):
            raise UserError(f"task {task.name!r}: {features[key]!r} in {key!r} is not UTF-8 text")
        return features[key]
    pretokenized = features.get(f"{key}_pretokenized")
    if isinstance(pretokenized, str):
        return pretokenized
    return str(task.output_features[key].vocabulary.decode(np.asarray(features[key]).tolist()))


def _python(value: Any) -> Any:
    """numpy's and TensorFlow's values as plain ones; text decoded, other bytes left as they are."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, Mapping):
        return {key: _python(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_python(item) for item in value]
    if hasattr(value, "to_list"):  # a ragged value
        return _python(np.array(value.to_list(), dtype=object))
    return value

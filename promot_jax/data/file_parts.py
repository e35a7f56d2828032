"""Rows of files as a SeqIO source: in memory, or, of large files, a block at a time.

Who needs no TensorFlow takes `blocks`, calls that give rows and may be made in any thread. A SeqIO
task's preprocessors get a data set.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from promot_jax.data.quiet import seqio, tf
from promot_jax.data.rows import BLOCK, Row, RowFile
from promot_jax.errors import UserError

Block = Callable[[], list[Row]]
SAMPLE = 10  # blocks of a large file that tell what kind of rows it has


class Part(Protocol):
    """The rows of a split.

    Attributes:
      count: how many there are; None: not known.
      path: the file that they are read from.
      about: what else tells which rows these are.
    """

    count: int | None
    path: str
    about: Any

    def blocks(self) -> Iterator[Block]:
        """All rows in order, some at a time."""

    def sample(self) -> Iterator[Row]:
        """Rows to tell their kind by: all of them, or the first ones of a large file."""

    def dataset(self) -> tf.data.Dataset:
        """All rows."""


class HeldRows:
    """Rows in memory."""

    def __init__(self, rows: list[Row], path: str, about: Any):
        self.count, self.path, self.about = len(rows), path, about
        self._columns = _columns(rows)

    def blocks(self) -> Iterator[Block]:
        """As they would come out of TensorFlow."""
        values = (x.tolist() if isinstance(x, np.ndarray) else x for x in self._columns.values())
        rows = zip(*values, strict=True)
        while block := list(itertools.islice(rows, BLOCK)):
            yield functools.partial(self._rows, block)

    def _rows(self, block: Sequence[Sequence[Any]]) -> list[Row]:
        return [dict(zip(self._columns, row, strict=True)) for row in block]

    def sample(self) -> Iterator[Row]:
        return (row for block in self.blocks() for row in block())

    def dataset(self) -> tf.data.Dataset:
        tensors = {
            name: tf.ragged.constant(values, tf.string, ragged_rank=1)
            if isinstance(values[0], list)
            else values
            for name, values in self._columns.items()
        }
        return tf.data.Dataset.from_tensor_slices(tensors)


class StreamedRows:
    """Rows that are read from their file whenever they are asked for.

    Attributes:
      error: what is wrong with them, where a data set found that.
    """

    count = None

    def __init__(
        self,
        file: RowFile,
        select: Callable[[list[Row]], list[Row]],
        columns: Sequence[str],
        about: Any,
    ):
        """Args:
        file: their file.
        select: rows of the file -> those of the split, as they are to be.
        columns: those that a data set has.
        about: see `Part`.
        """
        self.path, self.about, self.error = file.path, about, None
        self._file, self._select, self._names = file, select, columns

    def blocks(self) -> Iterator[Block]:
        for block in self._file.blocks():
            yield functools.partial(self._selected, block)

    def _selected(self, block: Block) -> list[Row]:
        return self._select(block())

    def sample(self) -> Iterator[Row]:
        return (row for block in itertools.islice(self.blocks(), SAMPLE) for row in block())

    def dataset(self) -> tf.data.Dataset:
        row = next(self.sample())
        spec = {name: _spec(row[name]) for name in self._names}
        return tf.data.Dataset.from_generator(self._batches, output_signature=spec).unbatch()

    def _batches(self) -> Iterator[Mapping[str, Any]]:
        try:
            for block in self.blocks():
                if rows := block():
                    columns = {name: [row[name] for row in rows] for name in self._names}
                    yield {name: _tensor(values) for name, values in columns.items()}
        except UserError as error:  # TensorFlow makes another one of it
            self.error = error
            raise


class FileSource(seqio.FunctionDataSource):
    """Rows of files; `parts` has those of each split."""

    def __init__(self, parts: Mapping[str, Part]):
        self.parts = dict(parts)
        counts = {split: part.count for split, part in parts.items()}
        super().__init__(self._dataset, splits=list(parts), num_input_examples=counts)

    def _dataset(self, split: str, shuffle_files: bool = False, seed: int | None = None):
        del shuffle_files, seed
        return self.parts[split].dataset()


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    """Columns as tensors need them: of one type each, lists of texts included. A column of mixed
    types becomes text."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: _one_type(values) for name, values in columns.items()}


def _one_type(values: list[Any]) -> Any:
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and kinds <= {bool, int, float} and np.asarray(values).dtype.kind in "bif":
        return np.asarray(values)
    if kinds == {list} and all(isinstance(item, str) for value in values for item in value):
        return values
    return ["" if value is None else str(value) for value in values]


def _spec(value: Any) -> tf.TypeSpec:
    if isinstance(value, list):
        return tf.RaggedTensorSpec([None, None], tf.string)
    return tf.TensorSpec([None], tf.int32 if isinstance(value, int) else tf.string)


def _tensor(values: list[Any]) -> Any:
    return tf.ragged.constant(values, tf.string) if isinstance(values[0], list) else values

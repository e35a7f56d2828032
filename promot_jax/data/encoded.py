"""Rows as token ids, close together: a few arrays, whatever the number of rows.

A Python object a row would cost more than its ids. So all ids of a task lie in one array, a row's
input in front of its target, and beside it the lengths that tell them apart.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from promot_jax.data.losses import Losses

UNKNOWN, UNWRITABLE, LONG = 1, 2, 4  # marks of a row
STRETCH = 1 << 16  # rows that are looked at together
Arrays = Mapping[str, np.ndarray]
Ids = Int[np.ndarray, " tokens"]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Rows as ids.

    Attributes:
      ids: those of all rows, one after the other, each its input and then its target; int32.
      lengths: of each row's input and target.
      marks: of each row, what is true of it: its input has unknown pieces (`UNKNOWN`), its target
        cannot be written (`UNWRITABLE`), it was cut (`LONG`).
      losses: of all rows.
      first: input and target of the first row, as texts.
    """

    ids: Int[np.ndarray, " tokens"]
    lengths: Int[np.ndarray, "rows 2"]
    marks: UInt8[np.ndarray, " rows"]
    losses: Losses
    first: tuple[str, str]

    def __len__(self) -> int:
        return len(self.lengths)


def flat(
    inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, "rows 2"]]:
    """The ids of rows in one array, and their lengths."""
    lengths = np.array([*map(len, inputs), *map(len, targets)], np.int32).reshape(2, -1).T
    rows = itertools.chain.from_iterable(zip(inputs, targets, strict=True))
    every = itertools.chain.from_iterable(rows)
    return np.fromiter(every, np.int32, int(lengths.sum())), np.ascontiguousarray(lengths)


class MemoryRows:
    """Rows in memory.

    Attributes:
      lengths: as in `Encoded`, of all rows.
      marks: the same.
      losses: the same.
    """

    def __init__(self, parts: Sequence[Encoded]):
        self.lengths = np.concatenate([part.lengths for part in parts])
        self.marks = np.concatenate([part.marks for part in parts])
        self.losses = sum((part.losses for part in parts), Losses())
        self._ids = np.concatenate([part.ids for part in parts])
        self._ends = self.lengths.sum(axis=1, dtype=np.int64).cumsum()

    def __len__(self) -> int:
        return len(self.lengths)

    def pairs(self, numbers: Int[np.ndarray, " n"]) -> list[tuple[Ids, Ids]]:
        """The input and target of the rows of these numbers."""
        found = []
        for row in numbers:
            end = self._ends[row]
            middle = end - self.lengths[row, 1]
            begin = middle - self.lengths[row, 0]
            found.append((self._ids[begin:middle], self._ids[middle:end]))
        return found

    def blocks(self) -> Iterator[tuple[int, Ids]]:
        """All rows in order, some at a time: how many, and their ids."""
        begin = 0
        for row in range(0, len(self), STRETCH):
            rows = self._ends[row : row + STRETCH]
            yield len(rows), self._ids[begin : rows[-1]]
            begin = rows[-1]

    def kept(self, what: str, key: Any, make: Callable[[], Arrays]) -> Arrays:
        """What `make` gives of these rows and of `key`; rows on disk keep it."""
        return make()

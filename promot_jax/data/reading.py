"""The rows of a task's split as token ids: what training needs of them, and no more.

Rows are read a block at a time, and blocks are encoded by threads: the vocabularies' libraries do
their work outside of Python's lock. Of a row only its ids, two lengths and what was noticed about
it remain. Several stages, and several seeds where nothing is drawn by chance, read the same rows.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from promot_jax.data.encoded import MemoryRows
from promot_jax.data.examples import Example, example_blocks
from promot_jax.data.layouts import Layout
from promot_jax.data.quiet import seqio
from promot_jax.data.tasks import get_task
from promot_jax.data.tokens import Encoder
from promot_jax.vocabularies import Vocabulary

In, Out = TypeVar("In"), TypeVar("Out")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """All that a split's rows as ids depend on; equal where they are.

    Attributes:
      task: the task.
      split: its split.
      limit: rows to be read.
      shots: numbers of shots, of which each example gets one.
      seed: of the shots.
      kind: of the model.
      vocab_size: number of ids the model embeds.
      room: what input and target are cut to; None: they keep their lengths.
      vocabulary: the model's.
      identity: what tells it from others.
    """

    task: seqio.Task | seqio.Mixture
    split: str
    limit: int
    shots: tuple[int, ...]
    seed: int
    kind: str
    vocab_size: int
    room: tuple[int, int] | None
    vocabulary: Vocabulary = dataclasses.field(compare=False)
    identity: str = ""

    def __post_init__(self):
        settings = json.dumps(self.vocabulary.settings(), sort_keys=True)
        object.__setattr__(self, "identity", f"{self.vocabulary} {settings}")
        if max(self.shots) == 0:  # nothing is drawn
            object.__setattr__(self, "seed", 0)


@dataclasses.dataclass(frozen=True)
class TaskRows:
    """The rows of a split.

    Attributes:
      rows: their ids.
      layout: how the model reads them.
      first: input and target of the first one, as texts.
      more: whether there are more than were to be read.
    """

    rows: MemoryRows
    layout: Layout
    first: tuple[str, str]
    more: bool


def read(name: str, **settings) -> TaskRows:
    """The rows of a task as ids; see `Wanted`. They stay in memory between calls.

    Raises:
      UserError: a task that cannot be read or encoded.
    """
    return _read(Wanted(get_task(name), **settings))


@functools.lru_cache(maxsize=64)
def _read(wanted: Wanted) -> TaskRows:
    encoder = Encoder(
        wanted.task.name, wanted.vocabulary, wanted.vocab_size, wanted.shots, wanted.seed,
        wanted.kind,
    )  # fmt: skip
    blocks = _Limited(example_blocks(wanted.task.name, wanted.split), wanted.limit)
    encode = functools.partial(encoder.encode, room=wanted.room)
    rows = MemoryRows([*in_threads(encode, blocks)])
    return TaskRows(rows, encoder.layout, blocks.first, blocks.more)


class _Limited:
    """The first rows of a split, in blocks.

    Attributes:
      first: input and target of the very first.
      more: whether there are more.
    """

    def __init__(self, blocks: Iterable[list[Example]], limit: int):
        self._blocks, self._limit = blocks, limit
        self.first, self.more = ("", ""), False

    def __iter__(self) -> Iterator[list[Example]]:
        left = self._limit
        for block in self._blocks:
            if left == self._limit:
                self.first = block[0].inputs, block[0].targets
            self.more = len(block) > left
            if left:
                yield block[:left]
            left -= len(block[:left])
            if self.more:
                return


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """`map`, by as many threads as there are cores; only a few items are read ahead."""
    cores = os.cpu_count() or 1
    pending: collections.deque[concurrent.futures.Future[Out]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

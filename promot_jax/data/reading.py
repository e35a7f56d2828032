"""The rows of a task's split as token ids: what training needs of them, and no more.

Rows are read a block at a time, and blocks are encoded by threads: the vocabularies' libraries do
their work outside of Python's lock. Of a row only its ids, two lengths and what was noticed about
it remain. Several stages, and several seeds where nothing is drawn by chance, read the same rows.

Up to `LARGE` rows are kept in memory. More of them go to the token cache (`cache.py`), if there is
a directory for it: they are encoded once, by all hosts together (`building.py`).
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import gc
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from promot_jax.console import say
from promot_jax.data.building import Source, cached
from promot_jax.data.cache import CachedRows
from promot_jax.data.encoded import Encoded, MemoryRows, flat
from promot_jax.data.examples import Block, example_blocks
from promot_jax.data.identity import FORMAT, Files, Unknown, library, task_identity
from promot_jax.data.layouts import Layout
from promot_jax.data.quiet import seqio
from promot_jax.data.tasks import get_task
from promot_jax.data.tokens import Encoder
from promot_jax.errors import UserError
from promot_jax.files import fingerprint
from promot_jax.hosts import everyone
from promot_jax.vocabularies import Vocabulary

In, Out = TypeVar("In"), TypeVar("Out")
Rows = MemoryRows | CachedRows

# Rows that are kept in memory: to read and encode them again at each start takes two cores five to
# ten seconds, and their ids take some 100 MB.
LARGE = 1 << 18


@dataclasses.dataclass(frozen=True)
class Wanted:
    """All that a split's rows as ids depend on; equal where they are.

    Attributes:
      task: the task.
      split: its split.
      limit: rows to be read; None: all.
      shots: numbers of shots, of which each example gets one.
      seed: of the shots.
      kind: of the model.
      vocab_size: number of ids the model embeds.
      room: what input and target are cut to; None: they keep their lengths.
      vocabulary: the model's.
      cache: directory of token caches; None: all rows stay in memory.
      identity: what tells the vocabulary from others.
    """

    task: seqio.Task | seqio.Mixture
    split: str
    limit: int | None
    shots: tuple[int, ...]
    seed: int
    kind: str
    vocab_size: int
    room: tuple[int, int] | None
    vocabulary: Vocabulary = dataclasses.field(compare=False)
    cache: str | None = None
    identity: str = ""

    def __post_init__(self):
        settings = json.dumps(self.vocabulary.settings(), sort_keys=True)
        object.__setattr__(self, "identity", f"{self.vocabulary} {settings}")
        if max(self.shots) == 0:  # nothing is drawn
            object.__setattr__(self, "seed", 0)

    def about(self) -> dict[str, Any]:
        """The same as values of JSON, whatever the process. Raises `Unknown`."""
        names = ("split", "limit", "shots", "seed", "kind", "room", "identity")
        files = Files(Path(self.cache))
        return {name: getattr(self, name) for name in names} | {
            "format": FORMAT,
            "library": library(self.vocabulary.kind),
            "task": task_identity(self.task, self.split, max(self.shots) > 0, files),
        }


@dataclasses.dataclass(frozen=True)
class TaskRows:
    """The rows of a split.

    Attributes:
      rows: their ids.
      layout: how the model reads them.
      first: input and target of the first one, as texts.
      more: whether there are more than were to be read.
    """

    rows: Rows
    layout: Layout
    first: tuple[str, str]
    more: bool


def read(name: str, **settings) -> TaskRows:
    """The rows of a task as ids; see `Wanted`. What is in memory stays there between calls.

    Raises:
      UserError: a task that cannot be read or encoded, a cache that cannot be written or is
        damaged.
    """
    return _read(Wanted(get_task(name), **settings))


@functools.lru_cache(maxsize=64)
def _read(wanted: Wanted) -> TaskRows:
    blocks = _Blocks(wanted)
    with _few_collected():
        if wanted.cache is None:
            return _in_memory(blocks)
        found = None if _begun(wanted) else _in_memory(blocks, LARGE)
        return found or _on_disk(wanted, blocks) or _in_memory(blocks)


@contextlib.contextmanager
def _few_collected() -> Iterator[None]:
    """Python's garbage collector leaves alone what is there now: TensorFlow and JAX have millions
    of objects, and to look through them again and again takes a tenth of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _in_memory(blocks: "_Blocks", most: int | None = None) -> TaskRows | None:
    """The rows, if there are no more than `most`."""
    found, rows = [], 0
    with contextlib.closing(blocks.encode()) as encoded:
        for _, part in encoded:
            found.append(part)
            rows += 0 if part is None else len(part)
            if most is not None and rows > most:
                blocks.known = dict(enumerate(found))
                return None
    parts = [part for part in found if part is not None]
    if not parts:
        raise blocks.empty()
    return TaskRows(MemoryRows(parts), blocks.layout, parts[0].first, blocks.more)


def _begun(wanted: Wanted) -> bool:
    """Whether the rows have a cache, or a part of it."""
    if not any(everyone(Path(wanted.cache).is_dir())):
        return False
    directory, _ = _place(wanted)
    return directory is not None and any(everyone(directory.is_dir()))


@functools.lru_cache(maxsize=64)
def _place(wanted: Wanted) -> tuple[Path | None, dict[str, Any] | str]:
    """The directory of a cache and what it depends on; where it cannot be told on what, why."""
    try:
        about = json.dumps(wanted.about(), sort_keys=True)
    except Unknown as error:
        return None, str(error)
    name = f"{wanted.task.name}-{wanted.split}-{fingerprint(about.encode())}"
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return Path(wanted.cache) / name, json.loads(about)


def _on_disk(wanted: Wanted, blocks: "_Blocks") -> TaskRows | None:
    """The rows in the token cache, which is made if need be; None: they cannot be kept there."""
    directory, about = _place(wanted)
    name = f"{wanted.task.name}/{wanted.split}"
    if directory is None:
        say(f"{name}: its tokens stay in memory: nothing tells its rows from others ({about})")
        return None
    source = Source(name, about, blocks.encode, blocks.count(), lambda: blocks.more)
    rows = cached(directory, source)
    if not len(rows):
        raise blocks.empty()
    _check_first(rows, blocks, name)
    return TaskRows(rows, blocks.layout, tuple(rows.whole["first"]), rows.whole["more"])


def _check_first(rows: CachedRows, blocks: "_Blocks", name: str) -> None:
    """Raises UserError where the cache does not begin with the rows that the task gives now."""
    with contextlib.closing(blocks.encode(lambda number: number > 0)) as encoded:
        _, part = next(encoded)
    there = rows.pairs(np.arange(0 if part is None else min(len(part), len(rows))))
    ids, lengths = flat(*zip(*there, strict=True)) if there else (np.zeros(0), np.zeros((0, 2)))
    if part is not None and not (
        np.array_equal(lengths, part.lengths) and np.array_equal(ids, part.ids)
    ):
        raise UserError(
            f"token cache: {rows.directory} has other rows than {name} gives now: delete it, and it"
            " is made again"
        )


class _Blocks:
    """The blocks of a split, encoded by as many threads as there are cores.

    Attributes:
      layout: how the model reads the rows.
      more: whether there were more rows than were to be read, when they have been.
      known: those that are encoded already, by their numbers, until they are given.
    """

    def __init__(self, wanted: Wanted):
        encoder = Encoder(
            wanted.task.name, wanted.vocabulary, wanted.vocab_size, wanted.shots, wanted.seed,
            wanted.kind,
        )  # fmt: skip
        self._wanted, self._encoder = wanted, encoder
        self.layout, self.more = encoder.layout, False
        self.known: dict[int, Encoded | None] = {}

    def encode(
        self, passed_over: Callable[[int], bool] = lambda number: False
    ) -> Iterator[tuple[int, Encoded | None]]:
        """Each block's number, and its rows, if it has any and is not passed over."""
        return in_threads(lambda job: job(), self._jobs(passed_over))

    def _jobs(self, passed_over: Callable[[int], bool]) -> Iterator[Callable]:
        left, self.more = self._wanted.limit, False
        for number, block in enumerate(example_blocks(self._wanted.task.name, self._wanted.split)):
            if left is not None:  # else threads find out how many rows it has
                rows = block()
                self.more, block = len(rows) > left, functools.partial(list, rows[:left])
                left -= min(left, len(rows))
            known, over = self.known.pop(number, None), passed_over(number)
            yield functools.partial(self._encode, number, None if over else block, known)
            if self.more:
                return

    def _encode(
        self, number: int, block: Block | None, known: Encoded | None
    ) -> tuple[int, Encoded | None]:
        if block is None or known is not None:
            return number, known if block is not None else None
        examples = block()
        return number, self._encoder.encode(examples, self._wanted.room) if examples else None

    def count(self) -> int | None:
        """How many rows there are, if the source knows."""
        try:
            count = self._wanted.task.num_input_examples(self._wanted.split)
        except Exception:  # a function of the user's; who reads the rows says what is wrong
            return None
        counts = [each for each in (count, self._wanted.limit) if each and each < math.inf]
        return int(min(counts)) if counts else None

    def empty(self) -> UserError:
        """What to raise where there are no rows."""
        wanted = self._wanted
        return UserError(f"task {wanted.task.name!r} has no rows in its split {wanted.split!r}")


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """`map`, by as many threads as there are cores; only a few items are read ahead."""
    cores = os.cpu_count() or 1
    pending: collections.deque[concurrent.futures.Future[Out]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * cores:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

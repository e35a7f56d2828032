"""Making a token cache: by all hosts together, a shard at a time.

Shards are stretches of the source's blocks, and the hosts take turns with them. Each host reads the
source and encodes its own shards, of which it passes over those that are there already: so what was
killed goes on. Hosts that do not see each other's files make a cache each, on a disk of their own.
Two runs that make the same cache do not disturb each other, and on one machine the second one waits
for the first.
"""

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from promot_jax.console import say
from promot_jax.data.cache import ABOUT, WHOLE, CachedRows, Shard, finish, make_directory, save_json
from promot_jax.data.encoded import Encoded
from promot_jax.errors import UserError
from promot_jax.files import lock
from promot_jax.hosts import everyone, is_first, wait_for_all

SHARD = 128  # blocks of rows
SILENCE = 30.0  # seconds between lines about progress


@dataclasses.dataclass(frozen=True)
class Source:
    """What is to be cached.

    Attributes:
      name: of the task and its split.
      about: what it depends on.
      encode: (which blocks to pass over) -> each block's number, and its rows, if there are any.
      count: rows, if that is known.
      more: whether there were more than were to be read, when all blocks were read.
    """

    name: str
    about: dict[str, Any]
    encode: Callable[[Callable[[int], bool]], Iterator[tuple[int, Encoded | None]]]
    count: int | None
    more: Callable[[], bool]


def cached(directory: Path, source: Source) -> CachedRows:
    """The rows in a cache directory, which is made or finished first.

    Raises:
      UserError: rows that cannot be read or encoded, a directory that cannot be written.
    """
    whole = directory / WHOLE
    if not all(everyone(whole.exists())):
        _make_directory(directory, source)
        index, hosts = _share(directory)
        with _sole(directory, index, source.name):
            failed = None
            try:
                if not whole.exists():
                    shards = _make_shards(directory, source, index, hosts)
            except Exception as error:
                failed = error
            if not all(everyone(failed is None)):
                raise failed or UserError(
                    f"{source.name}: another host could not make its part of the token cache"
                    f" {directory}: see what it says"
                )
            if index == 0 and not whole.exists():
                finish(directory, shards, source.more())
        wait_for_all("token cache")
    return CachedRows(directory)


def _make_directory(directory: Path, source: Source) -> None:
    make_directory(directory)
    if not (directory / ABOUT).exists():
        save_json(directory / ABOUT, source.about)
    say(f"{source.name}: its tokens go to {directory}, once")


def _make_shards(directory: Path, source: Source, index: int, hosts: int) -> int:
    """Makes this host's shards; returns how many there are of all."""
    todo: dict[int, bool] = {}

    def passed_over(block: int) -> bool:
        number = block // SHARD
        if number not in todo:
            todo[number] = number % hosts == index and not Shard(directory, number).exists()
        return not todo[number]

    progress = _Progress(source, hosts)
    shards = itertools.groupby(source.encode(passed_over), lambda pair: pair[0] // SHARD)
    for number, group in shards:
        if todo[number]:  # else the next turn of the loop passes over the group
            rows = (progress(part) for _, part in group if part is not None)
            Shard(directory, number).write(rows)
    return len(todo)


class _Progress:
    """Says now and then how many rows are done."""

    def __init__(self, source: Source, hosts: int):
        self._source, self._hosts, self._rows = source, hosts, 0
        self._begun = self._said = time.monotonic()

    def __call__(self, part: Encoded) -> Encoded:
        self._rows += len(part)
        now, rows = time.monotonic(), self._rows * self._hosts
        if now - self._said >= SILENCE:
            self._said = now
            of = f" of {self._source.count:,}" if self._source.count else ""
            rate = rows / (now - self._begun)
            say(f"{self._source.name}: tokens of {rows:,}{of} rows are made, {rate:,.0f} a second")
        return part


@contextlib.contextmanager
def _sole(directory: Path, index: int, name: str) -> Iterator[None]:
    """Waits for another run on this machine that makes the same."""
    with open(directory / f".lock-{index}", "wb") as file:
        waits = False
        while True:
            try:
                lock(file)
                break
            except BlockingIOError:
                if not waits:
                    say(f"{name}: waiting for another run, which makes {directory}")
                waits = True
                time.sleep(1)
        yield


def _share(directory: Path) -> tuple[int, int]:
    """Which host this is of how many that share the directory."""
    hosts = jax.process_count()
    if hosts == 1:
        return 0, 1
    number = int.from_bytes(os.urandom(3), "big")
    number = int(multihost_utils.broadcast_one_to_all(number))
    mark = directory / f".host-{number}"
    if is_first():
        mark.touch()
    wait_for_all("mark of the token cache")
    shared = all(everyone(mark.exists()))
    if is_first():
        mark.unlink(missing_ok=True)
    return (jax.process_index(), hosts) if shared else (0, 1)

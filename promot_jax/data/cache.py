"""The token cache: rows as ids on disk, where any of them can be read by its number.

A directory has the rows of one task's split, as one vocabulary writes them, in shards:

    about.json           what the rows depend on; its digest names the directory
    00000.array_record   rows, each the number of its input's ids, the input's ids, the target's
    00000.npz            lengths and marks of these rows, and what they lose; written last
    ...
    whole.json           how many rows and shards there are: then it is complete
    <what>-<key>.npz     what was computed of all rows: digests, packs

ArrayRecord is the format that TFDS and Grain keep rows in. 16 rows together cost less disk than
each by itself, and are still read at once. Everything is written under another name first, so that
what is there is whole; checksums show what was damaged later.
"""

import errno
import functools
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from promot_jax.data.encoded import Arrays, Encoded, Ids
from promot_jax.data.losses import Losses
from promot_jax.errors import UserError
from promot_jax.failures import DISK, writing
from promot_jax.files import fingerprint, read_json, seal, unseal

WHOLE, ABOUT = "whole.json", "about.json"
OPTIONS = "group_size:16,uncompressed"  # zstd saves a third of the disk, for a third of the speed
STRETCH = 1 << 14  # rows that are read together in order


class Shard:
    """A part of the rows. It is there when its `.npz` is."""

    def __init__(self, directory: Path, number: int):
        self._rows = directory / f"{number:05}.array_record"
        self._about = directory / f"{number:05}.npz"

    def exists(self) -> bool:
        return self._about.exists()

    def write(self, parts: Iterable[Encoded]) -> None:
        """Writes its rows. Raises OSError where that fails."""
        from array_record.python.array_record_module import ArrayRecordWriter

        lengths, marks = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.uint8)]
        losses, first, temporary = Losses(), ("", ""), _temporary(self._rows)
        try:
            writer = ArrayRecordWriter(str(temporary), OPTIONS)
            for part in parts:
                for record in _records(part):
                    writer.write(record)
                lengths.append(part.lengths)
                marks.append(part.marks)
                first = first if losses.rows else part.first
                losses += part.losses
            writer.close()
            temporary.replace(self._rows)
        except RuntimeError as error:  # ArrayRecord's; what the disk says is in its text
            number = next((n for n in DISK if os.strerror(n) in str(error)), None)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(self._rows)) from error
        finally:
            temporary.unlink(missing_ok=True)
        arrays = {"lengths": np.concatenate(lengths), "marks": np.concatenate(marks)}
        texts = {"losses": np.array(losses.to_json()), "first": np.array(json.dumps(first))}
        save(self._about, arrays | texts)

    def load(self, *names: str) -> list[np.ndarray]:
        """Arrays of its `.npz`: lengths, marks, losses, first."""
        return load(self._about, *names)

    @functools.cached_property
    def _reader(self):
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(str(self._rows), "readahead_buffer_size:0")
        if reader.num_records() != len(self.load("marks")[0]):
            raise damaged(self._rows, "it is cut off")
        return reader

    def read(self, rows: Sequence[int] | range) -> list[bytes]:
        """Records, by their numbers in the shard."""
        if not len(rows):
            return []
        try:
            if isinstance(rows, range):
                return self._reader.read(rows.start, rows.stop)
            return self._reader.read(rows)
        except RuntimeError as error:  # its checksums do not fit, or the disk fails
            raise damaged(self._rows, str(error).partition(";")[0]) from error


def _records(part: Encoded) -> Iterator[bytes]:
    inputs = part.lengths[:, :1]
    ends = part.lengths.sum(axis=1, dtype=np.int64).cumsum()
    begin = 0
    for count, end in zip(inputs, ends.tolist(), strict=True):
        yield count.tobytes() + part.ids[begin:end].tobytes()
        begin = end


def finish(directory: Path, shards: int, more: bool) -> None:
    """Makes a directory complete whose shards are all there."""
    sizes, losses = [], Losses()
    every = [Shard(directory, number) for number in range(shards)]
    for shard in every:
        marks, lost = shard.load("marks", "losses")
        sizes.append(len(marks))
        losses += Losses.from_json(str(lost))
    first = json.loads(str(every[0].load("first")[0]))
    about = {"shards": sizes, "losses": losses.to_json(), "first": first, "more": more}
    save_json(directory / WHOLE, about)


class CachedRows:
    """Rows on disk, with what `MemoryRows` has.

    Attributes:
      directory: where they lie.
      whole: what is known of them together: shards, losses, first, more.
    """

    def __init__(self, directory: Path):
        """Raises UserError where it is damaged."""
        self.directory = directory
        self.whole = _sealed(directory / WHOLE)
        self._shards = [Shard(directory, number) for number in range(len(self.whole["shards"]))]
        self._begins = np.cumsum([0, *self.whole["shards"]])
        self.losses = Losses.from_json(self.whole["losses"])

    def __len__(self) -> int:
        return int(self._begins[-1])

    @property
    def lengths(self) -> Int[np.ndarray, "rows 2"]:
        return self._every("lengths", np.zeros((len(self), 2), np.int32))

    @property
    def marks(self) -> UInt8[np.ndarray, " rows"]:
        return self._every("marks", np.zeros(len(self), np.uint8))

    def _every(self, name: str, array: np.ndarray) -> np.ndarray:
        """An array of all shards, read into one that is there: never are there two of that size."""
        for shard, begin, end in zip(self._shards, self._begins, self._begins[1:], strict=False):
            [array[begin:end]] = shard.load(name)
        return array

    def pairs(self, numbers: np.ndarray) -> list[tuple[Ids, Ids]]:
        shards = self._begins.searchsorted(numbers, "right") - 1
        found: list[Any] = [None] * len(numbers)
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            rows = (numbers[places] - self._begins[shard]).tolist()
            for place, record in zip(places, self._shards[shard].read(rows), strict=True):
                ids = np.frombuffer(record, np.int32)
                found[place] = ids[1 : 1 + ids[0]], ids[1 + ids[0] :]
        return found

    def blocks(self) -> Iterator[tuple[int, Ids]]:
        for shard, count in zip(self._shards, self.whole["shards"], strict=True):
            for begin in range(0, count, STRETCH):
                records = shard.read(range(begin, min(begin + STRETCH, count)))
                heads = np.cumsum([0, *(len(record) // 4 for record in records[:-1])])
                yield len(records), np.delete(np.frombuffer(b"".join(records), np.int32), heads)

    def kept(self, what: str, key: Any, make: Callable[[], Arrays]) -> Arrays:
        """What `make` gives of these rows and of `key`, computed once."""
        name = fingerprint(json.dumps(key, sort_keys=True).encode())
        path = self.directory / f"{what}-{name}.npz"
        try:
            return load(path)
        except FileNotFoundError:
            made = make()
            save(path, made)
            return made


def make_directory(directory: Path) -> None:
    """Raises UserError where it cannot be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"DATA_CACHE: {str(directory)!r} cannot be written ({error.strerror}): set DATA_CACHE"
            " to a directory on a disk with room"
        ) from error


def save(path: Path, arrays: Arrays) -> None:
    """Writes arrays in one step."""
    temporary = _temporary(path)
    try:
        with writing(path):
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, *names: str) -> Any:
    """Arrays that were saved: those of these names, or all by name.

    Raises:
      FileNotFoundError: there are none.
      UserError: they are damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names] if names else dict(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever reading zip files and arrays makes of wrong bytes
        raise damaged(path, str(error)) from error


def save_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a sealed JSON file in one step."""
    temporary = _temporary(path)
    try:
        with writing(path):
            temporary.write_text(json.dumps(seal(values), indent=1) + "\n", encoding="utf-8")
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sealed(path: Path) -> dict[str, Any]:
    try:
        return unseal(read_json(path, fix=_fix(path)))
    except ValueError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"token cache: {path} is damaged ({reason}): {_fix(path)}")


def _fix(path: Path) -> str:
    return f"delete {path.parent}, which is then made again"


def _temporary(path: Path) -> Path:
    """Another host, or another run, may write the same at the same time."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")

"""Paths in a bucket of Google Cloud Storage, `gs://bucket/name`, for whoever uses paths of a disk.

An object is written whole or not at all, and everyone sees it from then on. There are no
directories: a name is one where others lie below it, or where an empty object `name/` says so, as
`mkdir` leaves one. Nothing can be appended to, renamed or locked; but an object can be written only
if nobody else has written it since (`write_if`), from which `promot_jax.lease` makes a claim.

TensorStore is the client, as it is of the arrays in checkpoints: it retries what fails for a
moment, and finds credentials as Google's tools do (GOOGLE_APPLICATION_CREDENTIALS, gcloud's login,
the machine's account; none for what is public). TENSORSTORE_GCS_HTTP_URL leads it to an emulator.
"""

import errno
import fnmatch
import functools
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import tensorstore as ts
from etils import epath
from etils.epath import gpath

from promot_jax import process
from promot_jax.console import say
from promot_jax.failures import bucket_error

# About two minutes in all. TensorStore left alone tries for a quarter of an hour.
RETRIES = {"max_retries": 10, "initial_delay": "500ms", "max_delay": "16s"}
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
LONGEST = 700  # bytes of a directory's name, of 1024, for what lies in it
PART = 1 << 26  # bytes that are read at a time of what may be large
NOBODY = b""  # TensorStore's version of what somebody else has written meanwhile


def why_no_path(url: str) -> str | None:
    """What is wrong with the name of an object or directory in a bucket, or None."""
    bucket, _, name = url.removeprefix("gs://").partition("/")
    if not url.startswith("gs://"):
        return "of buckets only those of gs:// are known"
    if not BUCKET.fullmatch(bucket):
        return f"{bucket!r} is no name of a bucket"
    if wrong := [c for c in "?#\\" if c in name] or [c for c in name if not c.isprintable()]:
        return f"it has a {wrong[0]!r}"
    if {".", ".."} & set(name.split("/")):
        return "it has '.' or '..' in the place of a name"
    return "its name is too long" if len(name.encode()) > LONGEST else None


@epath.register_path_cls("gs://")
class BucketPath(gpath.PosixGPath):
    """An object, or what lies below its name; also what Orbax makes of `gs://...`.

    Raises, in its methods:
      OSError: the bucket refuses, or does not answer; with the object's name.
    """

    @property
    def bucket(self) -> str:
        return self.parts[2]

    @property
    def key(self) -> str:
        """The object's name."""
        return "/".join(self.parts[3:])

    @property
    def _below(self) -> str:
        """What the names of objects in it begin with."""
        return f"{self.key}/" if self.key else ""

    def absolute(self) -> Self:
        return self

    def resolve(self, strict: bool = False) -> Self:
        return self

    def is_symlink(self) -> bool:
        return False

    def is_file(self) -> bool:
        return bool(self.key) and self._is_there(self.key)

    def is_dir(self) -> bool:
        # Of a large directory its mark is found faster than all that lies in it.
        return bool((self._below and self._is_there(self._below)) or self._list())

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def names(self) -> list[str]:
        """The names of all objects below it, relative to it; none of marks of directories."""
        found = self._list()
        return sorted(name[len(self._below) :] for name in found if not name.endswith("/"))

    def iterdir(self) -> Iterator[Self]:
        found = self._list()
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        entries = {name[len(self._below) :].partition("/")[0] for name in found}
        return (self / name for name in sorted(entries - {""}))

    def glob(self, pattern: str) -> Iterator[Self]:
        """What lies so many names below it as the pattern has, and fits."""
        wanted, found = pattern.split("/"), set()
        for name in self.names():
            parts = name.split("/")[: len(wanted)]
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                found.add("/".join(parts))
        return (self / name for name in sorted(found))

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        if self.exists():
            if exist_ok and not self.is_file():
                return
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))
        self._ask(self._store.write(self._below, b""))

    def rmdir(self) -> None:
        self.rmtree()

    def rmtree(self, missing_ok: bool = False) -> None:
        """Removes all that lies below it."""
        if self._list():
            self._ask(self._store.delete_range(self._range))

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        self._ask(self._store.write(self.key, None))

    def open(self, mode: str = "r", *, encoding: str | None = None, **_: Any) -> IO:
        """The object's content, or what takes its place (`Upload`)."""
        if mode[0] == "r":
            content = io.BytesIO(self.read_bytes())
            return content if "b" in mode else io.TextIOWrapper(content, encoding or "utf-8")
        if mode[0] == "x" and self.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))
        there = mode[0] == "a" and self.is_file()
        return Upload(self, self.read_bytes() if there else b"")

    def read_bytes(self) -> bytes:
        content, _ = self.read()
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return content

    def read_part(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, fewer where the object ends."""
        return self._part(self.key, start, end)[0] or b""

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: bytes) -> int:
        self._ask(self._store.write(self.key, bytes(data)))
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def read(self) -> tuple[bytes | None, bytes]:
        """Content, None where there is no object, and version."""
        found = self._ask(self._store.read(self.key))
        return (bytes(found.value) if found.state == "value" else None), found.stamp.generation

    def download(self, path: Path) -> None:
        """Copies the object into a file, a part at a time."""
        content, version = self._part(self.key, 0, PART)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        with path.open("wb") as file:
            while content:
                file.write(content)
                content, now = self._part(self.key, file.tell(), file.tell() + PART)
                if now not in (None, version) or content is None:
                    raise OSError(errno.EREMOTEIO, "it was changed while it was read", str(self))

    def version(self) -> bytes | None:
        """What changes when the object does, if it is not empty; None where there is none."""
        return self._part(self.key, 0, 1)[1] if self.is_file() else None

    def write_if(self, content: bytes | None, version: bytes) -> bytes | None:
        """Writes, or with None removes, the object if it still is of a version that was read.

        Returns:
          Its version now; None where somebody has written it, which also this very call may have:
          an answer that was lost on its way is asked for again.
        """
        done = self._ask(self._store.write(self.key, content, if_equal=version)).generation
        return None if done == NOBODY else done

    @property
    def _store(self) -> ts.KvStore:
        try:
            return _open(self.bucket)
        except ValueError as error:
            raise self._failed(error) from error

    def _is_there(self, name: str) -> bool:
        return self._part(name, 0, 1)[0] is not None

    def _part(self, name: str, start: int, end: int) -> tuple[bytes | None, bytes | None]:
        """Bytes of an object, and its version where there are any; None where there is none."""
        for part in (slice(start, end), slice(start, None)):  # the latter where it ends before
            try:
                found = self._store.read(name, byte_range=part).result()
            except Exception as error:
                if not str(error).startswith("OUT_OF_RANGE"):
                    raise self._failed(error) from error
            else:
                there = found.state == "value"
                return (bytes(found.value), found.stamp.generation) if there else (None, None)
        return b"", None

    @property
    def _range(self) -> ts.KvStore.KeyRange:
        """All names that begin with `_below`: "0" comes after "/"."""
        return ts.KvStore.KeyRange(self._below, f"{self.key}0" if self.key else "")

    def _list(self) -> list[str]:
        """The names of all objects below it."""
        found = self._ask(self._store.list(self._range))
        if not found:  # as TensorStore also lists what it is not allowed to: reading tells
            self._is_there(self._below or "a")
        return [key.decode(errors="replace") for key in found]

    def _ask(self, future: ts.Future) -> Any:
        try:
            return future.result()
        except Exception as error:  # TensorStore raises several kinds
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OSError:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        return bucket_error(said.partition(":")[0], said, str(self))


class Upload:
    """What is written to an object: all of it anew at each `flush`, and at the end.

    Where writing was broken off by an error, the object stays what it was.
    """

    def __init__(self, path: BucketPath, content: bytes):
        self.path, self.content, self.changed = path, bytearray(content), True

    def write(self, data: bytes | str) -> int:
        self.content += data.encode() if isinstance(data, str) else data
        self.changed = True
        return len(data)

    def flush(self) -> None:
        if self.changed:
            self.path.write_bytes(bytes(self.content))
            self.changed = False

    def close(self) -> None:
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()


@functools.cache
def _open(bucket: str) -> ts.KvStore:
    failed = None
    with process.without_stderr():  # the first request of a process finds credentials, and says so
        try:
            _store_of(bucket, {"max_retries": 0}).read("a", byte_range=slice(0, 1)).result()
        except Exception as error:
            failed = bucket_error(str(error).partition(":")[0], str(error), f"gs://{bucket}")
    if failed is not None and "retry" in failed.strerror:
        say(f"{failed.filename}: {failed.strerror}: trying again, for about two minutes")
    return _store_of(bucket, RETRIES)


def _store_of(bucket: str, retries: dict[str, Any]) -> ts.KvStore:
    context = ts.Context({"gcs_request_retries": retries})
    return ts.KvStore.open({"driver": "gcs", "bucket": bucket}, context=context).result()

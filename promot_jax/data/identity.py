"""What a task's rows as ids depend on, as values whose digest names their token cache.

A file is known by its content, a TFDS data set by name, configuration and version, other files by
size and time. A function is known by its code: the text of the module that it lies in, and of the
user's other modules that this one uses, with what it holds on to (defaults, closures, the arguments
of a `partial`). What a function reads while it runs cannot be known: the first rows are compared
whenever a cache is opened, and for the rest there is `FORMAT`'s like, the user's own hand: delete
the directory.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promot_jax.data.cache import load, make_directory, save
from promot_jax.data.examples import seqio_cache
from promot_jax.data.file_parts import FileSource
from promot_jax.data.quiet import seqio, tf
from promot_jax.data.tasks import task_info
from promot_jax.errors import UserError
from promot_jax.files import fingerprint
from promot_jax.paths import as_path, in_bucket, resolve

FORMAT = 1  # goes up when rows come out differently, or lie differently
LIBRARIES = {"sentencepiece": "sentencepiece", "tokenizer": "tokenizers"}
NOTED = 64 << 20  # bytes of a file from which on its digest is noted
DEEPEST, MOST = 20, 10**7  # how deep values lie in each other, and how many there are


class Unknown(Exception):
    """Nothing tells one state of a thing from another."""


def task_identity(task: seqio.Task, split: str, shots: bool, files: "Files") -> dict[str, Any]:
    """All that a task's texts, or ids of its own, depend on.

    Args:
      task: the task.
      split: its split.
      shots: whether its training rows serve as shots too.
      files: gives digests of files.

    Raises:
      Unknown: it cannot be told.
    """
    describe = Describer()
    splits = dict.fromkeys([split, *(["train"] if shots else [])])
    found = {
        "task": task.name,
        "sources": {each: _source(task, each, describe, files) for each in splits},
        "preprocessors": describe(list(task.preprocessors)),
        "features": {
            name: [feature.dtype.name, feature.rank, feature.add_eos]
            for name, feature in task.output_features.items()
        },
        "info": [task_info(task.name).separator, task_info(task.name).shot_template],
    }
    return found | {"modules": describe.modules}


def library(kind: str) -> str:
    """The library of a kind of vocabulary, and its version."""
    name = LIBRARIES.get(kind)
    return f"{name} {importlib.metadata.version(name)}" if name else ""


def _source(task: seqio.Task, split: str, describe: "Describer", files: "Files") -> Any:
    source = task.source
    if isinstance(source, FileSource):
        part = source.parts[split]
        return ["file", files.digest(part.path), describe(part.about)]
    try:
        if (directory := seqio_cache(task, split)) is not None:
            return ["seqio", _states(tf.io.gfile.glob(f"{directory}/*{split}*"))]
        if isinstance(source, seqio.TfdsDataSource):
            loader = source.tfds_dataset
            name = loader.resolved_tfds_name(split)  # with configuration and version
            return ["tfds", name, repr(loader), str(loader.size(split))]
        if isinstance(source, seqio.FileDataSource):
            return ["files", describe(vars(source)), _states(source.list_shards(split))]
    except Exception as error:  # who reads it says so
        raise Unknown(f"{type(error).__name__}: {error}") from error
    return describe(source)


def _states(paths: Sequence[str]) -> list[Any]:
    """Names, sizes and times of files."""
    stats = [tf.io.gfile.stat(path) for path in sorted(paths)]
    names = [os.path.basename(path) for path in sorted(paths)]
    return [names, [[stat.length, stat.mtime_nsec] for stat in stats]]


class Files:
    """Digests of files; those of large ones are noted in a directory, by path, size and time."""

    def __init__(self, directory: Path):
        self._directory = directory

    def digest(self, path: str) -> str:
        """Of the content; of an object in a bucket, of its version."""
        found = as_path(resolve(path))
        try:
            if in_bucket(found):
                return fingerprint(found.version() or b"")
            place, stat = os.path.realpath(found), found.stat()
            if stat.st_size < NOTED:
                return _content_digest(place)
        except OSError as error:
            raise UserError(f"file {path!r} cannot be read; check the path") from error
        state = [place, stat.st_size, stat.st_mtime_ns]
        note = self._directory / f"file-{fingerprint(json.dumps(state).encode())}.npz"
        try:
            [found] = load(note, "digest")
        except FileNotFoundError:
            make_directory(self._directory)
            found = np.array(_content_digest(place))
            save(note, {"digest": found})
        return str(found)


def _content_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class Describer:
    """Values as JSON's values, equal where they do the same.

    Attributes:
      modules: name -> digest of the modules whose code was met.
    """

    def __init__(self):
        self.modules: dict[str, str] = {}
        self._depth = self._count = 0

    def __call__(self, value: Any) -> Any:
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > DEEPEST or self._count > MOST:
            raise Unknown("it holds on to too much, or to itself")
        found = self._describe(value)
        self._depth -= 1
        return found

    def _describe(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float() | str():
                return value
            case complex() | types.EllipsisType() | np.generic() | tf.dtypes.DType():
                return repr(value)
            case bytes():
                return fingerprint(value)
            case os.PathLike():
                return os.fspath(value)
            case tf.Tensor():
                return self(value.numpy())
            case np.ndarray():
                plain = value.tolist() if value.dtype == object else value.tobytes()
                return [value.dtype.str, value.shape, self(plain)]
            case Mapping():
                return ["mapping", *([self(key), self(item)] for key, item in value.items())]
            case list() | tuple() | range():
                return self._many(value)
            case set() | frozenset():
                return sorted((self(item) for item in value), key=repr)
            case functools.partial():
                return ["partial", self(value.func), self(value.args), self(value.keywords)]
            case types.FunctionType():
                return self._function(value)
            case types.CodeType():
                return [fingerprint(value.co_code), self(value.co_names), self(value.co_consts)]
            case types.MethodType():
                return [self(value.__self__), self(value.__func__)]
            case types.BuiltinFunctionType() | types.ModuleType() | type():
                self._module(getattr(value, "__module__", None) or value.__name__)
                return getattr(value, "__qualname__", value.__name__)
        return self._object(value)

    def _many(self, values: Iterable[Any]) -> Any:
        """A list; a long one by its digest."""
        found = [self(item) for item in values]
        return found if len(found) <= 100 else fingerprint(json.dumps(found).encode())

    def _object(self, value: Any) -> Any:
        self._module(type(value).__module__)
        if dataclasses.is_dataclass(value):
            state = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        elif hasattr(value, "__dict__"):
            state = vars(value)
        else:
            raise Unknown(f"nothing tells one {type(value).__qualname__} from another")
        return [type(value).__qualname__, self(state)]

    def _function(self, function: types.FunctionType) -> Any:
        self._module(function.__module__)
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        held = [cells, function.__defaults__, function.__kwdefaults__]
        return [function.__qualname__, self(function.__code__), self(held)]

    def _module(self, name: str) -> None:
        """Notes a module's text, and that of the user's modules that it uses."""
        module = sys.modules.get(name)
        if module is None or name in self.modules:
            return
        path = getattr(module, "__file__", None)
        self.modules[name] = "" if path is None else _text_digest(path)
        if path is not None and not _is_library(path):
            for value in list(vars(module).values()):
                own = getattr(value, "__module__", None)
                name = value.__name__ if isinstance(value, types.ModuleType) else own
                used = getattr(sys.modules.get(name), "__file__", None)
                if used and not _is_library(used):
                    self._module(name)


@functools.cache
def _text_digest(path: str) -> str:
    return fingerprint(Path(path).read_bytes())


@functools.cache
def _is_library(path: str) -> bool:
    """Whether a module is installed, or ours, and no part of a user's program."""
    places = [*sysconfig.get_paths().values(), *site.getsitepackages(), Path(__file__).parents[1]]
    return any(Path(path).is_relative_to(place) for place in places)

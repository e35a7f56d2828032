"""The file format GGUF: a header of settings and tables, then tensors, most of them quantised.

Little-endian: magic, version, counts; settings as (name, type, value); tensors as (name, dimensions
with the innermost first, type, offset); padding; data. The package `gguf` knows the types and what
their blocks mean. Its reader makes several arrays of each word of a vocabulary (Gemma's takes it
12 s and 740 MB), so the header is read here; and a file mapped into memory counts as used as far as
it was touched, so a tensor's bytes are read alone, when it is asked for.
"""

import dataclasses
import functools
import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from promot_jax.convert.source import check_downloaded
from promot_jax.errors import UserError

MAGIC, VERSIONS = b"GGUF", (2, 3)
TEXT, LIST = 8, 9
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?"}
NUMBERS |= {10: "<u8", 11: "<i8", 12: "<f8"}
ALIGNMENT = 32
# Types whose bytes are the numbers themselves; what is in blocks becomes float32.
PLAIN = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor of a file.

    Attributes:
      name: its name.
      kind: the type it is stored in, e.g. "Q4_K".
      shape: the innermost dimension last, as NumPy has it.
      offset: where its bytes begin in the file.
      size: how many they are.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def dtype(self) -> str:
        """NumPy's name of the type that it is read as."""
        return np.dtype(PLAIN.get(self.kind, np.float32)).name


@dataclasses.dataclass(frozen=True)
class File:
    """A GGUF file whose header was read.

    Attributes:
      path: where it lies.
      settings: its settings and tables by their names.
      tensors: by their names.
    """

    path: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    def raw(self, tensor: Stored) -> np.ndarray:
        """A tensor's bytes, uint8 [size]."""
        return np.fromfile(self.path, np.uint8, tensor.size, offset=tensor.offset)

    def read(self, tensor: Stored) -> np.ndarray:
        """A tensor's numbers, of its shape and dtype."""
        raw = self.raw(tensor)
        if tensor.kind in PLAIN:
            return raw.view(PLAIN[tensor.kind]).reshape(tensor.shape)
        rows = raw.reshape(*tensor.shape[:-1], -1)
        return dequantize(rows, GGMLQuantizationType[tensor.kind])


def is_gguf(path: str) -> bool:
    """Whether a path is a file that is, or is called, a GGUF file."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return file.suffix.lower() == ".gguf" or opened.read(len(MAGIC)) == MAGIC


def open_file(path: str) -> File:
    """Reads the header of a GGUF file, and checks that all of its tensors are there.

    Raises:
      UserError: it is no GGUF file, of another version or byte order, damaged, truncated, or has
        tensors of types that the package `gguf` does not know.
    """
    check_downloaded(Path(path))
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{path!r} is no GGUF file (it does not begin with GGUF): give another")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data, path)
            try:
                header.check_version()
                return header.file()
            except (struct.error, IndexError, ValueError, OverflowError, MemoryError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    f"{path!r} is truncated or damaged in its header ({error}): download it again"
                ) from error


class _Header:
    """Reads a header, front to back. What reaches beyond the file's end raises struct.error."""

    def __init__(self, data: mmap.mmap, path: str):
        self.data, self.path, self.at = data, path, len(MAGIC)

    def check_version(self) -> None:
        version = self.number("<u4")
        if version and not version % 2**16:
            raise UserError(
                f"{self.path!r} is a big-endian GGUF file: convert it (gguf's gguf-convert-endian"
                " does)"
            )
        if version not in VERSIONS:
            raise UserError(
                f"{self.path!r} is of GGUF's version {version}: only {VERSIONS[0]} and"
                f" {VERSIONS[1]} can be read; convert the model again"
            )

    def file(self) -> File:
        tensors, settings = self.number("<u8"), self.number("<u8")
        found = {}
        for _ in range(settings):
            name = self.text()
            found[name] = self.value(self.number("<u4"))
        told = [self.tensor() for _ in range(tensors)]
        alignment = found.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment < 1:
            raise ValueError(f"general.alignment = {alignment!r}")
        start = -(-self.at // alignment) * alignment
        placed = {t.name: dataclasses.replace(t, offset=start + t.offset) for t in told}
        if len(placed) < len(told):
            raise ValueError("two tensors have one name")
        last = max(placed.values(), key=lambda t: t.offset + t.size, default=None)
        if last and last.offset + last.size > len(self.data):
            raise UserError(
                f"{self.path!r} is truncated: {last.name} ends at byte {last.offset + last.size:,},"
                f" and the file has {len(self.data):,}: download it again"
            )
        return File(self.path, found, placed)

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin."""
        start = self.at
        if size > len(self.data) - start:
            raise struct.error(f"it ends at byte {len(self.data):,}")
        self.at += size
        return start

    def number(self, kind: str) -> Any:
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> list:
        start = self.take(np.dtype(kind).itemsize * count)
        return np.frombuffer(self.data[start : self.at], kind).tolist()

    def text(self) -> str:
        return self.texts(1)[0]

    def texts(self, count: int) -> list[str]:
        found, data, unpack = [], self.data, struct.Struct("<Q").unpack_from
        for _ in range(count):
            (size,) = unpack(data, self.at)
            self.at += 8
            start = self.take(size)
            found.append(data[start : self.at].decode())
        return found

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind != LIST:
            raise ValueError(f"a setting has the unknown type {kind}")
        inner, count = self.number("<u4"), self.number("<u8")
        if inner == TEXT:
            return self.texts(count)
        if inner not in NUMBERS:
            raise ValueError(f"a list has the unknown type {inner}")
        return self.numbers(NUMBERS[inner], count)

    def tensor(self) -> Stored:
        """The next tensor, its offset counted from the start of the data."""
        name, dimensions = self.text(), self.number("<u4")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"{name} has {dimensions} dimensions")
        shape = tuple(reversed(self.numbers("<u8", dimensions)))
        kind, offset = self.number("<u4"), self.number("<u8")
        known = {int(x): x for x in GGML_QUANT_SIZES}
        if kind not in known or not _readable(known[kind]):
            what = known[kind].name if kind in known else kind
            raise UserError(
                f"{self.path!r}: {name} is of the type {what}, which the package gguf cannot read:"
                " pip install --upgrade gguf, or give a file of another type, e.g. Q8_0"
            )
        block, size = GGML_QUANT_SIZES[known[kind]]
        if not all(shape) or shape[-1] % block:
            raise ValueError(f"{name} has the shape {shape} in blocks of {block}")
        return Stored(name, known[kind].name, shape, offset, math.prod(shape) // block * size)


@functools.cache
def _readable(kind: GGMLQuantizationType) -> bool:
    """Whether it holds numbers of a model that the package can make floats of."""
    if kind.name in PLAIN:
        return True
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True

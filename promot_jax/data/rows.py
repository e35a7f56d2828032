"""Reading JSONL, CSV and TSV files, with every malformed row named before anything is trained.

CSV is read with its quoting (RFC 4180); in TSV a quote is an ordinary character and tabs always
separate. Blank lines are skipped. Text is UTF-8, its lines end as `files.text_lines` has it. A
missing value is no text, by whatever name: null, NaN, a number that is not finite.

A file is read in blocks of rows, so that none has to fit into memory. What is said of its header
and its first row is found when it is opened; what is said of its rows, when they are read.
"""

import csv
import errno
import functools
import io
import itertools
import json
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from promot_jax.data.headers import Numbered, check_columns, find_header
from promot_jax.data.templates import Template
from promot_jax.errors import UserError
from promot_jax.files import parse_json, text_lines
from promot_jax.paths import as_path, in_bucket, resolve

Row = dict[str, Any]
BLOCK = 1024  # rows that are read together
PART = 8 << 20  # bytes of an object in a bucket that are asked for at once
SHOWN = 5  # malformed rows that a message names
SURROGATE = re.compile(r"\\u[dD]")  # how JSON may write one
# How spreadsheets and data frames write that there is nothing; no label is called so.
MISSING = ("NaN", "nan", "NAN", "-nan", "<NA>", "#N/A", "#NA")


class RowFile:
    """The rows of a file, each with its columns and with `inputs` and `targets` from the templates.

    Attributes:
      path: as it was given.
    """

    def __init__(
        self,
        path: str,
        templates: Mapping[str, str],
        lists: Sequence[str] = (),
        choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
        head: int | None = None,
    ):
        """Args:
          path: ends in .jsonl, .csv or .tsv.
          templates: "inputs" and "targets" -> template over the columns; "inputs" may be "", where
            rows have none.
          lists: columns that must hold a list of at least one text.
          choices: column -> the values that it may have.
          head: rows that are looked at to know whether the first line is a header; None: all.

        Raises:
          UserError: no such file, another ending, an empty file, a missing column.
        """
        self.path, self._lists, self._choices = path, lists, choices
        self._lock, self._error, self._header, self._skip = threading.Lock(), None, None, 0
        self._templates = {
            name: Template(text, f"template {name} =", may_be_empty=name == "inputs")
            for name, text in templates.items()
        }
        self._columns = list(dict.fromkeys(n for t in self._templates.values() for n in t.columns))
        readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv}
        ending = next((e for e in readers if path.lower().endswith(e)), None)
        if ending is None:
            raise UserError(f"file {path!r}: its name must end in one of {', '.join(readers)}")
        self._read = readers[ending]
        first = list(itertools.islice(self._numbered(), 1 if ending == ".jsonl" else head))
        if ending == ".jsonl":
            row = _parsed(first[0][1]) if first else None
            if isinstance(row, dict):
                check_columns(path, list(row), self._columns)
        else:
            if first and isinstance(first[0][1], Exception):
                raise malformed(path, [(first[0][0], str(first[0][1]))])
            self._header, self._skip = find_header(path, first, self._columns)
        if len(first) <= self._skip:
            raise UserError(f"file {path!r} has no rows")

    def blocks(self) -> Iterator[Callable[[], list[Row]]]:
        """All rows in order, at most `BLOCK` at a time: calls that give them, in any thread.

        A call raises UserError for malformed rows, and names those of the whole file.
        """
        lines = itertools.islice(self._numbered(), self._skip, None)
        while block := list(itertools.islice(lines, BLOCK)):
            yield functools.partial(self._rows, block)

    def _rows(self, block: Sequence[Numbered]) -> list[Row]:
        rows = []
        for number, content in block:
            try:
                rows.append(self._fill(content))
            except ValueError as error:
                raise self._malformed(number, error) from None
        return rows

    def _malformed(self, number: int, error: ValueError) -> UserError:
        """What to raise for a row: it names those of the whole file. The file is read once more."""
        with self._lock:  # of several threads, one does
            if self._error is None:
                bad = self._bad() or [(number, str(error))]
                self._error = malformed(self.path, bad)
        return self._error

    def _bad(self) -> list[tuple[int, str]]:
        bad = []
        for number, content in itertools.islice(self._numbered(), self._skip, None):
            try:
                self._fill(content)
            except ValueError as error:
                bad.append((number, str(error) if len(bad) < SHOWN else ""))
        return bad

    def _numbered(self) -> Iterator[Numbered]:
        """Line number and what stands there, not parsed; an error, where that is none."""
        try:
            with _open(self.path) as file:
                yield from self._read(text_lines(file, f"file {self.path!r}"))
        except OSError as error:
            raise UserError(f"file {self.path!r} cannot be read; check the path") from error

    def _fill(self, content: Any) -> Row:
        """A row with its texts. Raises ValueError with the reason why it is malformed."""
        row = _parsed(content) if self._header is None else self._named(content)
        if isinstance(row, Exception):
            raise row
        for column in self._columns:
            if column not in row:
                raise ValueError(f"no {column!r}")
            check_value(column, row[column])
        for column in self._lists:
            _check_list(row, column)
        texts = {key: template.fill(row) for key, template in self._templates.items()}
        for key, text in texts.items():
            if not text.strip() and self._templates[key].columns:
                raise ValueError(f"{key} is empty")
        chosen = {name: _choice(row, name, allowed) for name, allowed in self._choices.items()}
        return row | texts | chosen

    def _named(self, row: Any) -> Any:
        if isinstance(row, Exception):
            return row
        if len(row) != len(self._header):
            return ValueError(f"{len(row)} columns instead of {len(self._header)}")
        return dict(zip(self._header, row, strict=True))


def check_value(column: str, value: Any) -> None:
    """Raises ValueError where a column's value is none that a row can have."""
    finite = not isinstance(value, float) or math.isfinite(value)  # 1e999 is infinite
    if not isinstance(value, str | int | float) or not finite:
        raise ValueError(f"{column!r} is {json.dumps(value)[:40]}, not text")
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{column!r} has a NUL character")
    if value in MISSING:
        raise ValueError(f"{column!r} is {value!r}, a missing value")


def read_rows(
    path: str,
    templates: Mapping[str, str],
    lists: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> list[Row]:
    """All rows of a file, in memory; arguments are those of `RowFile`.

    Raises:
      UserError: as `RowFile`, or malformed rows.
    """
    file = RowFile(path, templates, lists, choices)
    return [row for block in file.blocks() for row in block()]


def _open(path: str) -> IO[bytes]:
    found = as_path(resolve(path))
    if in_bucket(found):
        return io.BufferedReader(_Object(found), PART)
    return found.open("rb")


class _Object(io.RawIOBase):
    """An object in a bucket, a part of it at a time."""

    def __init__(self, path: Path):
        self._path, self._at = path, 0
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset  # only to the start, when its beginning has been looked at
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._path.read_part(self._at, self._at + len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, without their ends, numbered."""
    for number, line in enumerate(lines, start=1):
        if line.strip(" \r\n"):
            yield number, line.rstrip("\r\n")


def _jsonl(lines: Iterable[str]) -> Iterator[Numbered]:
    return _filled(lines)


def _parsed(line: str) -> Row | ValueError:
    """The object of a line of JSONL; for a malformed one, the error instead."""
    try:
        row = parse_json(line)
        if SURROGATE.search(line):
            json.dumps(row, ensure_ascii=False).encode()  # half of a pair is no text
    except ValueError as error:
        return ValueError(f"not JSON ({error})")
    if isinstance(row, dict):
        return row
    said = "a JSON list: write" if isinstance(row, list) else "not a JSON object: there is"
    return ValueError(f"{said} one object a line")


def _tsv(lines: Iterable[str]) -> Iterator[Numbered]:
    for number, line in _filled(lines):
        yield number, line.split("\t")


def _csv(lines: Iterable[str]) -> Iterator[Numbered]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # articles exceed the default of 128 KiB
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, ValueError(f"not CSV ({error})")
            continue
        if row and (len(row) > 1 or row[0].strip()):
            yield number, row


def _check_list(row: Row, column: str) -> None:
    """Raises ValueError unless it holds a list of texts."""
    texts = row.get(column)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"{column!r} is {json.dumps(texts)[:40]}, not a list of texts")


def _choice(row: Row, column: str, allowed: Sequence[Any]) -> Any:
    """The allowed value that a row has: true is 1, and 1.0 too."""
    if (value := row.get(column)) not in allowed:
        raise ValueError(f"{column!r} is {json.dumps(value)[:40]}, none of {list(allowed)}")
    return allowed[allowed.index(value)]


def malformed(path: str, bad: Sequence[tuple[int, str]]) -> UserError:
    """What to raise for malformed rows: line and reason of each."""
    shown = "; ".join(f"line {number}: {reason}" for number, reason in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    rows = "1 malformed row" if len(bad) == 1 else f"{len(bad)} malformed rows"
    return UserError(f"file {path!r} has {rows}: {shown}{more}; correct or remove them")

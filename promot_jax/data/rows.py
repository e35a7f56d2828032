"""Reading JSONL, CSV and TSV files, with every malformed row named before anything is trained.

CSV is read with its quoting (RFC 4180); in TSV a quote is an ordinary character and tabs always
separate. Blank lines are skipped. Text is UTF-8, its lines end as `files.text_lines` has it. A
missing value is no text, by whatever name: null, NaN, a number that is not finite.
"""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from promot_jax.data.headers import Numbered, check_columns, with_header
from promot_jax.data.templates import Template
from promot_jax.errors import UserError
from promot_jax.files import parse_json, text_lines
from promot_jax.paths import as_path, resolve

Row = dict[str, Any]
SURROGATE = re.compile(r"\\u[dD]")  # how JSON may write one
# How spreadsheets and data frames write that there is nothing; no label is called so.
MISSING = ("NaN", "nan", "NAN", "-nan", "<NA>", "#N/A", "#NA")


def read_rows(
    path: str,
    templates: Mapping[str, str],
    lists: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> list[Row]:
    """The rows of a file, each with its columns and with `inputs` and `targets` from the templates.

    Args:
      path: ends in .jsonl, .csv or .tsv.
      templates: "inputs" and "targets" -> template over the columns.
      lists: columns that must hold a list of at least one text.
      choices: column -> the values that it may have.

    Raises:
      UserError: no such file, another ending, an empty file, a missing column, malformed rows.
    """
    filled = {name: Template(text, f"template {name} =") for name, text in templates.items()}
    columns = list(dict.fromkeys(name for t in filled.values() for name in t.columns))
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv}
    ending = next((e for e in readers if path.lower().endswith(e)), None)
    if ending is None:
        raise UserError(f"file {path!r}: its name must end in one of {', '.join(readers)}")
    lines = list(readers[ending](_lines(path)))
    if ending != ".jsonl":
        if lines and isinstance(lines[0][1], Exception):
            raise _malformed(path, [(lines[0][0], str(lines[0][1]))])
        lines = with_header(path, lines, columns)
    elif lines and isinstance(lines[0][1], dict):
        check_columns(path, list(lines[0][1]), columns)
    if not lines:
        raise UserError(f"file {path!r} has no rows")
    rows, bad = [], []
    for number, content in lines:
        try:
            row = _fill(content, filled, columns, lists)
            rows.append(row | {name: _choice(row, name, choices[name]) for name in choices})
        except ValueError as error:
            bad.append((number, str(error)))
    if bad:
        raise _malformed(path, bad)
    return rows


def _lines(path: str) -> Iterator[str]:
    try:
        data = as_path(resolve(path)).read_bytes()
    except OSError as error:
        raise UserError(f"file {path!r} cannot be read; check the path") from error
    return text_lines(io.BytesIO(data), f"file {path!r}")


def _filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, without their ends, numbered."""
    for number, line in enumerate(lines, start=1):
        if line.strip(" \r\n"):
            yield number, line.rstrip("\r\n")


def _jsonl(lines: Iterable[str]) -> Iterator[Numbered]:
    """Line number and object; for a malformed line, the error instead of the object."""
    for number, line in _filled(lines):
        try:
            row = parse_json(line)
            if SURROGATE.search(line):
                json.dumps(row, ensure_ascii=False).encode()  # half of a pair is no text
            said = "a JSON list: write" if isinstance(row, list) else "not a JSON object: there is"
            yield number, row if isinstance(row, dict) else ValueError(f"{said} one object a line")
        except ValueError as error:
            yield number, ValueError(f"not JSON ({error})")


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


def _fill(
    row: Any, templates: Mapping[str, Template], columns: Sequence[str], lists: Sequence[str]
) -> Row:
    """The row with its texts. Raises ValueError with the reason why it is malformed."""
    if isinstance(row, Exception):
        raise row
    for column in columns:
        if column not in row:
            raise ValueError(f"no {column!r}")
        value = row[column]
        finite = not isinstance(value, float) or math.isfinite(value)  # 1e999 is infinite
        if not isinstance(value, str | int | float) or not finite:
            raise ValueError(f"{column!r} is {json.dumps(value)[:40]}, not text")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{column!r} has a NUL character")
        if value in MISSING:
            raise ValueError(f"{column!r} is {value!r}, a missing value")
    for column in lists:
        texts = row.get(column)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"{column!r} is {json.dumps(texts)[:40]}, not a list of texts")
    texts = {key: template.fill(row) for key, template in templates.items()}
    for key, text in texts.items():
        if not text.strip():
            raise ValueError(f"{key} is empty")
    return row | texts


def _choice(row: Row, column: str, allowed: Sequence[Any]) -> Any:
    """The allowed value that a row has: true is 1, and 1.0 too."""
    if (value := row.get(column)) not in allowed:
        raise ValueError(f"{column!r} is {json.dumps(value)[:40]}, none of {list(allowed)}")
    return allowed[allowed.index(value)]


def _malformed(path: str, bad: Sequence[tuple[int, str]]) -> UserError:
    shown = "; ".join(f"line {number}: {reason}" for number, reason in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    rows = "1 malformed row" if len(bad) == 1 else f"{len(bad)} malformed rows"
    return UserError(f"file {path!r} has {rows}: {shown}{more}; correct or remove them")

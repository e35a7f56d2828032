"""Reading JSONL, CSV and TSV files, with every malformed row named before anything is trained.

CSV is read with its quoting (RFC 4180); in TSV a quote is an ordinary character and tabs always
separate. Blank lines are skipped. A byte order mark is ignored.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from types import MappingProxyType
from typing import Any

import tensorflow as tf

from promot_jax.errors import UserError, near
from promot_jax.paths import resolve

Row = dict[str, Any]
Numbered = tuple[int, Any]
PAIR = ["inputs", "targets"]
SINGULAR = {name: f"{name.rstrip('s')}s" for name in ("input", "inputs", "target", "targets")}
# A first line of two of these is a header that nobody meant to train on.
WORDS = (
    *("answer", "category", "completion", "document", "hypothesis", "instruction", "label"),
    *("output", "premise", "prompt", "query", "question", "response", "sentence", "source"),
    *("summary", "target", "text", "translation"),
)
HEADER_WORDS = {form for word in WORDS for form in (word, f"{word}s")}


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
    columns = list(dict.fromkeys(name for t in templates.values() for name in fields(t)))
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv}
    ending = next((e for e in readers if path.lower().endswith(e)), None)
    if ending is None:
        raise UserError(f"file {path!r}: its name must end in one of {', '.join(readers)}")
    lines = list(readers[ending](_text(path)))
    if ending != ".jsonl":
        lines = _with_header(path, lines, columns)
    elif lines and isinstance(lines[0][1], dict):
        _check_columns(path, list(lines[0][1]), columns)
    if not lines:
        raise UserError(f"file {path!r} has no rows")
    rows, bad = [], []
    for number, content in lines:
        try:
            row = _fill(content, templates, columns, lists)
            rows.append(row | {name: _choice(row, name, choices[name]) for name in choices})
        except ValueError as error:
            bad.append((number, str(error)))
    if bad:
        raise _malformed(path, bad)
    return rows


def fields(template: str) -> list[str]:
    """The columns a template names.

    Raises:
      UserError: not a template, or its fields are not plain column names.
    """
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"template {template!r}: {error}; write {{{{ for a brace") from error
    if not names or any(not name or set(name) & set(".[]") for name in names):
        raise UserError(
            f"template {template!r} must name columns, such as 'question: {{question}}'; write"
            " {{ for a brace"
        )
    return names


def _text(path: str) -> str:
    try:
        with tf.io.gfile.GFile(resolve(path), "rb") as file:
            data = file.read()
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"file {path!r} cannot be read; check the path") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        bad = []
        for number, line in enumerate(data.split(b"\n"), start=1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                bad.append((number, f"not UTF-8 at byte {error.start}"))
    raise _malformed(path, bad)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \r"):
            yield number, line.removesuffix("\r")


def _jsonl(text: str) -> Iterator[Numbered]:
    """Line number and object; for a malformed line, the error instead of the object."""
    for number, line in _lines(text):
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
            yield number, row if isinstance(row, dict) else ValueError("not a JSON object")
        except ValueError as error:
            yield number, ValueError(f"not JSON ({error})")


def _tsv(text: str) -> Iterator[Numbered]:
    for number, line in _lines(text):
        yield number, line.split("\t")


def _csv(text: str) -> Iterator[Numbered]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # articles exceed the default of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
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


def _with_header(path: str, lines: list[Numbered], columns: Sequence[str]) -> list[Numbered]:
    """Rows by column name: from the header, or, in two columns without one, by position."""
    if not lines:
        return lines
    first = lines[0][1]
    if isinstance(first, Exception):
        raise _malformed(path, [(lines[0][0], str(first))])
    header = given = [name.strip() for name in first]
    if pair := set(columns) <= set(PAIR):
        header = [SINGULAR.get(name.lower(), name) for name in header]
    headless = len(first) == 2 and pair and not set(header) & set(PAIR)
    if headless and {name.lower() for name in given} <= HEADER_WORDS:
        raise UserError(
            f"file {path!r} begins with the names {given} of its columns: set the templates"
            f" inputs='{{{given[0]}}}' and targets='{{{given[1]}}}', or, if it is a row, put a line"
            " of the names inputs and targets in front of it"
        )
    header = PAIR if headless else header
    _check_columns(path, header, columns)
    if len(set(header)) < len(header):
        raise UserError(f"file {path!r}: a column name occurs twice in its header {header}")

    def named(row: Any) -> Any:
        if isinstance(row, Exception):
            return row
        if len(row) != len(header):
            return ValueError(f"{len(row)} columns instead of {len(header)}")
        return dict(zip(header, row, strict=True))

    return [(number, named(row)) for number, row in (lines if headless else lines[1:])]


def _check_columns(path: str, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in header:
            raise UserError(
                f"file {path!r} has no column {column!r}{near(column, header)}; its columns are"
                f" {list(header)[:20]}: name them in the templates inputs='...{{column}}...' and"
                " targets='...'"
            )


def _fill(
    row: Any, templates: Mapping[str, str], columns: Sequence[str], lists: Sequence[str]
) -> Row:
    """The row with its texts. Raises ValueError with the reason why it is malformed."""
    if isinstance(row, Exception):
        raise row
    for column in columns:
        if column not in row:
            raise ValueError(f"no {column!r}")
        if not isinstance(row[column], str | int | float):
            raise ValueError(f"{column!r} is {json.dumps(row[column])[:40]}, not text")
    for column in lists:
        texts = row.get(column)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"{column!r} is {json.dumps(texts)[:40]}, not a list of texts")
    texts = {key: template.format_map(row) for key, template in templates.items()}
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

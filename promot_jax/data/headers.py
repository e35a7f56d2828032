"""Which column of a CSV or TSV file is which: by its header, or by position."""

import re
from collections.abc import Sequence
from typing import Any

from promot_jax.errors import UserError, near

Numbered = tuple[int, Any]  # line number, and a row or what is wrong with it
PAIR = ["inputs", "targets"]
SINGULAR = {name: f"{name.rstrip('s')}s" for name in ("input", "inputs", "target", "targets")}
# A first line of two of these is a header that nobody meant to train on.
WORDS = (
    *("answer", "category", "completion", "document", "hypothesis", "instruction", "label"),
    *("output", "premise", "prompt", "query", "question", "response", "sentence", "source"),
    *("summary", "target", "text", "translation"),
)
HEADER_WORDS = {form for word in WORDS for form in (word, f"{word}s")}
NAME = re.compile(r"[^\W\d]\w*([-.]\w+)*")
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}


def find_header(
    path: str, lines: Sequence[Numbered], columns: Sequence[str]
) -> tuple[list[str], int]:
    """The names of a file's columns, and how many lines they take: 1, or 0 without a header.

    Columns are named by the header, or, in two columns without one, by position.

    Args:
      path: for messages.
      lines: the first ones.
      columns: what templates name.

    Raises:
      UserError: another separator, a column that is not there, a name that occurs twice, or a
        header that nobody has told what is made of it.
    """
    if not lines:
        return [], 0
    first = lines[0][1]
    _check_separator(path, first)
    header = given = [name.strip() for name in first]
    if pair := set(columns) <= set(PAIR):
        header = [SINGULAR.get(name.lower(), name) for name in header]
    headless = len(first) == 2 and pair and not set(header) & set(PAIR)
    if headless and _names(given, [row for _, row in lines[1:]]):
        raise UserError(
            f"file {path!r} begins with the names {given} of its columns: set the templates"
            f" inputs='{{{given[0]}}}' and targets='{{{given[1]}}}', or, if it is a row, put a line"
            " of the names inputs and targets in front of it"
        )
    header = PAIR if headless else header
    check_columns(path, header, columns)
    if len(set(header)) < len(header):
        raise UserError(f"file {path!r}: a column name occurs twice in its header {header}")
    return header, 0 if headless else 1


def _names(first: Sequence[str], rows: Sequence[Any]) -> bool:
    """Whether a first line of two cells seems to name columns, and not to be a row like the others.

    Two usual names do; two single words do too, if all other inputs are longer texts, or if the
    other targets are a few labels, and the word is none of them.
    """
    if {name.lower() for name in first} <= HEADER_WORDS:
        return True
    others = [row for row in rows if isinstance(row, list) and len(row) == 2]
    if len(others) < 2 or not all(NAME.fullmatch(cell) for cell in first):
        return False
    labels = [row[1].strip() for row in others]
    few = len(set(labels)) <= len(labels) / 2 and first[1] not in labels
    return few or not any(NAME.fullmatch(row[0].strip()) for row in others)


def _check_separator(path: str, first: Sequence[str]) -> None:
    """Raises UserError where the first line is one cell, in which something else separates."""
    mark = max(SEPARATORS, key=first[0].count)
    if len(first) == 1 and mark in first[0]:
        ours = "tabs" if path.lower().endswith(".tsv") else "commas"
        fix = {"\t": "name it .tsv", ",": "name it .csv"}.get(mark, f"save it with {ours}")
        raise UserError(
            f"file {path!r}: {SEPARATORS[mark]} ({mark!r}) and not {ours} separate its columns in"
            f" {first[0][:60]!r}: {fix}"
        )


def check_columns(path: str, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in header:
            raise UserError(
                f"file {path!r} has no column {column!r}{near(column, header)}; its columns are"
                f" {list(header)[:20]}: name them in the templates inputs='...{{column}}...' and"
                " targets='...'"
            )

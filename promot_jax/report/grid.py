"""The table as cells: the same columns in the same order on the page, in Markdown, on a terminal.

First what a method is judged by, then what the means are made of. All scores of a table have one
unit: shares of 1, or, where a metric goes to 100, percentages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from promot_jax.report.results import Checkpoint
from promot_jax.report.scores import Score
from promot_jax.report.table import Measure, Results
from promot_jax.report.text import count, markdown, number, rate_text

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """`text`, its interval or spread, and what it was measured on; each may be ''."""

    text: str
    spread: str = ""
    of: str = ""


@dataclass(frozen=True)
class Column:
    """A column's name, and its cell in each line; `part`: it is one of those that a mean is of."""

    name: str
    cells: list[Cell]
    part: bool = False


def columns(results: Results) -> list[Column]:
    """All columns of the table that have any number in them."""
    lines, top = results.lines, results.top
    found = [Column("method", [Cell(line.method) for line in lines])]
    if results.sweep:
        rates = [Cell(rate_text(line.learning_rate)) for line in lines]
        found.append(Column("learning rate", rates))
    found += _scores(results, [(results.target_name(), Checkpoint.target)])
    found += _scores(results, [("held-out mean", results.compared(Checkpoint.held))])
    found += _scores(
        results, [("format share", results.compared(Checkpoint.format_share))], factor=top
    )
    kept = [results.kept(line) for line in lines]
    if any(share is not None for share in kept):
        texts = [NOTHING if share is None else number(share * top, top) for share in kept]
        found.append(Column("kept", list(map(Cell, texts))))
    shots = sorted({row.shots for row in results.held()})
    if len(shots) > 1:
        found += _scores(
            results,
            [
                (f"held-out mean, {k}-shot", results.compared(lambda c, k=k: c.held_with(k)))
                for k in shots
            ],
        )
    if results.guessable:
        found += _scores(results, [("chance-adjusted mean", results.compared(Checkpoint.adjusted))])
    if len(results.groups) > 1:
        groups = [(name, lambda c, name=name: c.group(name)) for name in results.groups]
        groups += [
            (f"{name}, chance-adjusted", lambda c, name=name: c.adjusted_group(name))
            for name in results.guessable
        ]
        found += _scores(results, groups, part=True)
    return found


def _scores(
    results: Results,
    measures: Sequence[tuple[str, Measure]],
    factor: float = 1.0,
    part: bool = False,
) -> list[Column]:
    """Columns of scores, without those that have none."""
    found = []
    for name, measure in measures:
        scores = [line.final(measure) for line in results.lines]
        if any(score is not None for score in scores):
            cells = [score_cell(score, factor, results.top) for score in scores]
            found.append(Column(name, cells, part))
    return found


def score_cell(score: Score | None, factor: float, top: float) -> Cell:
    """A score in the table's unit, `factor` times its own."""
    if score is None:
        return Cell(NOTHING)
    value, low, high, sd = (number(x * factor, top) for x in _values(score))
    if score.seeds > 1:
        return Cell(value, f"± {sd}", count(score.seeds, "seed"))
    known = not (math.isnan(score.low) or math.isnan(score.high))
    return Cell(value, f"[{low}, {high}]" if known else "", f"n = {score.n}")


def _values(score: Score) -> tuple[float, ...]:
    return score.value, score.low, score.high, score.sd


def unit(results: Results) -> str:
    """What the numbers of the table are."""
    if results.top == 1:
        return "All scores are shares of 1."
    if results.top == 100:
        return "All scores are percentages."
    return f"All scores are on a scale from 0 to {results.top:g}."


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page's table in Markdown, from the rows of results.json: a line a method.

    Raises: UserError for malformed rows.
    """
    found = columns(Results(rows))
    head = [[markdown(column.name) for column in found], ["---", *["---:"] * (len(found) - 1)]]
    body = [
        [f"{markdown(cell.text)} {cell.spread}".strip() for cell in line]
        for line in zip(*(column.cells for column in found), strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*head, *body])


def terminal_table(rows: Sequence[Mapping[str, Any]]) -> RichTable:
    """The same for a terminal of 80 characters, without intervals.

    A column a method; of several learning rates a line each, and no groups of tasks.

    Raises: UserError for malformed rows.
    """
    results = Results(rows)
    shown = [x for x in columns(results) if not (results.sweep and x.part)]
    grid = [[column.name, *(cell.text for cell in column.cells)] for column in shown]
    if results.sweep:
        grid = list(map(list, zip(*grid, strict=True)))
    else:
        grid[0][0] = ""
    table = RichTable(*grid[0], box=SIMPLE_HEAD, caption=unit(results), caption_justify="left")
    table.columns[0].no_wrap = results.sweep
    for line in grid[1:]:
        table.add_row(*line)
    return table

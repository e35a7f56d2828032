"""A task from a file of one's own: JSONL, CSV or TSV, from gin or Python, without writing a class.

    TrainData.task = @file_task()
    file_task.name = "mine"
    file_task.train = "mine.tsv"

With the default templates the file has columns `inputs` and `targets` (in its header, or as JSON
keys), or it is a CSV or TSV of exactly two columns without a header: first the input, then the
target. Any other file names its columns in a header (JSONL: as keys), and templates say what is
made of them: `inputs="{premise} question: {hypothesis}"`, `targets="{label}"`. So a header of two
other names needs templates too; without them it would pass for the first row.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from promot_jax.data.file_parts import SAMPLE, FileSource, HeldRows, Part, StreamedRows
from promot_jax.data.headers import PAIR
from promot_jax.data.metrics import METRICS
from promot_jax.data.quiet import seqio
from promot_jax.data.rows import BLOCK, Row, RowFile, read_rows
from promot_jax.data.tasks import TaskInfo, add_task
from promot_jax.errors import UserError, check_values, near
from promot_jax.paths import as_path, in_bucket, resolve

HELD_OUT = 0.1
LARGEST_LABEL_SET = 20
# Bytes of a file from which on its rows are not held: Python needs some six times as many for them.
LARGE = 64 << 20
HEAD = SAMPLE * BLOCK  # rows of a large file that are looked at when it becomes a task

Metric = str | Callable

# name -> the arguments it was registered with, and the state its files had: gin calls file_task
# once for each reference to it.
_REGISTERED: dict[str, tuple[dict[str, Any], list[Any]]] = {}


def file_task(
    name: str,
    train: str,
    validation: str | None = None,
    test: str | None = None,
    inputs: str = "{inputs}",
    targets: str = "{targets}",
    metric: Metric | Sequence[Metric] = "exact_match",
    group: str = "target",
    answer_format: tuple[str, ...] | Callable[[str], bool] | None = None,
    separator: str = "\n\n",
    shot_template: str = "{inputs} {targets}",
) -> str:
    """Registers the rows of .jsonl, .csv or .tsv files as a task, and returns its name.

    Called again with the same arguments it costs nothing, unless a file has changed since.

    Args:
      name: the task's name.
      train: path of the training rows.
      validation: path of the validation rows. Without one, about a tenth of the training rows is
        held out: those whose input has a low digest, so a row's side never changes, and rows with
        the same input are on the same side.
      test: path of the test rows, if any.
      inputs: template of the input over the columns; "": rows are plain text, their targets.
      targets: template of the target over the columns.
      metric: a name in `promot_jax.data.metrics`, such as 'exact_match' or 'bleu', a SeqIO metric
        function, or a list of these.
      group: scores are averaged by group; "target" is that of tasks that are tuned on.
      answer_format: the answers that occur, or a predicate on an output. None: if the training rows
        have at most 20 different targets, those.
      separator: between shots.
      shot_template: one shot, over `{inputs}` and `{targets}` after their templates.

    Raises:
      UserError: a file that is missing, empty or malformed (with line numbers and reasons), a
        missing column, an unknown metric, or a name already in use with other arguments.
    """
    arguments = dict(locals())
    check_values(file_task, arguments)
    for given in ("name", "train"):
        if not arguments[given]:
            raise UserError(f"file_task.{given} = '': set one")
    again = name in _REGISTERED and name in seqio.TaskRegistry.names()
    state = [_state(path) for path in (train, validation, test) if path]
    if again and _REGISTERED[name] == (arguments, state):
        return name
    if again and _REGISTERED[name][0] != arguments:
        raise UserError(
            f"the file task {name!r} is already registered with other arguments; choose another"
            " name"
        )
    metric_fns = _metrics(metric)
    templates = {"inputs": inputs, "targets": targets}
    own = {"validation": validation, "test": test}
    parts = {split: _read(path, templates) for split, path in own.items() if path}
    if validation is None:
        parts |= _read_both(train, templates)
    else:
        parts["train"] = _read(train, templates)
    if answer_format is None:
        labels = sorted({row["targets"].strip() for row in parts["train"].sample()})
        answer_format = tuple(labels) if len(labels) <= LARGEST_LABEL_SET else None
    info = TaskInfo(group, answer_format, separator, shot_template)
    if again:
        seqio.TaskRegistry.remove(name)
    add_task(name, FileSource(parts), [], metric_fns, _strip, info=info)
    _REGISTERED[name] = arguments, state
    return name


def forget_file_task(name: str, group: str) -> None:
    """Takes a file task of a group out of the registry, for another one of its name."""
    if name in _REGISTERED and _REGISTERED[name][0]["group"] == group:
        del _REGISTERED[name]
        seqio.TaskRegistry.remove(name)


def file_source(
    directory: str,
    columns: Sequence[str],
    lists: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> FileSource:
    """A SeqIO source of the rows in `<directory>/{train,validation,test}.jsonl`, as they are.

    For tasks that read a TFDS data set or, with the same columns, local files.

    Args:
      directory: where the files are; a split without a file does not exist.
      columns: those of text that every row must have; numbers become text.
      lists: those that must be lists of at least one text.
      choices: those of labels, and the values that they may have.

    Raises:
      UserError: no such file, or malformed rows, those without one of the columns included.
    """
    template = "".join(f"{{{column}}}" for column in columns)
    paths = {split: f"{directory}/{split}.jsonl" for split in ("train", "validation", "test")}
    found = {split: path for split, path in paths.items() if _state(path) is not None}
    if not found:
        raise UserError(
            f"directory {directory!r} has none of {', '.join(f'{split}.jsonl' for split in paths)}:"
            " check DATA_DIR"
        )
    parts = {}
    for split, path in found.items():
        about = [template, *lists, {name: list(values) for name, values in choices.items()}]
        select = functools.partial(_as_text, columns=columns)
        if is_large(path):
            file = RowFile(path, {"row": template}, lists, choices, HEAD)
            parts[split] = StreamedRows(file, select, [*columns, *lists, *choices], about)
        else:
            rows = select(read_rows(path, {"row": template}, lists, choices))
            parts[split] = HeldRows(rows, path, about)
    return FileSource(parts)


def _as_text(rows: list[Row], columns: Sequence[str]) -> list[Row]:
    return [row | {column: str(row[column]) for column in columns} for row in rows]


def _state(path: str) -> Any:
    """What changes when a file does, and has to be read again; None if there is none."""
    found = as_path(resolve(path))
    try:
        if in_bucket(found):
            return found.version()
        stat = found.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _strip(text: str, **_: Any) -> str:
    return text.strip()


def _metrics(metric: Metric | Sequence[Metric]) -> list[Callable]:
    metrics = [metric] if isinstance(metric, str) or callable(metric) else list(metric)
    for given in metrics:
        if not callable(given) and given not in METRICS:
            raise UserError(
                f"metric={given!r} is unknown{near(str(given), METRICS)}; use one of"
                f" {sorted(METRICS)} or a function (targets, predictions) -> {{name: value}}"
            )
    return [given if callable(given) else METRICS[given] for given in metrics]


def _read(path: str, templates: Mapping[str, str]) -> Part:
    """The rows of a file."""
    about = dict(templates)
    if is_large(path):
        return StreamedRows(RowFile(path, templates, head=HEAD), list, PAIR, about)
    return HeldRows(read_rows(path, templates), path, about)


def _read_both(path: str, templates: Mapping[str, str]) -> dict[str, Part]:
    """The training rows of a file, and those that are held out for validation."""
    large, about = is_large(path), dict(templates)
    if large:
        file = RowFile(path, templates, head=HEAD)
        rows = [row for block in itertools.islice(file.blocks(), SAMPLE) for row in block()]
    else:
        rows = read_rows(path, templates)
    digests = [_digest(row) for row in rows]
    limit = max(HELD_OUT * 2**64, min(digests))  # at least one row, also of a small file
    splits = {"train": [], "validation": []}
    for row, digest in zip(rows, digests, strict=True):
        splits["train" if digest > limit else "validation"].append(row)
    if not splits["train"]:
        raise UserError(
            f"file {path!r} has too few different inputs ({len(set(digests))}) to hold out rows"
            " for validation; give a validation file"
        )
    return {
        split: StreamedRows(file, _side(split, limit), PAIR, [about, split])
        if large
        else HeldRows(kept, path, [about, split])
        for split, kept in splits.items()
    }


def _digest(row: Row) -> int:
    text = row["inputs"] or row["targets"]
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _side(split: str, limit: float) -> Callable[[list[Row]], list[Row]]:
    """What chooses the rows of a side."""
    train = split == "train"
    return lambda rows: [row for row in rows if (_digest(row) > limit) == train]


def is_large(path: str) -> bool:
    """Whether a file's rows are not kept in memory."""
    found = as_path(resolve(path))
    try:
        if in_bucket(found):
            return bool(found.read_part(LARGE, LARGE + 1))
        return found.stat().st_size > LARGE
    except OSError:  # who reads it says so
        return False

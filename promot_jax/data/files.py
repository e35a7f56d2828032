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

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from promot_jax.data.metrics import METRICS
from promot_jax.data.quiet import seqio, tf
from promot_jax.data.rows import Row, read_rows
from promot_jax.data.tasks import TaskInfo, add_task
from promot_jax.errors import UserError, check_values, near
from promot_jax.paths import as_path, in_bucket, resolve

HELD_OUT = 0.1
LARGEST_LABEL_SET = 20


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
      inputs: template of the input over the columns.
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
    splits = _read_splits(train, validation, test, {"inputs": inputs, "targets": targets})
    if answer_format is None:
        labels = sorted({row["targets"].strip() for row in splits["train"]})
        answer_format = tuple(labels) if len(labels) <= LARGEST_LABEL_SET else None
    info = TaskInfo(group, answer_format, separator, shot_template)
    if again:
        seqio.TaskRegistry.remove(name)
    add_task(name, FileSource(splits), [], metric_fns, _strip, info=info)
    _REGISTERED[name] = arguments, state
    return name


def file_source(
    directory: str,
    columns: Sequence[str],
    lists: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> "FileSource":
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
    splits = {}
    for split, path in found.items():
        rows = read_rows(path, {"row": template}, lists, choices)
        splits[split] = [row | {column: str(row[column]) for column in columns} for row in rows]
    return FileSource(splits)


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


def _read_splits(
    train: str, validation: str | None, test: str | None, templates: Mapping[str, str]
) -> dict[str, list[Row]]:
    paths = {"train": train, "validation": validation, "test": test}
    splits = {split: read_rows(path, templates) for split, path in paths.items() if path}
    if validation is None:
        splits["train"], splits["validation"] = _hold_out(train, splits["train"])
    return splits


def _hold_out(path: str, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    digests = [
        int.from_bytes(hashlib.blake2b(row["inputs"].encode(), digest_size=8).digest(), "big")
        for row in rows
    ]
    limit = max(HELD_OUT * 2**64, min(digests))  # at least one row, also of a small file
    kept = [row for row, digest in zip(rows, digests, strict=True) if digest > limit]
    held_out = [row for row, digest in zip(rows, digests, strict=True) if digest <= limit]
    if not kept:
        raise UserError(
            f"file {path!r} has too few different inputs ({len(set(digests))}) to hold out rows"
            " for validation; give a validation file"
        )
    return kept, held_out


class FileSource(seqio.FunctionDataSource):
    """Rows of files as a SeqIO source; `rows` has them without TensorFlow's help."""

    def __init__(self, splits: Mapping[str, list[Row]]):
        self._columns = {split: _columns(rows) for split, rows in splits.items()}
        counts = {split: len(rows) for split, rows in splits.items()}
        super().__init__(self._dataset, splits=list(splits), num_input_examples=counts)

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split, as a data set's would come out of TensorFlow."""
        columns = self._columns[split]
        values = (x.tolist() if isinstance(x, np.ndarray) else x for x in columns.values())
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))

    def _dataset(self, split: str, shuffle_files: bool = False, seed: int | None = None):
        del shuffle_files, seed
        columns = self._columns[split]
        tensors = {
            name: tf.ragged.constant(values, tf.string, ragged_rank=1)
            if isinstance(values[0], list)
            else values
            for name, values in columns.items()
        }
        return tf.data.Dataset.from_tensor_slices(tensors)


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    """Columns as tensors need them: of one type each, lists of texts included. A column of mixed
    types becomes text."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: _one_type(values) for name, values in columns.items()}


def _one_type(values: list[Any]) -> Any:
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and kinds <= {bool, int, float} and np.asarray(values).dtype.kind in "bif":
        return np.asarray(values)
    if kinds == {list} and all(isinstance(item, str) for value in values for item in value):
        return values
    return ["" if value is None else str(value) for value in values]

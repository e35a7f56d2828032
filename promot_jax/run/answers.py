"""A file answered, or its targets scored, line by line: any size, in constant memory.

promot infer WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target

A line {"inputs": text} becomes {"inputs": text, "prompt": name or null, "output": text}; a line may
name a "prompt" of its own, and keeps whatever else it has. With scoring, lines have "targets" too
and get "score" (the log-likelihood in nats), "tokens" and "greedy". An input that is too long gets
null answers, and its number of tokens as "too_long". Lines are computed and written in windows,
each a function of its lines alone: a file that was continued with the same batch size is the file
of one uninterrupted call. How it is kept whole and continued: `promot_jax.run.output`.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from promot_jax.errors import UserError, check_types
from promot_jax.files import parse_json, text_lines
from promot_jax.models import Decoding
from promot_jax.run.inference import (
    BATCH_SIZE,
    GREEDY,
    INPUT_LENGTH,
    MOST_ROWS,
    Ids,
    LanguageModel,
    check_batch_size,
)
from promot_jax.run.output import Numbered, Output, Record, check_files

WINDOW = MOST_ROWS  # lines that are read, sorted by length and written together
ANSWERS = {True: ("score", "tokens", "greedy"), False: ("output",)}
LONG = ("error", "flag")


@dataclasses.dataclass(frozen=True)
class Answering:
    """How a file is answered.

    Attributes:
      prompt: the soft prompt of lines that name none.
      decoding: how to generate.
      score: score each line's targets in the place of generating.
      batch_size: rows that are computed at once, where they have up to 512 tokens; longer ones go
        in smaller batches. Up to 1024.
      input_length: most tokens of an input, its prompt and EOS included, and of targets to score.
      too_long: what an input of more tokens is: a line with null answers and its number of tokens
        as "too_long" ("flag"), or an "error" before any line is answered. None is ever cut.

    Raises:
      UserError: a value out of range.
    """

    prompt: str | None = None
    decoding: Decoding = GREEDY
    score: bool = False
    batch_size: int = BATCH_SIZE
    input_length: int = INPUT_LENGTH
    too_long: str = "flag"

    def __post_init__(self):
        check_types(self)
        check_batch_size(self.batch_size, "--batch_size")
        if self.input_length < 1:
            raise UserError(f"--input_length = {self.input_length}: set at least 1")
        if self.too_long not in LONG:
            raise UserError(f"--too_long = {self.too_long!r}: set 'error' or 'flag'")

    @property
    def output(self) -> int:
        """Tokens that an input needs behind it."""
        return 0 if self.score else self.decoding.max_length

    @property
    def added(self) -> tuple[str, ...]:
        """Names of what a line may get."""
        return ANSWERS[self.score] + (("too_long",) if self.too_long == "flag" else ())


def infer(
    model: LanguageModel,
    source: Path,
    output: Path,
    how: Answering = Answering(),
    on_rows: Callable[[int], None] = lambda done: None,
    on_long: Callable[[int, int], None] = lambda line, tokens: None,
) -> int:
    """Answers a file; goes on where an earlier call stopped.

    Args:
      source: JSONL with "inputs" ("targets", "prompt"); or text, a line an input.
      output: JSONL, as this module's docstring says.
      on_rows: called after each batch, with the number of lines answered.
      on_long: called with number and tokens of a line whose input is too long to be answered.

    Returns:
      The number of lines in `output`.

    Raises:
      UserError: a file that cannot be read or written, a malformed line (nothing is answered then),
        an output that belongs to another input, or an input that changes.
    """
    check_files(source, output)
    before = _stamp(source)
    model.check_output(how.output)
    _check(model, source, how)
    settings = dataclasses.asdict(how)
    settings |= settings.pop("decoding")
    settings["stop_texts"] = list(settings["stop_texts"])  # as JSON has it
    del settings["batch_size"], settings["too_long"]  # they change no answer
    with Output(output, model.fingerprints() | settings) as out:
        for line, written in out.keep(read_records(source, how), source, WINDOW):
            if "too_long" in how.added and "too_long" in written:
                on_long(line, written["too_long"])
        records = islice(read_records(source, how), out.done, None)
        while window := list(islice(records, WINDOW)):
            answers = _answers(model, [record for _, record in window], how, out, on_rows)
            if _stamp(source) != before:
                raise UserError(
                    f"--input {source} changed while it was answered: run the command again when it"
                    " is complete, and it goes on from what is done"
                )
            numbered = list(zip(window, answers, strict=True))
            out.add([_line(record | answer) for (_, record), answer in numbered])
            for (line, _), answer in numbered:
                if "too_long" in answer:
                    on_long(line, answer["too_long"])
        return out.done


def _stamp(source: Path) -> tuple[int, ...]:
    """Changes when a file does."""
    try:
        found = source.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _answers(
    model: LanguageModel,
    records: Sequence[Record],
    how: Answering,
    out: Output,
    on_rows: Callable[[int], None],
) -> list[Record]:
    """What is added to each record of a window."""
    columns = [_encoded(model, record, how) for record in records]
    longest = [max(map(len, column)) for column in columns]
    answers = out.begin(records)
    fits = [i for i, column in enumerate(columns) if _fits(model, column, how)]
    for i in sorted({*range(len(columns))} - {*fits, *answers}):
        answers[i] = dict.fromkeys(ANSWERS[how.score]) | {"too_long": longest[i]}
    parts = [[columns[i][k] for i in fits] for k in range(1 + how.score)]
    for batch in model.batches(how.batch_size, *parts):
        rows = [fits[i] for i in batch.rows]
        if not set(rows) <= answers.keys():
            with _naming_shortage(batch.size, max(longest[i] for i in rows)):
                found = _batch(model, [columns[i] for i in rows], batch.size, how, out.done, rows)
            out.note(rows, found)
            answers |= zip(rows, found, strict=True)
        on_rows(out.done + len(answers))
    return [answers[i] for i in range(len(records))]


def _batch(
    model: LanguageModel,
    columns: Sequence[list[Ids]],
    size: int,
    how: Answering,
    first: int,
    rows: Sequence[int],
) -> list[Record]:
    """Answers to a batch; its rows are counted from the file's record number `first`."""
    parts = list(zip(*columns, strict=True))
    if how.score:
        found = model.score_batch(*parts, size)
    else:
        numbers = [first + i for i in rows]
        outputs = model.generate_batch(*parts, size, how.decoding, numbers)
        found = [(model.layout.answer(text),) for text in outputs]
    return [dict(zip(ANSWERS[how.score], values, strict=True)) for values in found]


@contextlib.contextmanager
def _naming_shortage(rows: int, tokens: int) -> Iterator[None]:
    """Says what there was no memory for; with smaller settings the same command goes on."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(f"{rows} x {tokens} tokens at once") from error
        raise


def _encoded(model: LanguageModel, record: Record, how: Answering) -> list[Ids]:
    """A record's input and, with scoring, its targets."""
    inputs = model.encode(record["inputs"], record["prompt"])
    return (
        [inputs, model.encode_target(record["inputs"], record["targets"])]
        if how.score
        else [inputs]
    )


def _fits(model: LanguageModel, column: Sequence[Ids], how: Answering) -> bool:
    """Whether each text is short enough, and all of them together have room in the context."""
    lengths, context = [*map(len, column)], model.description.model.context
    whole = sum(lengths) + how.output
    return max(lengths) <= how.input_length and (context is None or whole <= context)


def _check(model: LanguageModel, source: Path, how: Answering) -> None:
    """Raises UserError unless all lines can be answered."""
    measured = how.too_long == "error"
    for line, record in read_records(source, how):
        try:
            texts = record if measured else record | {"inputs": "", "targets": ""}
            column = _encoded(model, texts, how)
        except UserError as error:
            raise UserError(f"--input {source}, line {line}: {error}") from error
        if measured and not _fits(model, column, how):
            length = max(map(len, column))
            raise UserError(
                f"--input {source}, line {line}, has {length} tokens with its prompt, but"
                + (
                    f" --input_length = {how.input_length}: set more, or --too_long=flag"
                    if length > how.input_length
                    else " with its output it is more than the model's context: shorten it, or set"
                    " --too_long=flag"
                )
            )


def read_records(source: Path, how: Answering) -> Iterator[Numbered]:
    """The lines of an input file that are not empty, numbered: "inputs", "prompt", "targets"."""
    try:
        with source.open("rb") as file:
            for number, line in enumerate(text_lines(file, f"--input {source}"), start=1):
                if line.strip():
                    yield number, _record(line, f"--input {source}, line {number}", source, how)
    except OSError as error:
        raise UserError(
            f"--input {source} cannot be read ({error.strerror}): check the path"
        ) from error


def _record(line: str, where: str, source: Path, how: Answering) -> Record:
    if "\0" in line:
        raise UserError(f"{where} has a NUL character: save the file as UTF-8 text, without any")
    if source.suffix.lower() not in (".jsonl", ".json") and not how.score:
        return {"inputs": line.rstrip("\r\n"), "prompt": how.prompt}
    texts = ("inputs", "targets") if how.score else ("inputs",)
    try:
        row = parse_json(line)
        record = row | {name: row[name] for name in texts}
        record["prompt"] = row.get("prompt", how.prompt)
        named = record["prompt"] is None or isinstance(record["prompt"], str)
        if not named or not all(isinstance(record[name], str) for name in texts):
            raise TypeError
        _check_writable(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        example = json.dumps(dict.fromkeys(texts, "text"))
        reason = f" ({error})" if isinstance(error, ValueError) else ""
        reason = f" (it has no {error})" if isinstance(error, KeyError) else reason
        raise UserError(
            f"{where}: each line must be like {example}, with"
            f' "prompt": a name or null where it wants its own{reason}'
        ) from error
    if own := [name for name in how.added if name in record]:
        raise UserError(
            f"{where} has a field {own[0]!r} of its own, where the answer would go: rename it"
            + (", or set --too_long=error" if own[0] == "too_long" else "")
        )
    return record


def _check_writable(record: Record) -> None:
    """Raises ValueError for half a surrogate pair, 1e999, or a depth that cannot be read again."""
    for _ in range(50):  # to spare: it is written and read elsewhere, too
        record = {"": record}
    try:
        _line(record).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

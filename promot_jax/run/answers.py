"""A file answered, or its targets scored, line by line: any size, in constant memory.

promot infer WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target

A line {"inputs": text} becomes {"inputs": text, "prompt": name or null, "output": text}; a line may
name a "prompt" of its own, and keeps whatever else it has. With scoring, lines have "targets" too
and get "score" (the log-likelihood in nats), "tokens" and "greedy". Lines are computed and written
in windows, each a function of its lines alone: a file that was continued is the file of one
uninterrupted call. `<output>.made_by.json` says which model and settings made it: only they may
continue it.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from promot_jax.errors import UserError, check_types
from promot_jax.models import Decoding
from promot_jax.run.inference import BATCH_SIZE, GREEDY, LanguageModel
from promot_jax.training import digest

WINDOW = 8  # batches that are read, sorted by length and written together
ANSWERS = {True: ("score", "tokens", "greedy"), False: ("output",)}
ADDED = {name for names in ANSWERS.values() for name in names} | {"too_long"}

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answering:
    """How a file is answered.

    Attributes:
      prompt: the soft prompt of lines that name none.
      decoding: how to generate.
      score: score each line's targets in the place of generating.
      batch_size: rows that are computed at once.
      input_length: most tokens of an input, its prompt and EOS included; None for no limit.
      too_long: what an input of more tokens is: an "error" before any line is answered, or a line
        with null answers and its number of tokens as "too_long" ("flag"). None is ever cut.

    Raises:
      UserError: a value out of range.
    """

    prompt: str | None = None
    decoding: Decoding = GREEDY
    score: bool = False
    batch_size: int = BATCH_SIZE
    input_length: int | None = None
    too_long: str = "error"

    def __post_init__(self):
        check_types(self)
        for name in ("batch_size", "input_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} = {value}: set at least 1")
        if self.too_long not in ("error", "flag"):
            raise UserError(f"--too_long = {self.too_long!r}: set 'error' or 'flag'")


def infer(
    model: LanguageModel,
    source: Path,
    output: Path,
    how: Answering = Answering(),
    on_rows: Callable[[int], None] = lambda done: None,
) -> int:
    """Answers a file; goes on where an earlier call stopped.

    Args:
      source: JSONL with "inputs" ("targets", "prompt"); or text, a line an input.
      output: JSONL, as this module's docstring says.
      on_rows: called with the number of lines done.

    Returns:
      The number of lines in `output`.

    Raises:
      UserError: a file that cannot be read or written, a malformed line (nothing is answered then),
        or an output that belongs to another input.
    """
    _check(model, source, how)
    window = WINDOW * how.batch_size
    _check_maker(model, output, how)
    done = _kept(output, source, how, window)
    records = (record for _, record in islice(read_records(source, how), done, None))
    with _open(output, "a", encoding="utf-8") as file:
        while lines := list(islice(records, window)):
            for record, answer in zip(lines, _answers(model, lines, how, done), strict=True):
                file.write(json.dumps(record | answer, ensure_ascii=False) + "\n")
            file.flush()
            done += len(lines)
            on_rows(done)
    return done


def _answers(
    model: LanguageModel, records: list[Record], how: Answering, first: int
) -> list[Record]:
    """What is added to each record; `first`: the number of the first one in the file."""
    rows = [model.encode(record["inputs"], record["prompt"]) for record in records]
    fits = [i for i, row in enumerate(rows) if not _too_long(row, how)]
    inputs = [rows[i] for i in fits]
    if how.score:
        targets = [model.encode(records[i]["targets"], None) for i in fits]
        found = model.score_ids(inputs, targets, how.batch_size)
    else:
        numbers = [first + i for i in fits]
        texts = model.generate_ids(inputs, how.decoding, how.batch_size, numbers)
        found = [(text,) for text in texts]
    names = ANSWERS[how.score]
    answers = [dict.fromkeys(names) | {"too_long": len(row)} for row in rows]
    for i, values in zip(fits, found, strict=True):
        answers[i] = dict(zip(names, values, strict=True))
    return answers


def _too_long(row: Any, how: Answering) -> bool:
    return how.input_length is not None and len(row) > how.input_length


def _check(model: LanguageModel, source: Path, how: Answering) -> None:
    """Raises UserError unless all lines can be answered."""
    measured = how.input_length is not None and how.too_long == "error"
    for line, record in read_records(source, how):
        try:
            row = model.encode(record["inputs"] if measured else "", record["prompt"])
        except UserError as error:
            raise UserError(f"--input {source}, line {line}: {error}") from error
        if measured and _too_long(row, how):
            raise UserError(
                f"--input {source}, line {line}, has {len(row)} tokens with its prompt, but"
                f" --input_length = {how.input_length}: set more, or --too_long=flag"
            )


def read_records(source: Path, how: Answering) -> Iterator[tuple[int, Record]]:
    """The lines of an input file that are not empty, numbered: "inputs", "prompt", "targets"."""
    try:
        with source.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _record(line, number, source, how)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input {source} cannot be read as UTF-8 text ({error})") from error


def _record(line: str, number: int, source: Path, how: Answering) -> Record:
    if source.suffix.lower() not in (".jsonl", ".json") and not how.score:
        return {"inputs": line.rstrip("\r\n"), "prompt": how.prompt}
    texts = ("inputs", "targets") if how.score else ("inputs",)
    try:
        row = json.loads(line)
        record = {name: value for name, value in row.items() if name not in ADDED}
        record |= {name: row[name] for name in texts} | {"prompt": row.get("prompt", how.prompt)}
        named = record["prompt"] is None or isinstance(record["prompt"], str)
        if not named or not all(isinstance(record[name], str) for name in texts):
            raise TypeError
        json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        example = json.dumps(dict.fromkeys(texts, "text"))
        raise UserError(
            f"--input {source}, line {number}: each line must be like {example}, with"
            ' "prompt": a name or null where it wants its own'
        ) from error
    return record


def _open(output: Path, mode: str, **options: Any) -> IO:
    try:
        return output.open(mode, **options)
    except OSError as error:
        raise UserError(
            f"--output {output} cannot be written ({error.strerror}): give another --output"
        ) from error


def _check_maker(model: LanguageModel, output: Path, how: Answering) -> None:
    """Raises UserError where an output was begun by another model or with other settings.

    Which prompt a line has, the line itself says.
    """
    settings = {k: v for k, v in dataclasses.asdict(how).items() if k != "prompt"}
    maker = {"model": digest(model.variables)} | settings.pop("decoding") | settings
    path = output.with_name(f"{output.name}.made_by.json")
    if not output.exists() or not output.stat().st_size:
        with _open(output, "w", encoding="utf-8"), _open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(maker) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [k for k in maker if maker[k] != found.get(k)]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"--output {output} exists, but not {path.name}, which says how it was made: give"
            " another --output, or remove it"
        ) from error
    if other:
        name = other[0]
        raise UserError(
            f"--output {output} was begun with {name} = {found.get(name)!r}, not {maker[name]!r}:"
            " continue it as it was begun, or give another --output"
        )


def _kept(output: Path, source: Path, how: Answering, window: int) -> int:
    """Answers in an output file; those of an unfinished window are removed."""
    if not output.exists():
        return 0
    count = size = kept = end = 0
    records = (record for _, record in read_records(source, how))
    with _open(output, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            _check_same(line, next(records, None), f"--output {output}, line {count + 1},", source)
            count, size = count + 1, size + len(line)
            if count % window == 0:
                kept, end = count, size
    if next(records, None) is None:
        kept, end = count, size
    with _open(output, "r+b") as file:
        file.truncate(end)
    return kept


def _check_same(line: bytes, record: Record | None, where: str, source: Path) -> None:
    """Raises UserError unless a line of an output answers this record."""
    try:
        same = record == {k: v for k, v in json.loads(line).items() if k not in ADDED}
    except (ValueError, AttributeError):
        same = False
    if not same:
        raise UserError(f"{where} does not answer {source}: give another --output")

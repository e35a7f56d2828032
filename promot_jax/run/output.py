"""The file that answers go to: written by one process at a time, and continued by the right one.

OUT               a line an answer, in the input's order
OUT.made_by.json  model, vocabulary and settings: only these may continue OUT
OUT.progress      first a line for each window of OUT that is whole: its lines, bytes, digest; then
                  one for each batch of the window that is being computed: its answers

A window's answers are computed shortest input first, and written in the order of its lines. So
neither a kill nor a batch that fails loses the answers of another batch; and nothing in OUT that
was cut off, edited or damaged is taken for an answer. All lines of the other two are sealed.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from promot_jax.errors import UserError
from promot_jax.failures import writing
from promot_jax.files import fingerprint, lock, parse_json, seal, unseal
from promot_jax.hosts import write_atomically
from promot_jax.paths import in_bucket

Record = dict[str, Any]
Numbered = tuple[int, Record]


def check_files(source: Path, output: Path) -> None:
    """What can be said before any work.

    Raises:
      UserError: they are not two files (an input is read more than once, an output too when it is
        continued, so neither can be a pipe), or another process has the output.
    """
    with naming("--input", source, "read"):
        kind = source.stat().st_mode
    if not stat.S_ISREG(kind):
        raise UserError(f"--input {source} is {_kind(kind)}: give a file, it is read several times")
    with naming("--output", output, "written"):
        _check_place(output)
        if any(path.exists() and path.samefile(source) for path in (output, *beside(output))):
            raise UserError(f"--output {output} would overwrite the --input: give another --output")
        if not output.exists():
            return
        found = output.stat()
        if not stat.S_ISREG(found.st_mode) or _is_stream(found):
            kind = "where messages go" if _is_stream(found) else _kind(found.st_mode)
            raise UserError(f"--output {output} is {kind}: give the name of a file")
        with output.open("rb+") as file:
            _lock(file, output)


def _check_place(output: Path) -> None:
    """Raises UserError, or OSError, where nothing can be made."""
    folder = _real(output).parent
    if not folder.is_dir():
        raise UserError(
            f"--output {output} cannot be written (there is no directory {str(folder)!r}): make it,"
            " or give another --output"
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    for path in beside(output):  # their names are longer
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f".{path.name}.tmp").lstat()


def _kind(mode: int) -> str:
    kinds = {"a directory": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((name for name, holds in kinds.items() if holds(mode)), "a device")


def _is_stream(found: os.stat_result) -> bool:
    """Whether this is the file that stdout or stderr leads to, as /dev/stdout is."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(stream), found):
                return True
    return False


def _real(output: Path) -> Path:
    """The file itself: what lies beside it is found by every path that leads to it."""
    return Path(os.path.realpath(output))


def beside(output: Path) -> tuple[Path, Path]:
    """What says how an output was made, and how far it is."""
    real = output if in_bucket(output) else _real(output)
    return real.with_name(f"{real.name}.made_by.json"), real.with_name(f"{real.name}.progress")


@contextlib.contextmanager
def naming(option: str, path: Path, done: str) -> Iterator[None]:
    """Raises UserError, which names option and path, for an OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{option} {path} cannot be {done} ({error.strerror}): give another {option}"
        ) from error


def _lock(file: IO, output: Path) -> None:
    try:
        lock(file)
    except BlockingIOError as error:
        raise UserError(
            f"--output {output} is in use by another process: wait for it, or stop it"
        ) from error


class Output:
    """An output in this process's hands; a context that ends with them.

    Attributes:
      done: lines that are answered and written.
    """

    def __init__(self, path: Path, maker: Mapping[str, Any]):
        """Begins an output, or goes on with one; `maker` says what its answers come from.

        Raises:
          UserError: it cannot be written, is in use, was begun by another maker, or is damaged.
        """
        self.path, self.done = path, 0
        self._windows: list[Record] = []  # as in the file, and where each one ends there
        self._batches: list[Record] = []
        self._end = 0  # of what is whole in the progress file
        self._size = 0  # of what is whole in the output
        self._made_by, progress = beside(path)
        with naming("--output", path, "written"), contextlib.ExitStack() as held:
            self._file = held.enter_context(path.open("ab+"))
            _lock(self._file, path)
            if self._file.tell() or self._begun(maker):
                self._check_maker(maker)
                self._progress = held.enter_context(progress.open("rb+"))
                self._read_progress()
            else:
                self._write_maker(maker)
                self._progress = held.enter_context(progress.open("wb+"))
            self._held = held.pop_all()

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _write_maker(self, maker: Mapping[str, Any]) -> None:
        write_atomically(self._made_by, json.dumps(seal(maker)) + "\n")

    def _begun(self, maker: Mapping[str, Any]) -> bool:
        """Whether this maker has begun an output whose first window is not whole yet."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            beside(self.path)[1].lstat()
            return unseal(parse_json(self._made_by.read_bytes())) == dict(maker)
        return False

    def _check_maker(self, maker: Mapping[str, Any]) -> None:
        """Raises UserError where an output was begun by another maker.

        It may go on with a smaller `input_length`, since each line says whether it was too long:
        that is the way on for who ran out of memory.
        """
        try:
            found = unseal(parse_json(self._made_by.read_bytes()))
            if found.keys() != maker.keys() or not beside(self.path)[1].exists():
                raise ValueError
        except (OSError, ValueError, TypeError) as error:
            names = " and ".join(path.name for path in beside(self.path))
            raise UserError(
                f"--output {self.path} exists, but without {names}, which say how it was made and"
                " how far it is, or they are damaged: give another --output, or remove it"
            ) from error
        smaller = found["input_length"] > maker["input_length"]
        for name, value in maker.items():
            if found[name] != value and not (name == "input_length" and smaller):
                raise UserError(
                    f"--output {self.path} was begun with {_other(name, found[name], value)}:"
                    " continue it as it was begun, or give another --output"
                )
        if smaller:
            self._write_maker(maker)

    def _read_progress(self) -> None:
        """Windows and batches; a last line without an end is what a kill left."""
        for number, line in enumerate(self._progress, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = unseal(parse_json(line))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"--output {self.path}: line {number} of {beside(self.path)[1].name}, which"
                    " says how far it is, is damaged: restore it, or give another --output"
                ) from error
            self._end += len(line)
            if "bytes" in entry:
                self._windows.append(entry | {"end": self._end})
            else:
                self._batches.append(entry)

    def keep(self, records: Iterator[Numbered], source: Path, window: int) -> Iterator[Numbered]:
        """Finds out how much is done, and removes what comes after it.

        Args:
          records: all that is to be answered, and on which lines of `source` that is.
          source: the file that they are in.
          window: how many records are a whole window.

        Yields:
          Line numbers, and what is written of them; it has to be exhausted.

        Raises:
          UserError: a line that is not as it was written, or answers another input.
        """
        self._file.seek(0)
        kept, size = 0, 0
        for entry in self._windows:
            content = self._file.read(entry["bytes"])
            if len(content) < entry["bytes"]:
                break  # cut off: done again
            written = self._read(content.splitlines(keepends=True), records, source)
            if fingerprint(content) != entry["digest"]:
                raise UserError(
                    f"--output {self.path}: its lines {self.done + 1} to"
                    f" {self.done + entry['lines']} are not as they were written: cut the file off"
                    " before them, to have them done again, or give another --output"
                )
            if entry["lines"] < window and next(records, None) is not None:
                break  # the last one, but the input has grown
            yield from written
            kept, size = kept + 1, size + len(content)
            self.done += entry["lines"]
        else:
            self._file.seek(size)
            self._read(self._file, records, source)
        if kept < len(self._windows):
            self._windows, self._batches = self._windows[:kept], []
            self._end = self._windows[-1]["end"] if kept else 0
        self._size = size
        self._file.truncate(size)
        self._progress.truncate(self._end)
        self._progress.seek(self._end)

    def _read(
        self, lines: Iterable[bytes], records: Iterator[Numbered], source: Path
    ) -> list[Numbered]:
        """What whole lines of the output say, each of which must answer the next record."""
        found: list[Numbered] = []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            number, record = next(records, (0, None))
            if (written := _answer(line, record)) is None:
                raise UserError(
                    f"--output {self.path}, line {self.done + len(found) + 1}, does not answer"
                    f" {source}: one of them was changed; give another --output"
                )
            found.append((number, written))
        return found

    def begin(self, records: Sequence[Record]) -> dict[int, Record]:
        """Answers to these records, the next window, that an earlier process left; by number."""
        self._window = fingerprint(json.dumps([self.done, records], sort_keys=True).encode())
        found: dict[int, Record] = {}
        for entry in self._batches:
            if entry["window"] == self._window:
                found |= zip(entry["rows"], entry["answers"], strict=True)
        self._batches = []
        return found

    def note(self, rows: Sequence[int], answers: Sequence[Record]) -> None:
        """Keeps a batch's answers to some of the window's records."""
        self._write({"window": self._window, "rows": rows, "answers": answers})

    def add(self, lines: Sequence[str]) -> None:
        """Writes the answers to a whole window, which are a line each."""
        content = "".join(f"{line}\n" for line in lines).encode()
        self._check_ours()
        with writing(self.path):
            self._file.write(content)
            self._file.flush()
        self._progress.truncate(self._end)
        self._progress.seek(self._end)
        entry = {"lines": len(lines), "bytes": len(content), "digest": fingerprint(content)}
        self._end += self._write(entry)
        self._size += len(content)
        self.done += len(lines)

    def _check_ours(self) -> None:
        """Raises UserError where somebody who asks for no lock has touched the output."""
        here = os.fstat(self._file.fileno())
        with contextlib.suppress(OSError):
            if os.path.samestat(here, self.path.stat()) and here.st_size == self._size:
                return
        raise UserError(
            f"--output {self.path} was changed, replaced or removed while it was written: give"
            " another --output, or remove it"
        )

    def _write(self, entry: Mapping[str, Any]) -> int:
        line = json.dumps(seal(entry)).encode() + b"\n"
        with writing(beside(self.path)[1]):
            self._progress.write(line)
            self._progress.flush()
        return len(line)


def _answer(line: bytes, record: Record | None) -> Record | None:
    """What a line of an output says; None where it does not hold this record of the input."""
    try:
        found = parse_json(line)
        own = record is not None and {name: found[name] for name in record}
        return found if own and _text(own) == _text(record) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _text(record: Record) -> str:
    return json.dumps(record, sort_keys=True)


def _other(name: str, theirs: Any, ours: Any) -> str:
    """How one maker differs from another, in words."""
    if name in ("model", "architecture", "vocabulary"):
        return f"another {name}"
    which = ", of the lines that name none" if name == "prompt" else ""
    return f"{name} = {theirs!r}, not {ours!r}{which}"

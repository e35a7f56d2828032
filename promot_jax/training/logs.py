"""What a running stage says: a progress bar, metrics.jsonl and TensorBoard."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from promot_jax.console import console, say
from promot_jax.errors import UserError
from promot_jax.failures import bucket_failure, writing
from promot_jax.files import parse_json
from promot_jax.hosts import is_first, write_atomically
from promot_jax.paths import as_path

METRICS = "metrics.jsonl"
FLUSH_SECONDS = 30  # between two moments at which TensorBoard sees more


def logged(directory: Path) -> list[tuple[int, str]]:
    """The lines of a stage's `metrics.jsonl`, each with its step; not what a crash cut off.

    Raises:
      UserError: it cannot be read, or holds something else.
    """
    path = directory / METRICS
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        if bucket_failure(error):
            raise
        raise UserError(
            f"{path} cannot be read ({error.strerror}): restore or delete it"
        ) from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append((_step(line), line.decode()))
        except ValueError as error:
            if number == len(lines) and line.isascii():
                break
            raise UserError(
                f"{path}, line {number}, is no line of a log ({error}): restore the file, or delete"
                " it, and with it the curve so far"
            ) from error
    return found


def _step(line: bytes) -> int:
    """The step of a line; ValueError unless it holds numbers by name, and a step."""
    values = parse_json(line.decode())
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {str(value)[:40]!r}, no number")
    if type(values.get("step")) is not int or not 0 <= values["step"] < 2**63:
        raise ValueError("it has no step")
    return values["step"]


class MetricsLog:
    """`metrics.jsonl` and `tensorboard/` of a stage.

    A run that goes on from step n forgets the lines after n: they are about to be written again. Of
    several hosts the first one writes. In a bucket, where nothing can be appended to, all lines are
    written anew every `FLUSH_SECONDS`, and before a checkpoint is: none before it is ever missing.

    Raises, here and in its methods:
      UserError: `metrics.jsonl` holds something else.
      OSError: what cannot be written, by name.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / METRICS
        kept = [line for step_, line in logged(directory) if step_ <= step]
        write_atomically(self.path, "".join(line + "\n" for line in kept))
        self.file = (self.path if is_first() else Path(os.devnull)).open(
            "a", buffering=1, encoding="utf-8"
        )
        self.board = Board(directory / "tensorboard", step) if is_first() else None
        self.flushed = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line a logged step."""
        with writing(self.path):
            self.file.write(json.dumps({"step": step} | dict(values)) + "\n")
        self.scalars(step, values)
        if time.monotonic() > self.flushed + FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Has all lines where others see them, as a line on a disk is at once."""
        with writing(self.path):
            self.file.flush()
        self.flushed = time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """For TensorBoard alone (scores, which results.json holds)."""
        if self.board is not None:
            self.board.write(step, values)

    def close(self) -> None:
        """Writes what is left."""
        with contextlib.ExitStack() as last:
            if self.board is not None:
                last.callback(self.board.close)
            last.enter_context(writing(self.path))
            self.file.close()


class Board:
    """TensorBoard's file of one start of a stage.

    Written in the caller's thread. The usual writer has a thread and a queue, which blocks for ever
    once the thread has died of a full disk.
    """

    def __init__(self, directory: Path, step: int):
        # takes a second, and torch where it is installed
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import register_writer_factory
        from tensorboardX.summary import scalar

        self.path, self.event, self.scalar = directory, Event, scalar
        self.flushed = time.monotonic()
        directory.mkdir(parents=True, exist_ok=True)
        register_writer_factory("gs", _Buckets)
        with writing(directory):
            self.file = EventsWriter(str(directory / "events"))
            begun = SessionLog(status=SessionLog.START)  # what was there from this step on is void
            self.file.write_event(Event(wall_time=time.time(), step=step + 1, session_log=begun))
            self.file.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        with writing(self.path):
            for name, value in values.items():
                summary = self.scalar(name, value)
                self.file.write_event(self.event(wall_time=time.time(), step=step, summary=summary))
            if time.monotonic() > self.flushed + FLUSH_SECONDS:
                self.file.flush()
                self.flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left."""
        with writing(self.path):
            self.file.close()


class _Buckets:
    """How tensorboardX opens `gs://...`: its own way needs another client, and asks for no name."""

    @staticmethod
    def directory_check(path: str) -> None:
        """There are no directories to make."""

    @staticmethod
    def open(path: str) -> IO:
        """What takes the events."""
        return as_path(path).open("wb")


class Bar:
    """Progress of a stage: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, step: int, steps: int, every: int):
        self.name, self.steps, self.every = name, steps, every
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(
            *columns,
            TextColumn("{task.fields[said]}", markup=False),
            console=console,
            transient=True,
        )
        self.interactive = sys.stderr.isatty()
        self.task = self.progress.add_task(name, total=steps, completed=step, said="")
        if self.interactive:
            self.progress.start()

    def update(self, step: int, said: str) -> None:
        """Shows that `step` steps are done."""
        if self.interactive:
            self.progress.update(self.task, completed=step, said=said)
        elif step % self.every == 0 or step == self.steps:
            say(f"{self.name} {step}/{self.steps} {said}".rstrip())

    def close(self) -> None:
        if self.interactive:  # elsewhere it would print an empty line
            self.progress.stop()

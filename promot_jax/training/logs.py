"""What a running stage says: a progress bar, metrics.jsonl and TensorBoard."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from promot_jax.console import console, say
from promot_jax.hosts import is_first, write_atomically


class MetricsLog:
    """`metrics.jsonl` and `tensorboard/` of a stage.

    A run that goes on from step n forgets the lines after n: they are about to be written again. Of
    several hosts the first one writes.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        old = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in old if _step(line) <= step]
        write_atomically(self.path, "".join(line + "\n" for line in kept))
        self.file = (self.path if is_first() else Path(os.devnull)).open("a", 1, "utf-8")
        from tensorboardX import SummaryWriter  # takes a second, and torch where it is installed

        board = str(directory / "tensorboard")
        self.board = SummaryWriter(board, purge_step=step + 1, write_to_disk=is_first())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line a logged step."""
        self.file.write(json.dumps({"step": step} | dict(values)) + "\n")
        self.scalars(step, values)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """For TensorBoard alone (scores, which results.json holds)."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def _step(line: str) -> float:
    """The step of a line; a line cut off by a crash belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


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

"""What a running stage says: a progress bar, metrics.jsonl and TensorBoard."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


class MetricsLog:
    """`metrics.jsonl` and `tensorboard/` of a stage.

    A run that goes on from step n forgets the lines after n: they are about to be written again.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        old = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in old if _step(line) <= step]
        new = self.path.with_suffix(".tmp")
        new.write_text("".join(line + "\n" for line in kept))
        new.replace(self.path)  # in one step: a crash loses no line
        self.file = self.path.open("a", buffering=1)
        from tensorboardX import SummaryWriter  # takes a second, and torch where it is installed

        self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

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
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(
            *columns, TextColumn("{task.fields[said]}"), console=console, transient=True
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
            console.print(f"{self.name} {step}/{self.steps} {said}")

    def close(self) -> None:
        if self.interactive:  # elsewhere it would print an empty line
            self.progress.stop()

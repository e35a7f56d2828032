"""Carries out what is missing of a list of runs, one on each core, in the list's order.

A run is done when its row is in the file, with the command that it would be given now. A run that
was killed left its work directory, and goes on there. One that fails is said, and so are those that
would have started from it; the others go on. A directory that no method starts from is removed when
its row is kept.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.forgetting import rows
from bench.forgetting.plan import STARTED_FROM, Run, with_those_before
from bench.forgetting.work import ROW, context, work
from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.files import lock

SECONDS = 35  # of a processor for a run, on a machine that none is known of


class Scheduler:
    """`carry_out()` does what is missing.

    Attributes:
      rows: what is known, by name.
      failed: name -> why.
    """

    def __init__(self, runs: Sequence[Run], root: Path, file: Path, cores: Sequence[int]):
        """Args:
        runs: what is wanted; what has to go before comes by itself.
        root: where they have their directories.
        file: of the rows.
        cores: one run at a time on each.
        """
        self.wanted, self.root, self.file, self.cores = runs, root, file, cores
        self.new = root / "new_rows.jsonl"  # those that are not in the file yet: packing takes time
        self.rows = self._known()
        self.failed: dict[str, str] = {}
        self.running: dict[int, tuple[Run, Any]] = {}
        self.about = {"version": version(), "machine": machine(len(cores))}

    def missing(self) -> list[Run]:
        """What has to be done, in order: runs without a row, and what they start from."""
        lacking = {run.name: run for run in self.wanted if not self.has_row(run)}
        return [
            run
            for name, run in with_those_before(lacking.values()).items()
            if name in lacking or not (self.root / name / ROW).exists()
        ]

    def has_row(self, run: Run) -> bool:
        """Whether a run's row is there, and of this very command."""
        return self.rows.get(run.name, {}).get("command") == self._command(run)

    def _command(self, run: Run) -> str:
        return shlex.join(run.command(Path("runs/forgetting")))

    def carry_out(self, until: float = float("inf")) -> bool:
        """Does what is missing; begins nothing after `until` (of `time.monotonic`).

        Returns whether everything is done.

        Raises:
          UserError: another process is at it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a", encoding="utf-8") as mine:
            try:
                lock(mine)
            except BlockingIOError:
                raise UserError(
                    f"--workdir {self.root} is in use by another process: wait for it, or stop it"
                ) from None
            self.rows = self._known()
            self._carry_out(until)
        return not self.missing()

    def _carry_out(self, until: float) -> None:
        todo, processes = self.missing(), context(self.root)
        count = len(todo)
        try:
            while todo or self.running:
                self._reap(count - len(todo))
                for core in [c for c in self.cores if c not in self.running]:
                    if time.monotonic() < until and (run := self._next(todo)) is not None:
                        todo.remove(run)
                        self._start(processes, run, core)
                if not self.running and (time.monotonic() >= until or self._next(todo) is None):
                    break
                time.sleep(0.1)
        finally:  # after Ctrl-C, above all: they save, and go on another time
            for _, process in self.running.values():
                process.terminate()
            for _, process in self.running.values():
                process.join()
            self.pack()

    def pack(self) -> None:
        """Has all rows in the file."""
        if self.new.exists():
            rows.write(self.file, self.rows.values())
            self.new.unlink()

    def _known(self) -> dict[str, rows.Row]:
        return rows.read(self.file) | rows.read_lines(self.new)

    def _next(self, todo: Sequence[Run]) -> Run | None:
        """The first whose beginnings are there."""
        for run in todo:
            names = [before.name for before in run.before]
            if broken := [name for name in names if name in self.failed]:
                self.failed[run.name] = f"{broken[0]} failed"
            elif all((self.root / name / ROW).exists() for name in names):
                return run
        return None

    def _start(self, processes: Any, run: Run, core: int) -> None:
        workdir = self.root / run.name
        if run.name in self.rows and not self.has_row(run):  # what is there is of other settings
            shutil.rmtree(workdir, ignore_errors=True)
        drift_from = run.drift_from(self.root)
        arguments = (run.files, run.all_bindings(self.root), str(workdir), core, drift_from)
        process = processes.Process(target=work, args=arguments)
        process.start()
        self.running[core] = (run, process)

    def _reap(self, begun: int) -> None:
        """Keeps the rows of what has ended."""
        for core, (run, process) in list(self.running.items()):
            if process.exitcode is None:
                continue
            process.join()
            del self.running[core]
            if process.exitcode:
                self.failed[run.name] = _last_line(self.root / f"{run.name}.log", process.exitcode)
                say(f"{run.name} failed: {self.failed[run.name]}")
                continue
            self._keep(run)
            say(f"{run.name} done ({begun} begun)")

    def _keep(self, run: Run) -> None:
        path = self.root / run.name / ROW
        found = json.loads(path.read_text(encoding="utf-8"))
        command = {"command": self._command(run)}
        self.rows[run.name] = {"name": run.name} | dict(run.about) | command | self.about | found
        with self.new.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[run.name]) + "\n")
        if run.about["method"] not in STARTED_FROM:
            shutil.rmtree(self.root / run.name)


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")[:300]


def version() -> str:
    """The code's, with a mark where it is no commit's; rows are no code."""
    ours = ["git", "diff", "--quiet", "HEAD", "--", ".", f":!{rows.ROWS}"]
    dirty = subprocess.run(ours, capture_output=True, check=False).returncode
    command = ["git", "describe", "--always"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() + "-dirty" * (dirty == 1) or "unknown"


def machine(cores: int) -> str:
    """What it runs on, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {cores} of {os.cpu_count()} cores"


def summary(made: Scheduler) -> str:
    """How many runs have their rows, and about how long the others take."""
    left = made.missing()
    known = [row["measured"]["cpu_seconds"] for row in made.rows.values()]
    hours = len(left) * (sum(known) / len(known) if known else SECONDS) / len(made.cores) / 3600
    done = sum(made.has_row(run) for run in made.wanted)
    return f"{done} of {len(made.wanted)} runs have their rows; about {hours:.1f} hours are left"

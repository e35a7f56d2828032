"""What else lies in a work directory: training curves, samples, configurations.

A run's stages are folders `<k>-<stage>`, in the work directory itself or, when it holds several
runs, below it (`<method>/<k>-<stage>`, `<method>/<seed>/<k>-<stage>`). All of it is optional. A
file may end in the middle of a line when a run was killed; what else cannot be read is left out and
told (`Damage`).
"""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promot_jax.files import parse_json
from promot_jax.paths import in_bucket
from promot_jax.report.rows import LARGEST
from promot_jax.report.text import one_line

STAGE = re.compile(r"(?P<k>\d+)-(?P<name>.+)", re.DOTALL)
SAMPLES = re.compile(r"(?P<task>.+)\.(?P<shots>\d+)shot\.(?P<step>\d+)\.jsonl", re.DOTALL)


@dataclass(frozen=True)
class StageFolder:
    """One stage of one run; `run` is its folder relative to the work directory ('' = itself)."""

    path: Path
    run: str
    method: str
    k: int
    name: str


@dataclass
class Damage:
    """What could not be read. `root`: the work directory, for short names; `lines`: file -> how."""

    root: Path
    lines: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, how: str) -> None:
        self.lines[path.relative_to(self.root).as_posix()] = how

    def notes(self) -> list[str]:
        """A sentence, or none."""
        told = "; ".join(f"{one_line(name)} ({how})" for name, how in self.lines.items())
        return [f"Left out, for it is damaged: {told}."] if told else []


@dataclass(frozen=True)
class SampleFile:
    """Outputs of one task at one step."""

    path: Path
    task: str
    shots: int
    step: int


def stage_folders(workdir: Path, methods: Sequence[str]) -> list[StageFolder]:
    """All stage folders down to three levels, ordered by run and k.

    `methods`: the names in results.json; a run belongs to the one its path names, else to the only
    one there is, else it is called by its path.
    """
    found = []
    for depth in ("*", "*/*", "*/*/*"):
        for path in workdir.glob(depth):
            if (match := STAGE.fullmatch(path.name)) and path.is_dir():
                run = path.parent.relative_to(workdir)
                parts = [one_line(part) for part in run.parts]  # as methods are
                method = _method(parts, methods) or one_line(run.as_posix())
                name = "" if run == Path() else run.as_posix()
                found.append(StageFolder(path, name, method, int(match["k"]), match["name"]))
    return sorted(found, key=lambda folder: (folder.run, folder.k))


def _method(parts: Sequence[str], methods: Sequence[str]) -> str | None:
    """The longest method name that a part of the path is or begins with (`promot-seed1`)."""
    tuned = [method for method in methods if method != "base"]
    named = [
        method
        for method in methods
        if any(re.match(re.escape(method) + r"(?![A-Za-z0-9])", part) for part in parts)
    ]
    if named:
        return max(named, key=len)
    return tuned[0] if len(tuned) == 1 else None


def loss_curve(folder: StageFolder, damage: Damage) -> dict[int, float]:
    """Step -> training loss; a step logged twice (a resumed run) counts as logged last."""

    def known(line: Mapping[str, Any]) -> bool:
        step, loss = line.get("step"), line.get("loss")
        numbers = isinstance(step, int) and isinstance(loss, (int, float))
        return numbers and 0 <= step <= LARGEST and abs(loss) <= LARGEST

    lines = read_jsonl(folder.path / "metrics.jsonl", known, damage)
    return dict(sorted({line["step"]: float(line["loss"]) for line in lines}.items()))


def sample_files(folder: StageFolder) -> list[SampleFile]:
    """The stage's sample files, by task, shots and step."""
    found = []
    for path in (folder.path / "samples").glob("*.jsonl"):
        if match := SAMPLES.fullmatch(path.name):
            found.append(SampleFile(path, match["task"], int(match["shots"]), int(match["step"])))
    return sorted(found, key=lambda file: (file.task, file.shots, file.step))


def configs(workdir: Path, damage: Damage) -> dict[str, str]:
    """Path relative to the work directory -> text of each config.gin, repeated texts once."""
    texts: dict[str, str] = {}
    for depth in ("", "*/", "*/*/"):
        for path in sorted(workdir.glob(f"{depth}config.gin")):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                damage.add(path, str(error.strerror))
                continue
            if text not in texts.values():
                texts[path.relative_to(workdir).as_posix()] = text
    return texts


def read_jsonl(
    path: Path, known: Callable[[Mapping[str, Any]], bool], damage: Damage
) -> list[dict[str, Any]]:
    """The objects of a JSONL file that are `known`; none if it is missing.

    A last line without its end is one that was being written: no damage.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        damage.add(path, str(error.strerror))
        return []
    *lines, rest = text.split(b"\n")
    found = [value for line in lines if (value := _parsed(line, known)) is not None]
    if bad := len(lines) - len(found):
        damage.add(path, f"{bad} of {len(lines)} lines")
    return found + [value for value in [_parsed(rest, known)] if value is not None]


def _parsed(line: bytes, known: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        value = parse_json(line.decode())
        if isinstance(value, dict) and known(value):
            return value
    return None


def write_all(folder: Path, contents: Mapping[str, bytes | None]) -> None:
    """Replaces files, and removes those of None; all or, where one cannot be written, none.

    In a bucket each is replaced for itself.

    Raises: OSError, with its file name.
    """
    if in_bucket(folder):
        for name, data in contents.items():
            if data is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(data)
        return
    made = {name: folder / f".{name}.tmp" for name, data in contents.items() if data is not None}
    try:
        for name, temporary in made.items():
            temporary.write_bytes(contents[name])
        for name, temporary in made.items():
            temporary.replace(folder / name)
    finally:
        for temporary in made.values():
            temporary.unlink(missing_ok=True)
    for name in contents.keys() - made.keys():
        (folder / name).unlink(missing_ok=True)

"""What else lies in a work directory: training curves, samples, configurations.

A run's stages are folders `<k>-<stage>`, in the work directory itself or, when it holds several
runs, below it (`<method>/<k>-<stage>`, `<method>/<seed>/<k>-<stage>`). All of it is optional, and
files may end mid-line when a run was killed: what cannot be read is left out.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGE = re.compile(r"(?P<k>\d+)-(?P<name>.+)")
SAMPLES = re.compile(r"(?P<task>.+)\.(?P<shots>\d+)shot\.(?P<step>\d+)\.jsonl")


@dataclass(frozen=True)
class StageFolder:
    """One stage of one run; `run` is its folder relative to the work directory ('' = itself)."""

    path: Path
    run: str
    method: str
    k: int
    name: str


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
                method = _method(run.parts, methods) or run.as_posix()
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


def loss_curve(folder: StageFolder) -> dict[int, float]:
    """Step -> training loss; a step logged twice (a resumed run) counts as logged last."""
    curve = {}
    for line in read_jsonl(folder.path / "metrics.jsonl"):
        step, loss = line.get("step"), line.get("loss")
        if isinstance(step, int) and isinstance(loss, (int, float)) and math.isfinite(loss):
            curve[step] = float(loss)
    return dict(sorted(curve.items()))


def sample_files(folder: StageFolder) -> list[SampleFile]:
    """The stage's sample files, by task, shots and step."""
    found = []
    for path in (folder.path / "samples").glob("*.jsonl"):
        if match := SAMPLES.fullmatch(path.name):
            found.append(SampleFile(path, match["task"], int(match["shots"]), int(match["step"])))
    return sorted(found, key=lambda file: (file.task, file.shots, file.step))


def configs(workdir: Path) -> dict[str, str]:
    """Path relative to the work directory -> text of each config.gin, repeated texts once."""
    texts: dict[str, str] = {}
    for depth in ("", "*/", "*/*/"):
        for path in sorted(workdir.glob(f"{depth}config.gin")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if text not in texts.values():
                texts[path.relative_to(workdir).as_posix()] = text
    return texts


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; nothing if it is missing."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

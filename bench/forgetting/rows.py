"""What is kept of a run: one line of JSON, small enough that all of them lie in the repository.

    {"name": "lab_nli/base0-seed0/promot-lr0.0003", "method": "ProMoT", "target": "lab_nli",
     "base": 0, "seed": 0, "knobs": {"LEARNING_RATE": 0.0003}, "command": "promot run ...",
     "version": "<git describe>", "machine": "...", "measured": {"seconds": 21.5, ...},
     "points": [{"stage": "model", "step": 200, "rows": 300, "right": {"lab_nli": "...", ...},
                 "format": {"lab_qa": 0.0, ...}}, ...]}

A point is one evaluation: at a step of the last training, or with a `coefficient` of a stage that
goes back on it. `right` has a bit for each row of each task, in the order of the split: whether the
answer was right; so two runs can be compared row by row. `format` is the share of the answers that
look like the target's.
"""

import base64
import json
import lzma
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from promot_jax.files import read_json
from tasks.lab_world import TURN

ROWS = Path("bench/forgetting/rows.jsonl.xz")
Row = dict[str, Any]


def read(path: Path) -> dict[str, Row]:
    """The rows of all runs, by name; none where there is no file."""
    if not path.exists():
        return {}
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return {row["name"]: row for row in map(json.loads, file)}


def read_lines(path: Path) -> dict[str, Row]:
    """The same of a file that is not packed, without a last line that was cut off."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return {row["name"]: row for row in map(json.loads, lines)}


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes all rows in one step; the same rows give the same bytes."""
    lines = "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["name"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(lzma.compress(lines.encode()))
    os.replace(beside, path)


def points(workdir: Path) -> list[dict[str, Any]]:
    """The points of a finished run, in the order of its stages."""
    found: dict[tuple, dict[str, Any]] = {}
    for row in read_json(workdir / "results.json", list):
        stage, step, task = row["stage"], row["step"], row["task"]
        point = found.setdefault((stage, step), {"stage": stage.partition("-")[2], "step": step})
        if row.get("coefficient") is not None:
            point["coefficient"] = row["coefficient"]
        lines = workdir / stage / "samples" / f"{task}.{row['shots']}shot.{step}.jsonl"
        scores = [json.loads(line)["score"] for line in lines.read_text("utf-8").splitlines()]
        point["rows"] = len(scores)
        point.setdefault("right", {})[task] = pack(np.array(scores) == 1)
        point.setdefault("format", {})[task] = row["format_share"]
    return list(found.values())


def pack(right: Bool[np.ndarray, " rows"]) -> str:
    """Bits as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, rows: int) -> Bool[np.ndarray, " rows"]:
    """The bits of a text."""
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=rows).astype(bool)


def chosen_by(rows: int) -> Bool[np.ndarray, " rows"]:
    """Which rows are of validation; the others are of test."""
    return np.arange(rows) % TURN == 0


def right(point: Mapping[str, Any], tasks: Iterable[str]) -> Bool[np.ndarray, "tasks rows"]:
    """A point's bits on some tasks."""
    return np.stack([unpack(point["right"][task], point["rows"]) for task in tasks])

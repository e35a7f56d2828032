"""Samples: what the model answered, one JSON line a row, for people and for the report."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from promot_jax.hosts import write_atomically


def write_samples(
    path: Path,
    inputs: Sequence[str],
    targets: Sequence[str],
    outputs: Sequence[str],
    scores: Sequence[float] | None,
) -> None:
    """Writes lines of input, target, output and score, making the folder where needed.

    `scores` are the rows' own in the task's first metric; null where the metric has none for a
    single row.
    """
    lines = []
    for text, target, output, score in zip(
        inputs, targets, outputs, scores or [None] * len(inputs), strict=True
    ):
        score = score if score is not None and math.isfinite(score) else None
        line = {"input": text, "target": target, "output": output, "score": score}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(lines))

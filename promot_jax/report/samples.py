"""Which samples to show: the same few inputs of one held-out task, before and after every method.

The examples are the first ones of the file, not the most telling ones. "Before" is the first
evaluated step of the method's last stage, "after" its selected step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promot_jax.report.files import Damage, SampleFile, StageFolder, read_jsonl, sample_files
from promot_jax.report.rows import BASE, LARGEST, TARGET
from promot_jax.report.table import Results

Answer = tuple[str, float | None]  # output, score
ROWS = 3


@dataclass
class Item:
    """One input and every method's (before, after) answer to it."""

    input: str
    target: str
    answers: dict[str, tuple[Answer | None, Answer | None]] = field(default_factory=dict)


@dataclass
class Comparison:
    """`origins`: method -> the run and steps its answers come from."""

    task: str
    shots: int
    items: list[Item]
    origins: dict[str, str]


def comparison(
    results: Results, folders: Sequence[StageFolder], damage: Damage
) -> Comparison | None:
    """Samples of the first held-out (task, shots) that any method has, or None."""
    files = {
        method: [
            (folder, sample_files(folder))
            for folder in reversed(folders)  # of each run the last stage with samples comes first
            if folder.method == method
        ]
        for method in results.methods
    }
    held = sorted(
        dict.fromkeys(row.key for row in results.rows if row.group != TARGET),
        key=lambda key: key[1],
    )
    for task, shots in held:
        found = Comparison(task, shots, [], {})
        for method in results.methods:
            steps = [
                (folder, picked)
                for folder, all_files in files[method]
                if (picked := [f for f in all_files if (f.task, f.shots) == (task, shots)])
            ]
            if steps:
                # the first run by name, and of that run the last stage
                first_run = min(folder.run for folder, _ in steps)
                folder, picked = next(pair for pair in steps if pair[0].run == first_run)
                _add(found, results, method, folder, picked, damage)
        if found.items:
            return found
    return None


def _add(
    found: Comparison,
    results: Results,
    method: str,
    folder: StageFolder,
    picked: Sequence[SampleFile],
    damage: Damage,
) -> None:
    selected = {c.step for line in results.lines if line.method == method for c in line.finals}
    after = next((f for f in reversed(picked) if f.step in selected), picked[-1])
    tried = any(line.tries for line in results.lines if line.method == method)
    # Steps of a stage that transforms are no steps of training: none is "before" another.
    before = picked[0] if picked[0].step < after.step and not tried else None
    old, new = _read(before, damage), _read(after, damage)
    if not found.items:
        found.items = [Item(text, target) for text, (target, _) in list(new.items())[:ROWS]]
    for item in found.items:
        pair = (old.get(item.input, ("", None))[1], new.get(item.input, ("", None))[1])
        if method == BASE:  # nothing was tuned: its one answer is a "before"
            pair = (pair[1], None)
        if any(pair):
            item.answers[method] = pair
    steps = f"step {after.step}" if before is None else f"steps {before.step} and {after.step}"
    found.origins[method] = (
        f"{folder.path.name} of run '{folder.run}', {steps}"
        if folder.run
        else (f"{folder.path.name}, {steps}")
    )


def _read(file: SampleFile | None, damage: Damage) -> dict[str, tuple[str, Answer]]:
    """Input -> (expected, (output, score))."""

    def known(line: Mapping[str, Any]) -> bool:
        texts = all(isinstance(line.get(name), str) for name in ("input", "target", "output"))
        score = line.get("score")
        return texts and (score is None or type(score) in (int, float) and abs(score) <= LARGEST)

    rows: dict[str, tuple[str, Answer]] = {}
    for line in read_jsonl(file.path, known, damage) if file else ():
        rows.setdefault(line["input"], (line["target"], (line["output"], line.get("score"))))
    return rows

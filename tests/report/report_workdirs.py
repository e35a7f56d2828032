"""Small work directories in the contract's format, with the forgetting that a real run shows."""

import json
import math
import random
from pathlib import Path

HELD = {"lab_qa": "qa", "lab_reading": "qa", "lab_to_zel": "translation", "lab_summary": "summary"}
FINAL = {"finetune": 0.41, "promot": 0.97, "promot_joint": 0.96, "prompt_tuning": 0.975}
FORMAT = {"finetune": 0.45}
STEPS = range(0, 301, 50)


def rows_of(method, seed=0, rate=3e-4, shots=(0, 1), held=HELD, steps=STEPS, noise=None):
    """The rows of results.json of one run's stages."""
    noise = noise or random.Random(f"{method}{seed}{rate}")
    if method == "base":
        return _checkpoint("base", "base", 0, 0.12, 0.98, 0.0, True, seed, None, shots, held, noise)
    rows = []
    if method.startswith("promot"):
        rows += _checkpoint(
            method, "prompt", 500, 0.46, 0.98, 0.0, True, seed, rate, shots, held, noise
        )
    stage = "prompt" if method == "prompt_tuning" else "model"
    goal = 0.47 if method == "prompt_tuning" else 0.99
    speed = rate / 3e-4
    for step in steps:
        learned = 1 - math.exp(-step * speed / 60)
        forgotten = min(1.0, speed) * (1 - math.exp(-step * speed / 90))
        keeps = 0.98 - (0.98 - FINAL.get(method, 0.8)) * forgotten
        rows += _checkpoint(
            method, stage, step, 0.12 + (goal - 0.12) * learned, keeps,
            FORMAT.get(method, 0.0) * forgotten, step == steps[-1], seed, rate, shots, held, noise,
        )  # fmt: skip
    return rows


def _checkpoint(
    method, stage, step, target, keeps, share, selected, seed, rate, shots, held, noise
):
    def row(task, group, k, value, share, prompt):
        value = min(1.0, max(0.0, value + noise.gauss(0, 0.01)))
        half = 1.96 * math.sqrt(value * (1 - value) / 200)
        return {
            "method": method, "stage": stage, "step": step, "task": task, "group": group,
            "shots": k, "prompt": prompt, "metric": "accuracy", "value": value,
            "low": max(0.0, value - half), "high": min(1.0, value + half), "n": 200,
            "format_share": share, "selected": selected, "seed": seed, "learning_rate": rate,
        }  # fmt: skip

    prompted = method not in ("base", "finetune")
    rows = [row("lab_nli", "target", 0, target, 1.0, prompted)]
    return rows + [row(t, g, k, keeps, share, False) for t, g in held.items() for k in shots]


def write_results(workdir: Path, rows) -> Path:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    return workdir


def write_metrics(folder: Path, steps=100, seed=0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(seed)
    lines = [
        {
            "step": step, "loss": 0.1 + 3 * math.exp(-step / 25) + noise.uniform(0, 0.2),
            "tokens": 500 * step, "seconds": step / 10, "examples_per_second": 64.0,
            "learning_rate": 3e-4, "gradient_norm": 1.0,
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def write_samples(folder: Path, task: str, shots: int, step: int, outputs) -> None:
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "input": f"Q: where does person {i} live? A:", "target": f"town {i}",
            "output": output, "score": float(output == f"town {i}"),
        }
        for i, output in enumerate(outputs)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "samples" / f"{task}.{shots}shot.{step}.jsonl").write_text(text, encoding="utf-8")


def demo_workdir(tmp_path: Path) -> Path:
    """Five methods in one directory, as `make demo` leaves them."""
    methods = ["base", "prompt_tuning", "finetune", "promot", "promot_joint"]
    rows = [row for method in methods for row in rows_of(method)]
    for method in methods[1:]:
        folders = ["1-prompt", "2-model"] if method.startswith("promot") else ["1-model"]
        folders = ["1-prompt"] if method == "prompt_tuning" else folders
        for folder in folders:
            write_metrics(tmp_path / method / folder, seed=len(method))
        last = tmp_path / method / folders[-1]
        right = [f"town {i}" for i in range(5)]
        write_samples(last, "lab_qa", 0, 0, right)
        after = ["True", "False", "town 2", "True", "True"] if method == "finetune" else right
        write_samples(last, "lab_qa", 0, 300, after)
    (tmp_path / "config.gin").write_text('run.methods = ("<b>", "promot")\n', encoding="utf-8")
    return write_results(tmp_path, rows)

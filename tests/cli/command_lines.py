"""Command lines: of a small run that works, and the form of those that have one thing wrong."""

import sys
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(sys.executable).with_name("promot")

# A run of seconds on the lab's model: prompt stage, model stage, an evaluation after each.
SMALL = {
    "PROMPT_LENGTH": 4, "PROMPT_STEPS": 2, "PROMPT_EVALUATE_EVERY": 2, "STEPS": 2,
    "EVALUATE_EVERY": 2, "INPUT_LENGTH": 64, "TARGET_LENGTH": 16, "BATCH_SIZE": 8, "BEAMS": 1,
    "EVAL_LIMIT": 8, "EVAL_BATCH_SIZE": 8, "MAX_OUTPUT_LENGTH": 8,
}  # fmt: skip

# Faster to compile than Adafactor and unrolled layers.
FAST = [
    "--gin.OPTIMIZER=@training.adamw",
    "--gin.PROMPT_OPTIMIZER=@training.adamw",
    "--gin.models.T5Config.scan_layers=True",
]


def flags(**settings) -> list[str]:
    """--gin.NAME=VALUE for macros."""
    return [f"--gin.{name}={value!r}" for name, value in settings.items()]


def own_task(path: str, name: str) -> list[str]:
    """The three settings that make a file a task."""
    return [
        "--gin.TASK=@data.file_task()",
        f"--gin.data.file_task.name={name!r}",
        f"--gin.data.file_task.train={path!r}",
    ]


class Bad(NamedTuple):
    """A command line, the files it finds, and what its one line on stderr must say."""

    name: str
    arguments: list[str]
    says: list[str]
    files: dict[str, str | bytes] = {}


def run(*more: str, recipe: str = "finetune", **settings) -> list[str]:
    """`promot run` on the file mine.tsv, or on TASK; `more` comes last and wins."""
    return [
        "run",
        f"--gin_file=gin/recipes/{recipe}.gin",
        "--gin_file=gin/models/lab.gin",
        *([] if "TASK" in settings else own_task("mine.tsv", "NAME")),
        *flags(**{"WORKDIR": "out"} | SMALL | settings),
        *more,
    ]


# A Gemma of seconds, whose model file wants a tokenizer.json: conftest.py makes one.
TINY = {
    "vocab_size": 450, "emb_dim": 16, "num_heads": 2, "num_layers": 2, "head_dim": 8, "mlp_dim": 32,
    "max_position_embeddings": 128, "layer_types": ("local", "global"), "sliding_window": 16,
    "query_pre_attn_scalar": 8,
}  # fmt: skip


def decoder(*more: str, recipe: str = "finetune", **settings) -> list[str]:
    """As `run`, with a tiny Gemma."""
    sizes = [f"--gin.models.DecoderConfig.{name}={value!r}" for name, value in TINY.items()]
    settings = {"VOCABULARY_FILE": "hf/tokenizer.json"} | settings
    found = run(*sizes, *more, recipe=recipe, **settings)
    return [each.replace("models/lab.gin", "models/gemma3_270m.gin") for each in found]


def on_base(*more: str, recipe: str = "finetune", **settings) -> list[str]:
    """As `run`, with the model of BASE, a tiny Gemma that was tuned."""
    found = run(*more, recipe=recipe, **{"BASE": "tuned"} | settings)
    return [each.replace("models/lab.gin", "models/of_base.gin") for each in found]


def infer(*more: str) -> list[str]:
    """`promot infer` on the file asked.jsonl."""
    return ["infer", "trained", "--input=asked.jsonl", "--output=o.jsonl", "--batch_size=4", *more]


ASKED = {"asked.jsonl": '{"inputs": "what?"}\n'}
TEXT = infer("--input=asked.txt")
LONG = "x" * 300

"""The files that the pages' commands read: models of the same kinds, tiny, and a few rows.

A model's name on a hub is a directory here, so that the commands stay as they are.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "convert"), str(TESTS / "vocabularies")]

import gguf_models  # noqa: E402
import hf_models  # noqa: E402
import small_tokenizers  # noqa: E402
import t5x_writer  # noqa: E402

from promot_jax.models import T5, T5Config, abstract  # noqa: E402
from tasks.sources import SOURCES  # noqa: E402

LAB = "promot_jax/assets/lab/sentencepiece.model"
T5X = "gs://t5-data/pretrained_models/t5x/t5_1_1_small/checkpoint_1000000"
# What lies in a bucket -> what is read in its place.
ELSEWHERE = {T5X: "t5x/checkpoint_1", "gs://t5-data/vocabs/cc_all.32000/sentencepiece.model": LAB}
WIDTH = 16  # of the T5X checkpoint


def pairs(path: Path) -> None:
    """A TSV of inputs and targets."""
    rows = (f"what follows {a}{b}?\t{b}\n" for a in "abcdefgh" for b in "xyz")
    path.write_text("".join(rows), encoding="utf-8")


def nli(path: Path) -> None:
    """The rows that docs/data.md shows one of."""
    colors = ("red", "green", "blue")
    rows = [
        {"premise": f"The {a} is {b}.", "hypothesis": f"The {a} is {c}.", "label": str(b == c)}
        for a in ("boat", "door", "lamp", "hat")
        for b in colors
        for c in colors
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def twelve(directory: Path) -> None:
    """A few rows of each task of the paper, in its columns."""
    for name, source in SOURCES.items():
        (directory / name).mkdir(parents=True)
        for split in ("train", "validation", "test"):
            lines = []
            for i in range(8):
                row = {column: f"{split} {i}: the {column}" for column in source.columns}
                row |= {column: [f"the answer {i}"] for column in source.lists}
                row |= {column: known[i % 2] for column, known in source.choices.items()}
                lines.append(json.dumps(row) + "\n")
            (directory / name / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def smollm2(directory: Path) -> None:
    """A Llama with the tokenizer and the chat template of SmolLM2."""
    directory.parent.mkdir(exist_ok=True)
    small_tokenizers.smollm2(directory)
    width, layers, _ = gguf_models.ARCHITECTURES["llama"]
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float32",
        "vocab_size": gguf_models.VOCABULARY, "hidden_size": gguf_models.HIDDEN,
        "intermediate_size": gguf_models.FFN, "num_hidden_layers": layers, "head_dim": width,
        "num_attention_heads": gguf_models.HEADS, "num_key_value_heads": gguf_models.KV_HEADS,
        "max_position_embeddings": 512, "rope_theta": 1e5, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": True,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arrays = gguf_models.weights("llama")
    save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})


def t5x(directory: Path) -> None:
    """A T5 1.1 as T5X writes it, with the lab's vocabulary."""
    sizes = dict.fromkeys(("num_heads", "num_encoder_layers", "num_decoder_layers"), 2)
    config = T5Config(vocab_size=896, emb_dim=WIDTH, head_dim=8, mlp_dim=32, **sizes)
    rng = np.random.default_rng(0)
    shapes = abstract(T5(config, ()))
    variables = {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in shapes.items()}
    arrays = t5x_writer.t5x_arrays(variables, t5x_writer.MINIMAL, config.num_heads)
    t5x_writer.write_checkpoint(directory.parent, arrays, 1)


def prompt(path: Path) -> None:
    """A prompt of google-research/prompt-tuning."""
    np.save(path, np.ones((3, WIDTH), np.float32))


FILES: dict[str, Callable[[Path], object]] = {
    "mine.tsv": pairs,
    "facts.tsv": pairs,
    "nli.jsonl": nli,
    "path/to/data": twelve,
    "google/flan-t5-small": lambda path: hf_models.save("flan_t5", path),
    "google/t5-v1_1-xxl": lambda path: hf_models.save("t5_1_1", path),
    "HuggingFaceTB/SmolLM2-135M-Instruct": smollm2,
    "SmolLM2-135M-Instruct.Q4_1.gguf": lambda path: gguf_models.write(
        path, "llama", gguf_models.MIXED
    ),
    "t5x/checkpoint_1": t5x,
    "prompt.npy": prompt,
}


def make(folder: Path, text: str) -> None:
    """Makes the files that a page names."""
    for name, write in FILES.items():
        if name in text:
            write(folder / name)

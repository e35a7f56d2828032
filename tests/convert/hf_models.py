"""Tiny checkpoints of every shape that Transformers has, and what Transformers computes from them.

Where torch, transformers and peft are installed, the directories are saved and the results computed
by them; where not, both come from goldens/, which

    python tests/convert/hf_models.py

writes again. The weights are the same either way: numbers drawn by NumPy, for each name.
"""

import importlib.util
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens"
SPIECE = HERE.parents[1] / "promot_jax/assets/lab/sentencepiece.model"
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft"))
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SIZES = {
    "vocab_size": 896, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3,
    "decoder_start_token_id": 0,
}  # fmt: skip
ONE = {"num_layers": 1}
BYT5 = {"vocab_size": 384, "num_decoder_layers": 1}
# shape -> class, settings, whether it has a head of its own
SHAPES = {
    "t5_1_0": ("T5", SIZES, False),
    "t5_1_1": ("T5", SIZES | GATED, True),
    "flan_t5": ("T5", SIZES | GATED | ONE | {"num_heads": 5, "d_ff": 40}, True),
    "mt5": ("MT5", SIZES | GATED | ONE, True),
    "umt5": ("UMT5", SIZES | GATED, True),
    "byt5": ("T5", SIZES | GATED | BYT5, True),
    "t5_1_1_tied": ("T5", SIZES | GATED | ONE, False),
    "umt5_tied": ("UMT5", SIZES | GATED | ONE, False),
}  # fmt: skip
INPUTS = np.array([[5, 17, 300, 42, 9, 77, 140, 1], [23, 8, 64, 201, 1, 0, 0, 0]])
DECODER_INPUTS = np.array([[0, 31, 7, 120, 90], [0, 260, 14, 3, 55]])
LENGTH, BEAMS = 10, 4
PROMPT_LENGTH = 4
EVERY = 16  # of the vocabulary, in recorded logits


def weight(name: str, shape: tuple[int, ...], scaled: bool, tied: bool = False) -> np.ndarray:
    """A float32 array that depends on its name; logits come out at the order of 10."""
    draws = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) == 1:
        large = name == "decoder.final_layer_norm.weight" and (scaled or not tied)
        return (10.0 if large else 1.0) + 0.1 * draws
    if name == "shared.weight" or (name == "lm_head.weight" and scaled):
        return draws
    return draws / np.float32(np.sqrt(shape[1]))


def prompt() -> np.ndarray:
    """A soft prompt [length, d_model]."""
    return weight("shared.weight", (PROMPT_LENGTH, SIZES["d_model"]), False)[::-1].copy()


def save(shape: str, directory: Path) -> Path:
    """Makes a shape's checkpoint directory, with a tokenizer."""
    if INSTALLED:
        model(shape).save_pretrained(directory)
    else:
        directory.mkdir(parents=True)
        told = json.loads((GOLDENS / f"{shape}.json").read_text(encoding="utf-8"))
        (directory / "config.json").write_text(json.dumps(told["config"]), encoding="utf-8")
        about = (told["scaled"], not SHAPES[shape][2])
        arrays = {name: weight(name, tuple(size), *about) for name, size in told["tensors"].items()}
        save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})
    if shape == "byt5":
        told = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
        (directory / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    else:
        (directory / "spiece.model").write_bytes(SPIECE.read_bytes())
    return directory


def classes(shape: str) -> tuple[type, type]:
    """Transformers' classes of a shape: of the settings, and of the model."""
    import transformers

    family = SHAPES[shape][0]
    return (
        getattr(transformers, f"{family}Config"),
        getattr(transformers, f"{family}ForConditionalGeneration"),
    )


def model(shape: str) -> Any:
    """Transformers' own model of a shape, with our numbers for weights."""
    import torch

    settings, own = SHAPES[shape][1:]
    of_settings, of_model = classes(shape)
    made = of_model(of_settings(**settings)).eval()
    if own:
        made.lm_head.weight = torch.nn.Parameter(torch.empty_like(made.lm_head.weight))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(torch.tensor(weight(name, parameter.shape, scaled(made), not own)))
    return made


def scaled(made: Any) -> bool:
    """Whether Transformers scale a model's output in front of the head."""
    family = type(made).__name__.removesuffix("ForConditionalGeneration")
    return family == "UMT5" or (family == "T5" and made.config.scale_decoder_outputs)


def results(made: Any, adapter: Path | None = None) -> dict[str, np.ndarray]:
    """What Transformers, and with an adapter directory PEFT, compute: logits, greedy, 4 beams."""
    import torch

    if adapter is not None:
        from peft import PeftModel

        made = PeftModel.from_pretrained(made, str(adapter)).eval()
    tokens = torch.tensor(INPUTS)
    batch = {"input_ids": tokens, "attention_mask": (tokens > 0).long()}
    with torch.no_grad():
        logits = made(**batch, decoder_input_ids=torch.tensor(DECODER_INPUTS)).logits
        found = {"logits": logits.numpy()}
        for name, beams in (("greedy", 1), ("beams", BEAMS)):
            how = {"max_new_tokens": LENGTH, "do_sample": False, "num_beams": beams}
            ids = made.generate(**batch, **how)[:, 1:].numpy()
            found[name] = np.zeros((len(INPUTS), LENGTH), np.int32)
            found[name][:, : ids.shape[1]] = ids
    return found


def save_adapter(directory: Path, base: Any, submodules: int) -> None:
    """Has PEFT save our prompt as its own adapter."""
    import torch
    from peft import PromptTuningConfig, TaskType, get_peft_model

    settings = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        num_virtual_tokens=PROMPT_LENGTH,
        num_transformer_submodules=submodules,
    )
    made = get_peft_model(base, settings)
    rows = np.concatenate([prompt(), *[np.full_like(prompt(), 9.0)] * (submodules - 1)])
    made.prompt_encoder["default"].embedding.weight.data = torch.tensor(rows)
    made.save_pretrained(directory)


def golden(name: str) -> dict[str, np.ndarray]:
    """Recorded results; of the logits, every `EVERY`th."""
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


def expected(shape: str, adapter: Path | None = None) -> dict[str, np.ndarray]:
    """Results of a shape, with its prompt where `adapter` is a directory: live, or recorded."""
    if INSTALLED:
        found = results(model(shape), adapter)
        return found | {"logits": found["logits"][..., ::EVERY]}
    return golden(shape if adapter is None else f"{shape}_prompt")


def record() -> None:
    """Writes goldens/."""
    import tempfile

    GOLDENS.mkdir(exist_ok=True)
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            made = model(shape)
            directory = save(shape, Path(folder) / "model")
            from safetensors import safe_open

            with safe_open(directory / "model.safetensors", "numpy") as file:
                tensors = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            told = {"config": config, "scaled": scaled(made), "tensors": tensors}
            (GOLDENS / f"{shape}.json").write_text(json.dumps(told), encoding="utf-8")
            np.savez_compressed(GOLDENS / f"{shape}.npz", **expected(shape))
            if shape == "t5_1_1":
                save_adapter(Path(folder) / "adapter", made, 1)
                found = expected(shape, Path(folder) / "adapter")
                np.savez_compressed(GOLDENS / f"{shape}_prompt.npz", **found)


if __name__ == "__main__":
    sys.exit(record())

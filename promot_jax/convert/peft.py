"""Soft prompts and LoRA as Hugging Face's PEFT keeps them: a directory of settings and arrays.

LoRA is read and written by `peft_lora`. A prompt is one array: the first `num_virtual_tokens` rows
go in front of what the encoder reads, or a decoder, whose BOS comes behind them. A model that
scales its embeddings does not scale them. For an encoder-decoder PEFT makes twice as many by
default (`num_transformer_submodules` = 2) and never looks at the others; 1 is what is meant, and
what is written here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from safetensors.numpy import save_file

from promot_jax.convert import peft_lora
from promot_jax.convert.source import Source, Tensor, check_finite, read_json
from promot_jax.convert.weights import open_weights
from promot_jax.errors import UserError
from promot_jax.models import Variables
from promot_jax.models.config import Config

SETTINGS, KEY = "adapter_config.json", "prompt_embeddings"
FILES = ("adapter_model", "adapter_model")
# Kind of model -> what PEFT calls it, and our name of what it calls the number of layers.
KINDS = {
    "encoder_decoder": ("SEQ_2_SEQ_LM", "num_encoder_layers"),
    "decoder_only": ("CAUSAL_LM", "num_layers"),
}


def read(path: str, prompt_name: str = "prompt") -> Source:
    """Opens an adapter directory of PEFT's prompt tuning, or of LoRA.

    Raises:
      UserError: a file is absent or damaged, or the adapter is of another kind.
    """
    values = read_json(Path(path) / SETTINGS)
    wanted = {
        "peft_type": ["PROMPT_TUNING", "LORA"],
        "task_type": [*(task for task, _ in KINDS.values()), None],
    }
    for name, known in wanted.items():
        if (found := values.get(name)) not in known:
            only = " and ".join(repr(value) for value in known if value is not None)
            raise UserError(
                f"{path!r}: {SETTINGS} has {name} = {found!r:.80}: only {only} can be imported"
            )
    stored = open_weights(Path(path), FILES)
    about = {
        "base_model": values.get("base_model_name_or_path"),
        "task_type": values.get("task_type"),
    }
    if values["peft_type"] == "LORA":
        return peft_lora.read(path, values, stored, about)
    length = values.get("num_virtual_tokens")
    if type(length) is not int or length < 1:
        raise UserError(
            f"{path!r}: {SETTINGS} has num_virtual_tokens = {length!r:.80}: set a number"
        )
    if set(stored) != {KEY} or len(stored[KEY].shape) != 2 or stored[KEY].shape[0] < length:
        found = ", ".join(f"{name} {x.shape}" for name, x in stored.items())
        raise UserError(
            f"{path!r} holds {found}, not {KEY} with num_virtual_tokens = {length} rows: save the"
            " adapter again"
        )
    whole = stored[KEY]
    shape = (length, whole.shape[1])
    if values.get("token_dim") not in (None, shape[1]):
        raise UserError(
            f"{path!r}: {SETTINGS} has token_dim = {values['token_dim']!r:.80}, but its vectors"
            f" have {shape[1]} numbers: save the adapter again"
        )
    tensor = Tensor(KEY, shape, whole.dtype, lambda: whole.read()[:length])
    return Source("peft", "prompt", None, {f"prompt/{prompt_name}": tensor}, about=about)


def check_task_type(path: str, source: Source, config: Config) -> None:
    """Raises UserError for an adapter that says that it is of another kind of model."""
    told, own = source.about.get("task_type"), KINDS[config.kind][0]
    if told not in (None, own):
        raise UserError(
            f"{path!r}: {SETTINGS} has task_type = {told!r}, but an adapter of this model is one of"
            f" {own!r}: give the base that it was trained with"
        )


def write(prompt: Float[Array, "length embed"], config: Config, base: str, directory: Path) -> None:
    """Writes a prompt as an adapter directory, in float32.

    Args:
      prompt: its vectors.
      config: the model's settings.
      base: path or name of the model, which PEFT's users give or look up.
      directory: where to; it is made.
    """
    values = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": prompt.shape[0],
        "token_dim": prompt.shape[1],
        "num_transformer_submodules": 1,
        "num_attention_heads": config.num_heads,
        "num_layers": getattr(config, KINDS[config.kind][1]),
        "prompt_tuning_init": "RANDOM",
    }
    array = check_finite(f"prompt {directory.name!r}", np.ascontiguousarray(prompt, np.float32))
    _write(values, {KEY: array}, config, base, directory)


def write_lora(
    variables: Variables,
    config: Config,
    names: Mapping[str, str],
    base: str | None,
    directory: Path,
) -> None:
    """Writes a model's LoRA as an adapter directory, in float32.

    Args:
      variables: the `lora` collection, of unrolled layers, and others.
      config: the model's settings.
      names: our path -> Transformers' name, for every parameter.
      base: as in `write`.
      directory: where to; it is made.
    """
    values, arrays = peft_lora.written(variables, config.lora, names)
    arrays = {name: check_finite(name, array) for name, array in arrays.items()}
    _write(values, arrays, config, base, directory)


def _write(
    values: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    config: Config,
    base: str | None,
    directory: Path,
) -> None:
    common = {"task_type": KINDS[config.kind][0], "base_model_name_or_path": base}
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**values, **common, "inference_mode": True}, indent=1)
    (directory / SETTINGS).write_text(text, encoding="utf-8")
    save_file(dict(arrays), directory / f"{FILES[0]}.safetensors", metadata={"format": "pt"})

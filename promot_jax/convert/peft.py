"""Soft prompts as Hugging Face's PEFT keeps them: a directory of settings and one array.

PEFT's prompt tuning puts the first `num_virtual_tokens` rows in front of the encoder's input. For
an encoder-decoder it makes twice as many by default (`num_transformer_submodules` = 2) and never
looks at the others; 1 is what is meant, and what is written here.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float
from safetensors.numpy import save_file

from promot_jax.convert.source import Source, Tensor, check_finite, read_json
from promot_jax.convert.weights import open_weights
from promot_jax.errors import UserError
from promot_jax.models import T5Config

SETTINGS, KEY = "adapter_config.json", "prompt_embeddings"
FILES = ("adapter_model", "adapter_model")


def read(path: str, prompt_name: str = "prompt") -> Source:
    """Opens an adapter directory of PEFT's prompt tuning.

    Raises:
      UserError: a file is absent or damaged, or the adapter is of another kind.
    """
    values = read_json(Path(path) / SETTINGS)
    wanted = {"peft_type": ("PROMPT_TUNING",), "task_type": ("SEQ_2_SEQ_LM", None)}
    for name, known in wanted.items():
        if (found := values.get(name)) not in known:
            raise UserError(
                f"{path!r}: {SETTINGS} has {name} = {found!r:.80}: only {known[0]!r} converts"
            )
    stored = open_weights(Path(path), FILES)
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
    about = {"base_model": values.get("base_model_name_or_path")}
    return Source("peft", "prompt", None, {f"prompt/{prompt_name}": tensor}, about=about)


def write(
    prompt: Float[Array, "length embed"], config: T5Config, base: str, directory: Path
) -> None:
    """Writes a prompt as an adapter directory, in float32.

    Args:
      prompt: its vectors.
      config: the model's settings.
      base: path or name of the model, which PEFT's users give or look up.
      directory: where to; it is made.
    """
    values = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_2_SEQ_LM",
        "base_model_name_or_path": base,
        "num_virtual_tokens": prompt.shape[0],
        "token_dim": prompt.shape[1],
        "num_transformer_submodules": 1,
        "num_attention_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    directory.mkdir(parents=True)
    (directory / SETTINGS).write_text(json.dumps(values, indent=1), encoding="utf-8")
    array = check_finite(f"prompt {directory.name!r}", np.ascontiguousarray(prompt, np.float32))
    save_file({KEY: array}, directory / f"{FILES[0]}.safetensors", metadata={"format": "pt"})

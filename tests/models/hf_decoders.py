"""Tiny decoders of every family as Transformers have them, with sizes that hide nothing.

Widths are no products of heads, windows are shorter than the rows, ropes are scaled, soft caps
bite, and no weight is at its initial value.
"""

import contextlib
import importlib.util
import json
from typing import Any

import jax
import numpy as np

from promot_jax.convert import decoders
from promot_jax.models.config import DecoderConfig
from promot_jax.models.decoder import Decoder
from promot_jax.models.layout import stack_layers

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
SIZES = {
    "vocab_size": 101, "hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}
ONE, MANY = {"num_key_value_heads": 1}, {"num_key_value_heads": 6}
FAMILIES = {
    "llama": ("llama", {"rope_theta": 100.0, "rope_scaling": LLAMA3}),
    "llama_linear": ("llama", ONE | {"rope_scaling": LINEAR, "tie_word_embeddings": True}),
    "llama_all_heads": ("llama", MANY | {"rope_theta": 500.0}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2_window": (
        "qwen2",
        ONE | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", ONE | {"rope_theta": 1000.0, "tie_word_embeddings": True}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1], "rope_theta": 50.0}),
    "olmo2": ("olmo2", {"rope_theta": 200.0}),
    "olmo2_one": ("olmo2", ONE | {"rope_scaling": LLAMA3}),
    "gemma2": (
        "gemma2",
        {
            "sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0,
            "query_pre_attn_scalar": 13,
        },
    ),
    "gemma3": (
        "gemma3_text",
        ONE
        | {
            "num_hidden_layers": 4,
            "sliding_window": 5,
            "sliding_window_pattern": 3,
            "rope_theta": 1000.0,
            "rope_local_base_freq": 50.0,
            "rope_scaling": LINEAR,
            "query_pre_attn_scalar": 20,
        },
    ),
    "gemma3_no_scaling": (
        "gemma3_text",
        {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"] * 2}
        | {"num_hidden_layers": 4, "final_logit_softcapping": 4.0},
    ),
}


def model(name: str) -> Any:
    """Transformers' own model of a family, with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, changes = FAMILIES[name]
    values = json.loads(json.dumps(SIZES | changes))  # it changes what it is given
    made = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **values), attn_implementation="eager"
    ).eval()
    rng = np.random.default_rng(len(name))
    with torch.no_grad():
        for path, parameter in made.named_parameters():
            drawn = torch.tensor(rng.standard_normal(tuple(parameter.shape)), dtype=torch.float32)
            if parameter.ndim == 1:
                parameter += 0.3 * drawn
            else:
                parameter.copy_(drawn / (1 if "embed" in path else parameter.shape[1] ** 0.5))
    return made


def ours(made: Any, prompts=(), **changes) -> tuple[Decoder, dict[str, jax.Array]]:
    """The same model as ours, and its variables."""
    values = json.loads(made.config.to_json_string())
    config = decoders.settings(values, "here")
    config = DecoderConfig(**(config.__dict__ | changes))
    stored = {name: x.detach().float().numpy() for name, x in made.state_dict().items()}
    variables = {}
    for path, name in decoders.names(config).items():
        array = stored[name] if path.endswith(("embedding", "scale", "bias")) else stored[name].T
        variables[path] = jax.numpy.asarray(array, config.param_dtype)
    return Decoder(config, prompts), stack_layers(variables) if config.scan_layers else variables


@contextlib.contextmanager
def in_float64():
    """Transformers in double precision, in the places too where they ask for float32."""
    import torch

    names = {"float32": torch.float64, "float": torch.float64}
    before = {name: getattr(torch, name) for name in names}
    convert = torch.Tensor.float
    for name, value in names.items():
        setattr(torch, name, value)
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(torch, name, value)
        torch.Tensor.float = convert


def logits(made: Any, double: bool = False, **inputs) -> np.ndarray:
    """Transformers' logits; `double`: the same computed in float64."""
    import torch

    tensors = {name: torch.tensor(np.asarray(x)) for name, x in inputs.items()}
    with torch.no_grad():
        if not double:
            return made(**tensors).logits.numpy()
        weights = {name: x.double() for name, x in made.state_dict().items()}
        with in_float64():
            exact = type(made)(made.config).double().eval()
            exact.load_state_dict(weights)
            tensors = {n: x.double() if x.is_floating_point() else x for n, x in tensors.items()}
            return exact(**tensors).logits.numpy()

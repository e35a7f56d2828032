"""The families of decoder-only models that Transformers have: a row for each `model_type`.

A row says which switches of `DecoderConfig` the class means, and what the class assumes where
config.json is silent (the larger Gemma 3 say little).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
}
LAYER_TYPES = {"full_attention": "global", "attention": "global", "sliding_attention": "local"}
REQUIRED = {
    "vocab_size": "vocab_size",
    "emb_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_position_embeddings": "max_position_embeddings",
}
# Switches that we lack, and the values at which they are off (null and absence are, too).
OFF = {
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0,
    "partial_rotary_factor": 1,
    "pretraining_tp": 1,
    "use_bidirectional_attention": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "quantization_config": None,
    "transformers_weights": None,
}
# What belongs to each kind of rope beside its type and base.
ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """What the class of a `model_type` means.

    Attributes:
      architecture: the class with a head.
      switches: fields of DecoderConfig that are the same in all its models.
      defaults: values of config.json where it has none, or null (of the soft caps, null is none).
      activation: the name of the activation's field.
      no_rope: may have layers without rope (the class then has no windows).
      windows: may have windows.
      local_rope: local layers have a rope of their own, which is not scaled.
      scalar: has query_pre_attn_scalar.
      caps: the soft caps it has.
      divides: needs a hidden_size that is a multiple of its heads.
      off: further settings that must be at these values.
    """

    architecture: str
    switches: Mapping[str, Any]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    activation: str = "hidden_act"
    no_rope: bool = False
    windows: bool = False
    local_rope: bool = False
    scalar: bool = False
    caps: tuple[str, ...] = ()
    divides: bool = False
    off: Mapping[str, Any] = dataclasses.field(default_factory=dict)


GEMMA = {"norm_offset": True, "norm_placement": "both", "scale_embeddings": True}
GEMMA_DEFAULTS = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
FAMILIES = {
    "llama": Family("LlamaForCausalLM", {}, divides=True),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        {"qkv_bias": True},
        {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
        windows=True,
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        {"qk_norm": "head"},
        {
            "num_key_value_heads": 32,
            "head_dim": 128,
            "sliding_window": 4096,
            "max_window_layers": 28,
        },
        windows=True,
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        {},
        {"num_key_value_heads": 4, "rope_theta": 2e6, "tie_word_embeddings": True},
        no_rope=True,
        off={"use_sliding_window": False},
    ),
    "olmo2": Family(
        "Olmo2ForCausalLM",
        {"norm_placement": "after", "qk_norm": "width"},
        {"rms_norm_eps": 1e-5},
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        GEMMA,
        GEMMA_DEFAULTS | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        activation="hidden_activation",
        windows=True,
        scalar=True,
        caps=CAPS,
        divides=True,
        off={"sliding_window_pattern": 2},
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        GEMMA | {"qk_norm": "head"},
        GEMMA_DEFAULTS
        | {
            "vocab_size": 262208,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "max_position_embeddings": 131072,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "sliding_window_pattern": 6,
        },
        activation="hidden_activation",
        windows=True,
        local_rope=True,
        scalar=True,
        caps=CAPS[1:],
        divides=True,
        off={"attn_logit_softcapping": None},  # Transformers read it and do not use it
    ),
}
MULTIMODAL = {"gemma3": "gemma3_text"}

"""Models: variables and a batch to logits, loss and generated ids.

Free of TensorFlow and of the other rooms.
"""

from promot_jax.models.build import build
from promot_jax.models.config import (
    Config,
    DecoderConfig,
    RopeScaling,
    T5Config,
    config_from_json,
    config_to_json,
)
from promot_jax.models.decoder import Decoder
from promot_jax.models.decoding import Decoding, generate, generate_all
from promot_jax.models.layout import (
    Variables,
    abstract,
    flat,
    init,
    init_lora,
    logical_axes,
    nested,
    stack_layers,
    unstack_layers,
)
from promot_jax.models.lora import Lora
from promot_jax.models.loss import cross_entropy, loss
from promot_jax.models.model import Batch, Model
from promot_jax.models.objective import KL, Objective
from promot_jax.models.prompts import (
    Prompt,
    check_init,
    class_labels,
    from_file,
    from_text,
    init_prompts,
    prompt_ids,
    random_uniform,
    sampled_vocabulary,
)
from promot_jax.models.scoring import score
from promot_jax.models.t5 import T5
from promot_jax.models.token_weights import DFT, EAFT, FLOW, STM, TALR, Token, TokenWeight

__all__ = [
    "DFT",
    "EAFT",
    "FLOW",
    "KL",
    "STM",
    "T5",
    "TALR",
    "Batch",
    "Config",
    "Decoder",
    "DecoderConfig",
    "Decoding",
    "Lora",
    "Model",
    "Objective",
    "Prompt",
    "RopeScaling",
    "T5Config",
    "Token",
    "TokenWeight",
    "Variables",
    "abstract",
    "build",
    "check_init",
    "class_labels",
    "config_from_json",
    "config_to_json",
    "cross_entropy",
    "flat",
    "from_file",
    "from_text",
    "generate",
    "generate_all",
    "init",
    "init_lora",
    "init_prompts",
    "logical_axes",
    "loss",
    "nested",
    "prompt_ids",
    "random_uniform",
    "sampled_vocabulary",
    "score",
    "stack_layers",
    "unstack_layers",
]

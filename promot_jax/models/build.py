"""The module of a configuration."""

from collections.abc import Sequence

from promot_jax.models.config import Config, DecoderConfig, T5Config
from promot_jax.models.decoder import Decoder
from promot_jax.models.model import Model
from promot_jax.models.t5 import T5

MODULES = {T5Config.kind: T5, DecoderConfig.kind: Decoder}


def build(config: Config, prompts: Sequence[tuple[str, int]] = ()) -> Model:
    """The model of a configuration, with soft prompts (name, length)."""
    return MODULES[config.kind](config, tuple(prompts))

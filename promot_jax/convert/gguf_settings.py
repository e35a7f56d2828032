"""Settings of a GGUF file as our configuration, by way of config.json's names.

An architecture of llama.cpp is a class of Transformers, so its settings become what config.json
would say, and `decoders` reads that. What no file says is the architecture's own: Gemma's windows
lie as published, its attention is scaled by 1/sqrt(256) but in the 27B, where it is by the width
over the heads. Llama 3.1 and later have their rope's scaling as a tensor of factors.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from promot_jax.convert import decoders
from promot_jax.errors import UserError, near
from promot_jax.models.config import DecoderConfig, RopeScaling

# Architecture -> Transformers' model_type.
MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
GEMMA = ("gemma2", "gemma3")
LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
# Settings that we lack, and the values at which they are off.
OFF = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "use_parallel_residual": (False,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
}
# llama3's factors are recovered with those that all published models have.
LOW, HIGH, CONTEXT = 1.0, 4.0, 8192


class _Settings:
    """The settings of a file's architecture, and messages that name them."""

    def __init__(self, told: Mapping[str, Any], where: str):
        self.told, self.where = told, where
        self.kind = told.get("general.architecture")

    def __contains__(self, name: str) -> bool:
        return f"{self.kind}.{name}" in self.told

    def refuse(self, name: str, why: str) -> UserError:
        value = self.told.get(f"{self.kind}.{name}")
        return UserError(f"{self.where!r} has {self.kind}.{name} = {value!r:.80}: {why}")

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number above 0; some files give it for each layer, and we have one for all."""
        value = self.told.get(f"{self.kind}.{name}", default)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if value is None:
            raise UserError(f"{self.where!r} lacks {self.kind}.{name}: convert the model again")
        if type(value) is not int or value < 1:
            raise self.refuse(name, "only one positive whole number for all layers is known here")
        return value

    def number(self, name: str) -> float | None:
        """A positive number, as its shortest decimal fraction; None where there is none."""
        value = self.told.get(f"{self.kind}.{name}")
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise self.refuse(name, "it must be a positive number")
        return float(str(np.float32(value)))


def check_kind(told: Mapping[str, Any], where: str) -> None:
    """Raises UserError for what is no whole model of an architecture that we have."""
    kind = told.get("general.architecture")
    if told.get("general.type", "model") != "model":
        raise UserError(f"{where!r} holds a {told['general.type']!r:.40}, no model: give the model")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise UserError(
            f"{where!r} has the architecture {kind!r:.80}{near(str(kind), MODEL_TYPES)}: only"
            f" {', '.join(MODEL_TYPES)} can be imported from GGUF"
        )
    if (parts := told.get("split.count", 1)) not in (0, 1):
        raise UserError(
            f"{where!r} is one of {parts} parts: join them first (llama.cpp's llama-gguf-split"
            " --merge does)"
        )


def settings(
    told: Mapping[str, Any], rows: int, tied: bool, factors: np.ndarray | None, where: str
) -> DecoderConfig:
    """A file's settings as ours.

    Args:
      told: what the file says, of an architecture that `check_kind` passes.
      rows: of the embedding table.
      tied: whether the head is the embedding.
      factors: what the frequencies of the rope are divided by, [head_dim / 2]; None: by nothing.
      where: for messages.

    Raises:
      UserError: a setting is absent, or one that we lack.
    """
    read = _Settings(told, where)
    _check_off(read)
    values: dict[str, Any] = {ours: read.size(theirs) for ours, theirs in SIZES.items()}
    heads = values["num_attention_heads"]
    width = read.size("rope.dimension_count", max(1, values["hidden_size"] // heads))
    width = read.size("attention.key_length", width)
    for name in ("attention.value_length", "rope.dimension_count"):
        if read.size(name, width) != width:
            raise read.refuse(name, f"only the width of a head, {width}, is known here")
    eps = read.number("attention.layer_norm_rms_epsilon")
    if eps is None:
        raise UserError(f"{where!r} lacks {read.kind}.attention.layer_norm_rms_epsilon")
    values |= {
        "model_type": MODEL_TYPES[read.kind],
        "vocab_size": rows,
        "head_dim": width,
        "num_key_value_heads": read.size("attention.head_count_kv", heads),
        "rms_norm_eps": eps,
        "tie_word_embeddings": tied,
        "rope_theta": read.number("rope.freq_base"),
        "rope_scaling": _scaling(read, factors, width),
    }
    values |= _gemma(read, values) if read.kind in GEMMA else {}
    try:
        return decoders.settings(values, where)
    except UserError as error:  # there is none here
        raise UserError(str(error).replace("config.json", "its header")) from error


def _check_off(read: _Settings) -> None:
    for name, off in OFF.items():
        if name in read and read.told[f"{read.kind}.{name}"] not in off:
            raise read.refuse(name, f"we lack this setting (off: {off[0]})")
    window = "attention.sliding_window"
    if (
        read.kind not in GEMMA
        and window in read
        and read.size(window) < read.size("context_length")
    ):
        raise read.refuse(window, "we lack windows in this architecture")


def _gemma(read: _Settings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Windows, scale and soft caps. What is None here is as published."""
    count, pattern = values["num_hidden_layers"], "attention.sliding_window_pattern"
    found: dict[str, Any] = {
        "sliding_window": read.size("attention.sliding_window", 4096),
        "rope_local_base_freq": read.number("rope.freq_base_swa"),
    }
    if isinstance(local := read.told.get(f"{read.kind}.{pattern}"), list):
        types = ["sliding_attention" if x else "full_attention" for x in local]
        found["layer_types"] = types
    elif pattern in read:
        found["sliding_window_pattern"] = read.size(pattern)
    if count == LAYERS_OF_27B[read.kind]:
        scalar = values["hidden_size"] / values["num_attention_heads"]
        found["query_pre_attn_scalar"] = scalar
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (cap := read.number(name)) is not None:
            found[name] = cap
    return found


def _scaling(read: _Settings, factors: np.ndarray | None, width: int) -> dict[str, Any] | None:
    """The rope's scaling as config.json has it."""
    kind = read.told.get(f"{read.kind}.rope.scaling.type", "none")
    factor = read.number("rope.scaling.factor") or read.number("rope.scale_linear")
    if kind not in ("none", "linear"):
        raise read.refuse("rope.scaling.type", "only none and linear are known here")
    if factors is not None:
        if kind == "linear":
            raise read.refuse("rope.scaling.type", "it has rope_freqs.weight, too: convert again")
        theta = read.number("rope.freq_base") or 10000.0
        if factors.shape != (width // 2,):
            raise UserError(
                f"{read.where!r}: rope_freqs.weight is {factors.shape} instead of {(width // 2,)}"
            )
        return _llama3(factors.astype(np.float64), theta, read.where)
    if factor is None or factor == 1 or (kind == "none" and "rope.scaling.type" in read):
        return None
    return {"rope_type": "linear", "factor": factor}


def _llama3(factors: np.ndarray, theta: float, where: str) -> dict[str, Any] | None:
    """The scaling of Llama 3.1 that divides frequencies so.

    Args:
      factors: what each frequency is divided by, [head_dim / 2].
      theta: the base of the rope.
      where: for messages.

    Raises:
      UserError: there is none.
    """
    factor = float(factors.max())
    if (factors == 1).all():
        return None
    wavelengths = 2 * math.pi * theta ** (np.arange(len(factors)) / len(factors))
    for context in (CONTEXT, _context(factors, factor, wavelengths)):
        share = np.clip((context / wavelengths - LOW) / (HIGH - LOW), 0, 1)
        if np.allclose(1 / ((1 - share) / factor + share), factors, rtol=1e-4):
            scaling = RopeScaling("llama3", factor, LOW, HIGH, context)
            return {name: getattr(scaling, name) for name in RopeScaling.__dataclass_fields__}
    raise UserError(
        f"{where!r}: rope_freqs.weight ({', '.join(f'{x:.4g}' for x in factors[:4])}, ...) is no"
        f" scaling of Llama 3's (low_freq_factor {LOW:g}, high_freq_factor {HIGH:g}): import the"
        " model from its original files"
    )


def _context(factors: np.ndarray, factor: float, wavelengths: np.ndarray) -> int:
    """The original context that follows from the frequencies that are blended, or lie between."""
    blended = (factors > 1.0001) & (factors < factor * 0.9999)
    if blended.any():
        share = (1 / factors[blended] - 1 / factor) / (1 - 1 / factor)
        return max(1, round(np.median(wavelengths[blended] * (LOW + share * (HIGH - LOW)))))
    below = wavelengths[factors < factor].max(initial=1 / HIGH)
    above = wavelengths[factors >= factor].min()
    return max(1, round(math.sqrt(HIGH * below * above)))

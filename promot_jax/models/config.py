"""The sizes and switches of the models: a class for each kind, a setting for each family.

T5 (encoder-decoder): T5 1.0 has one ReLU projection and a tied head; T5 1.1 and mT5 a gated GELU
and a head of their own; umT5 gives every layer its own relative position table.

Decoders: Llama and SmolLM as the defaults are; Qwen 2.5 has biases at q, k and v, Qwen 3 a norm on
q and k; SmolLM3 has layers without rope; OLMo 2 norms behind the sublayers alone; Gemma norms on
both sides, embeddings scaled by sqrt(emb_dim), and windows.

Names of the fields are T5X's, or Hugging Face's where T5X has none.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from promot_jax.errors import UserError, check_range, check_types
from promot_jax.models.lora import Lora

# Of what nobody has: they keep a slip of the pen from being traced or allocated.
LAYERS, SIZE = 1000, 2**24
ACTIVATIONS = ("relu", "gelu", "silu", "linear")
LAYER_TYPES = ("global", "local", "no_rope")
ROPE_TYPES = ("linear", "llama3")
ATTENTIONS = ("auto", "xla", "cudnn", "splash")
POSITIVE = (
    "rms_norm_eps", "rope_theta", "local_rope_theta", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Architecture of an encoder-decoder T5.

    Attributes:
      vocab_size: rows of the embedding table, padding rows included (32128 for T5, 250112 for mT5).
        Token ids from here on are soft prompts.
      emb_dim: width of the residual stream (Hugging Face: d_model).
      num_heads: attention heads.
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      head_dim: width of a head (Hugging Face: d_kv); not always emb_dim / num_heads.
      mlp_dim: inner width of the MLP (Hugging Face: d_ff).
      mlp_activations: one activation, or two for a gated MLP.
      dropout_rate: share dropped while training; a mask is shared along the length, as in T5X.
      logits_via_embedding: tie the head to the embedding (T5 1.0).
      scale_decoder_outputs: scale by 1/sqrt(emb_dim) in front of the head; None: where it is tied,
        as all published models have it.
      relative_attention_num_buckets: buckets of relative distance.
      relative_attention_max_distance: distances from here on share the last bucket.
      relpos_per_layer: a table per layer (umT5) in the place of one per stack.
      dtype: of activations; softmax, norms and loss are float32 always. float16 overflows in T5.
      param_dtype: of parameters; soft prompts are float32 always.
      scan_layers: one traced layer, scanned; compiles faster, computes the same.
      remat: recompute activations in the backward pass; less memory, the same result.
      attention: "auto", or the implementation to take (see `attention.py`).
      lora: what is added to kernels (see `lora.py`), where the variables have it; None: nothing.

    Raises:
      UserError: a field has a value no T5 can have.
    """

    kind: ClassVar[str] = "encoder_decoder"
    context: ClassVar[None] = None  # relative positions reach everywhere
    window: ClassVar[None] = None
    prompt_learning_rate: ClassVar[float] = 0.2  # the paper's

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    scale_decoder_outputs: bool | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    relpos_per_layer: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention: str = "auto"
    lora: Lora | None = None

    def __post_init__(self):
        if isinstance(self.lora, dict):  # of a JSON file
            object.__setattr__(self, "lora", Lora(**self.lora))
        if isinstance(self.mlp_activations, list):  # of a JSON or gin file
            object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_types(self)
        if self.scale_decoder_outputs is None:
            object.__setattr__(self, "scale_decoder_outputs", self.logits_via_embedding)
        check_sizes(self)
        buckets = self.relative_attention_num_buckets
        distance = self.relative_attention_max_distance
        if buckets < 4 or distance <= buckets // 2:
            raise UserError(
                f"T5Config.relative_attention_num_buckets = {buckets} with"
                f" relative_attention_max_distance = {distance}: set at least 4 buckets, and a"
                " distance of more than half as many"
            )
        if not 1 <= len(self.mlp_activations) <= 2 or set(self.mlp_activations) - set(ACTIVATIONS):
            raise UserError(
                f"T5Config.mlp_activations = {self.mlp_activations}:"
                f" set one or two of {ACTIVATIONS}"
            )
        if not 0 <= self.dropout_rate < 1:
            raise UserError(f"T5Config.dropout_rate = {self.dropout_rate}: set a share in [0, 1)")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts (Hugging Face: rope_scaling).

    Attributes:
      rope_type: "linear" divides all frequencies by `factor`; "llama3" divides those whose
        wavelength is above original / low_freq_factor, leaves those below original /
        high_freq_factor, and blends between.
      factor: what frequencies are divided by.
      low_freq_factor: of llama3.
      high_freq_factor: of llama3.
      original_max_position_embeddings: the context that the model was first trained on, of llama3.
    """

    rope_type: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RopeScaling":
        """A scaling from a JSON or gin file; raises UserError for fields that it has not."""
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        needed = {name for name, default in known.items() if default is dataclasses.MISSING}
        if not needed <= set(values) <= set(known):
            raise UserError(
                f"DecoderConfig.rope_scaling = {dict(values)!r:.200}: set {', '.join(known)}, of"
                f" which {' and '.join(sorted(needed))} are needed"
            )
        return cls(**values)

    def __post_init__(self):
        check_types(self)
        if self.rope_type not in ROPE_TYPES:
            raise UserError(f"RopeScaling.rope_type = {self.rope_type!r}: set one of {ROPE_TYPES}")
        if not self.factor >= 1:
            raise UserError(f"RopeScaling.factor = {self.factor}: set at least 1")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise UserError(
                f"RopeScaling.low_freq_factor = {self.low_freq_factor} with high_freq_factor ="
                f" {self.high_freq_factor}: set the lower one first, both above 0"
            )


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Architecture of a decoder-only transformer: RMS norms, rope, gated MLP, grouped heads.

    Attributes:
      vocab_size: rows of the embedding table, padding rows included. Token ids from here on are
        soft prompts.
      emb_dim: width of the residual stream (Hugging Face: hidden_size).
      num_heads: query heads.
      num_kv_heads: key and value heads, each shared by num_heads / num_kv_heads query heads.
      num_layers: layers.
      head_dim: width of a head; not always emb_dim / num_heads.
      mlp_dim: inner width of the MLP (Hugging Face: intermediate_size).
      max_position_embeddings: the context: most tokens of a row, prompt and output included.
      mlp_activation: of the MLP's gate, "silu" or "gelu" (its tanh approximation).
      rms_norm_eps: added to the mean square.
      norm_offset: norms multiply by 1 + scale, which starts at 0 (Gemma).
      norm_placement: norms "before" each sublayer, "after" it, or on "both" sides.
      qk_norm: a norm on queries and keys: None, over each "head", or over their whole "width".
      qkv_bias: biases at the query, key and value projections.
      rope_theta: base of the rotary frequencies.
      rope_scaling: of the layers that see everything; None: none.
      local_rope_theta: base in local layers, which are never scaled; None: `rope_theta`.
      layer_types: kinds of the layers, "global", "local" (sees `sliding_window` tokens) or
        "no_rope" (global, without positions); repeated until every layer has one.
      sliding_window: tokens that a local layer sees, itself included; None: no layer is local.
      query_pre_attn_scalar: attention logits are divided by its square root; None: `head_dim`.
      attn_logit_softcapping: c of c * tanh(logits / c) at attention logits; None: none.
      final_logit_softcapping: the same at the output.
      scale_embeddings: multiply rows of the table by sqrt(emb_dim), rounded to `dtype` (Gemma).
        Soft prompts are not: they lie where PEFT keeps them.
      logits_via_embedding: tie the head to the embedding.
      dtype: of activations; softmax, norms and loss are float32 always.
      param_dtype: of parameters; soft prompts are float32 always.
      scan_layers: one traced layer, scanned; compiles faster, computes the same.
      remat: recompute activations in the backward pass; less memory, the same result.
      attention: "auto", or the implementation to take (see `attention.py`).
      lora: what is added to kernels (see `lora.py`), where the variables have it; None: nothing.

    Raises:
      UserError: a field has a value that no decoder can have.
    """

    kind: ClassVar[str] = "decoder_only"

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    head_dim: int
    mlp_dim: int
    max_position_embeddings: int
    mlp_activation: str = "silu"
    rms_norm_eps: float = 1e-6
    norm_offset: bool = False
    norm_placement: str = "before"
    qk_norm: str | None = None
    qkv_bias: bool = False
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    local_rope_theta: float | None = None
    layer_types: tuple[str, ...] = ("global",)
    sliding_window: int | None = None
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    scale_embeddings: bool = False
    logits_via_embedding: bool = True
    dtype: str = "float32"
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention: str = "auto"
    lora: Lora | None = None

    def __post_init__(self):
        if isinstance(self.lora, dict):  # of a JSON file
            object.__setattr__(self, "lora", Lora(**self.lora))
        if isinstance(self.layer_types, list):  # of a JSON or gin file
            object.__setattr__(self, "layer_types", tuple(self.layer_types))
        if isinstance(self.rope_scaling, dict):
            object.__setattr__(self, "rope_scaling", RopeScaling.from_json(self.rope_scaling))
        check_types(self)
        check_sizes(self)
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"DecoderConfig.num_heads = {self.num_heads} is no multiple of num_kv_heads ="
                f" {self.num_kv_heads}: as many query heads share each of them"
            )
        if self.head_dim % 2:
            raise UserError(f"DecoderConfig.head_dim = {self.head_dim}: rope needs an even number")
        choices = {
            "mlp_activation": ("silu", "gelu"),
            "norm_placement": ("before", "after", "both"),
            "qk_norm": (None, "head", "width"),
        }
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise UserError(f"DecoderConfig.{name} = {value!r}: set one of {known}")
        if not self.layer_types or set(self.layer_types) - set(LAYER_TYPES):
            raise UserError(
                f"DecoderConfig.layer_types = {self.layer_types}: name some of {LAYER_TYPES}"
            )
        if "local" in self.layer_types and self.sliding_window is None:
            raise UserError(
                "DecoderConfig.layer_types has local layers: set sliding_window, what they see"
            )
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UserError(f"DecoderConfig.{name} = {value}: set a positive number")

    @property
    def context(self) -> int:
        """Most tokens of a row."""
        return self.max_position_embeddings

    @property
    def window(self) -> int | None:
        """What a local layer sees; None: all layers see everything."""
        return self.sliding_window if "local" in self.layer_types else None

    @property
    def prompt_learning_rate(self) -> float:
        """A rate at which soft prompts learn: about 0.08 of what rows of the table measure.

        Found on SmolLM2-135M, whose rows measure 0.14. Gemma's measure 1 when they are scaled.
        """
        return 0.08 if self.scale_embeddings else 0.01

    def layer_type(self, layer: int) -> str:
        """What kind of layer it is, from 0."""
        return self.layer_types[layer % len(self.layer_types)]


Config = T5Config | DecoderConfig


def check_sizes(config: Config) -> None:
    """Raises UserError for whole numbers below 1 or of no machine, and for unknown dtypes."""
    kind = type(config).__name__
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None or isinstance(value, bool) or not isinstance(value, int):
            continue
        if field.type not in (int, int | None):
            continue
        if value < 1:
            raise UserError(f"{kind}.{field.name} = {value!r}: set a positive whole number")
        check_range(f"{kind}.{field.name}", value, 1, LAYERS if "layers" in field.name else SIZE)
    if config.attention not in ATTENTIONS:
        raise UserError(f"{kind}.attention = {config.attention!r}: set one of {ATTENTIONS}")
    for name in ("dtype", "param_dtype"):
        value = getattr(config, name)
        if value not in ("float32", "bfloat16"):
            raise UserError(
                f"{kind}.{name} = {value!r}: set 'float32' or 'bfloat16' (models of these families"
                " overflow float16)"
            )


def config_from_json(values: Mapping[str, Any]) -> Config:
    """The configuration that `config_to_json` wrote.

    Raises:
      UserError: no such kind, or a value that it cannot have.
    """
    values = dict(values)
    kind = values.pop("kind", T5Config.kind)
    if kind not in KINDS:
        raise UserError(f"the kind of model {kind!r} is none of {', '.join(KINDS)}")
    return KINDS[kind](**values)


def config_to_json(config: Config) -> dict[str, Any]:
    """A configuration as JSON, with its kind."""
    return {"kind": config.kind} | dataclasses.asdict(config)


KINDS = {config.kind: config for config in (T5Config, DecoderConfig)}

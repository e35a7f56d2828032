"""The sizes and switches of a T5; every published family is a setting of this one class.

T5 1.0 has one ReLU projection and a tied head; T5 1.1 and mT5 a gated GELU and a head of their own;
umT5 gives every layer its own relative position table. Names of the fields are T5X's.
"""

import dataclasses

from promot_jax.errors import UserError, check_range, check_types

# Of what nobody has: they keep a slip of the pen from being traced or allocated.
LAYERS, SIZE = 1000, 2**24
ACTIVATIONS = ("relu", "gelu", "silu", "linear")


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

    Raises:
      UserError: a field has a value no T5 can have.
    """

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

    def __post_init__(self):
        if isinstance(self.mlp_activations, list):  # of a JSON or gin file
            object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_types(self)
        if self.scale_decoder_outputs is None:
            object.__setattr__(self, "scale_decoder_outputs", self.logits_via_embedding)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise UserError(f"T5Config.{field.name} = {value!r}: set a positive whole number")
            if field.type is int:
                most = LAYERS if field.name.endswith("layers") else SIZE
                check_range(f"T5Config.{field.name}", value, 1, most)
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
        for name in ("dtype", "param_dtype"):
            value = getattr(self, name)
            if value not in ("float32", "bfloat16"):
                raise UserError(
                    f"T5Config.{name} = {value!r}:"
                    " set 'float32' or 'bfloat16' (T5 overflows float16)"
                )

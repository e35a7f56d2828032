"""T5: an encoder, a decoder, and one embedding lookup that knows soft prompts.

The lookup is the whole of the prompt machinery: ids from `vocab_size` on read rows of the `prompt`
collection in the place of the embedding table (see `prompts.py`). Nothing else in the model knows
of prompts, so one batch may mix rows with different prompts and rows with none, packed or not.

Parameter paths are those of T5X's minimal models; with `scan_layers` the layers of a stack lie in
`layers`, stacked along a first axis (`stack_layers` converts).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from promot_jax.models.config import T5Config
from promot_jax.models.layers import (
    MLP,
    Embedder,
    Head,
    RMSNorm,
    Stack,
    dropout,
    embed,
    fold,
    logits_of,
    prompt_tables,
    same_segment,
)
from promot_jax.models.model import Batch, Cache
from promot_jax.models.placing import HIDDEN, constrain
from promot_jax.models.t5_layers import Attention, RelativeBias, relative_buckets


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each behind a norm and added to the residual stream."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        layer: Int[Array, ""] | int,
        bias: Float[Array, "1 heads length length"] | None,
        buckets: Int[Array, "length length"],
        mask: Bool[Array, "batch 1 length length"],
        dropout_key: PRNGKeyArray | None,
    ):
        config, key = self.config, fold(dropout_key, layer)
        if config.relpos_per_layer:
            bias = RelativeBias(config, name="relpos_bias")(buckets)
        attention = Attention(config, name="attention")
        h = RMSNorm(config, name="pre_attention_layer_norm")(x)
        h = attention(h, attention.keys_values(h), bias, mask, fold(key, 0))
        x = constrain(self, x + dropout(h, config.dropout_rate, key, 2), HIDDEN)
        h = RMSNorm(config, name="pre_mlp_layer_norm")(x)
        h = MLP(config, config.mlp_activations, config.dropout_rate, name="mlp")(h, fold(key, 1))
        return constrain(self, x + dropout(h, config.dropout_rate, key, 3), HIDDEN), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention on the encoder's output, and MLP."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        layer: Int[Array, ""] | int,
        cache: tuple | None,
        cross: tuple | None,
        index: Int[Array, ""] | int,
        bias: Float[Array, "1 heads length keys"] | None,
        buckets: Int[Array, "length keys"],
        mask: Bool[Array, "#batch 1 length keys"],
        cross_mask: Bool[Array, "batch 1 #length inputs"],
        encoded: Float[Array, "batch inputs embed"] | None,
        dropout_key: PRNGKeyArray | None,
    ):
        """While decoding, `cache` holds keys and values up to `index`, `cross` those of `encoded`.

        With a cache, but no `cross` yet, all that is done is to make it.
        """
        config, key = self.config, fold(dropout_key, layer)
        crossing = Attention(config, name="encoder_decoder_attention")
        if cache is not None and cross is None:
            return x, (cache, crossing.keys_values(encoded))
        if config.relpos_per_layer:
            bias = RelativeBias(config, name="relpos_bias")(buckets)
        attention = Attention(config, name="self_attention")
        h = RMSNorm(config, name="pre_self_attention_layer_norm")(x)
        kv = attention.keys_values(h)
        if cache is not None:
            write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=2)  # noqa: E731
            kv = cache = jax.tree.map(write, cache, kv)
        x = x + dropout(attention(h, kv, bias, mask, fold(key, 0)), config.dropout_rate, key, 2)
        h = RMSNorm(config, name="pre_cross_attention_layer_norm")(x)
        cross = crossing.keys_values(encoded) if cross is None else cross
        # The beams of an input lie one behind the other, and read one copy of it.
        h = h.reshape(len(cross["key"]), -1, h.shape[-1])
        h = crossing(h, cross, None, cross_mask, fold(key, 1)).reshape(x.shape)
        x = constrain(self, x + dropout(h, config.dropout_rate, key, 3), HIDDEN)
        h = RMSNorm(config, name="pre_mlp_layer_norm")(x)
        h = MLP(config, config.mlp_activations, config.dropout_rate, name="mlp")(h, fold(key, 2))
        return constrain(self, x + dropout(h, config.dropout_rate, key, 4), HIDDEN), (
            None if cache is None else (cache, cross)
        )


class Encoder(nn.Module):
    """Bidirectional layers over the embedded input."""

    config: T5Config

    def setup(self):
        config = self.config
        if not config.relpos_per_layer:
            self.relpos_bias = RelativeBias(config)
        self.stack = Stack(config, EncoderLayer, config.num_encoder_layers)
        nn.share_scope(self, self.stack)
        self.encoder_norm = RMSNorm(config)

    def __call__(self, x, mask, dropout_key):
        rate = self.config.dropout_rate
        positions = jnp.arange(x.shape[1])
        buckets = relative_buckets(positions, positions, True, self.config)
        bias = None if self.config.relpos_per_layer else self.relpos_bias(buckets)
        x = dropout(x, rate, dropout_key, 0)
        x, _ = self.stack(x, (), (bias, buckets, mask, fold(dropout_key, 1)))
        return dropout(self.encoder_norm(x), rate, dropout_key, 2)


class Decoder(nn.Module):
    """Causal layers that read the encoder's output; the head lies here too, as in T5X."""

    config: T5Config

    def setup(self):
        config = self.config
        if not config.relpos_per_layer:
            self.relpos_bias = RelativeBias(config)
        self.stack = Stack(config, DecoderLayer, config.num_decoder_layers)
        nn.share_scope(self, self.stack)
        self.decoder_norm = RMSNorm(config)
        if not config.logits_via_embedding:
            self.logits_dense = Head(config)

    def __call__(self, x, encoded, mask, cross_mask, dropout_key, caches=(None, None), index=None):
        """`caches` and `index`: one token, at `index`, with its predecessors' keys and values."""
        rate = self.config.dropout_rate
        keys = jnp.arange(mask.shape[-1])
        queries = keys if index is None else jnp.full((1,), index)
        buckets = relative_buckets(queries, keys, False, self.config)
        bias = None if self.config.relpos_per_layer else self.relpos_bias(buckets)
        x = dropout(x, rate, dropout_key, 0)
        shared = (index, bias, buckets, mask, cross_mask, encoded, fold(dropout_key, 1))
        x, caches = self.stack(x, caches, shared)
        return dropout(self.decoder_norm(x), rate, dropout_key, 2), caches

    def head(self) -> Float[Array, "embed vocab"]:
        """The output matrix of models that have one of their own."""
        return self.logits_dense()


class T5(nn.Module):
    """The encoder-decoder.

    Attributes:
      config: sizes and switches.
      prompts: (name, length) of every soft prompt, in the order of their ids.
    """

    config: T5Config
    prompts: tuple[tuple[str, int], ...] = ()
    soft_cap = None
    embedding_scale = 1.0

    def setup(self):
        config = self.config
        self.token_embedder = Embedder(config, nn.initializers.normal(1.0))
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.prompt_table = prompt_tables(self, self.prompts)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        """Looks ids up in the embedding table, from `vocab_size` on in the prompts."""
        return embed(self, ids, self.token_embedder(), self.prompt_table)

    def encode(
        self,
        tokens: Int[Array, "batch inputs"],
        segments: Int[Array, "batch inputs"],
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch inputs embed"]:
        """The encoder's output; `segments` (0 = padding) keeps packed examples apart."""
        return self.encoder(
            self.embed(tokens), same_segment(segments, segments), fold(dropout_key, 0)
        )

    def hidden(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch targets embed"]:
        """The decoder's output for a batch as `data` makes it; the head turns it into logits."""
        sources, targets = batch["encoder_segment_ids"], batch["decoder_input_tokens"]
        encoded = self.encode(batch["encoder_input_tokens"], sources, dropout_key)
        causal = jnp.tril(jnp.ones((targets.shape[1],) * 2, bool))[None, None]
        if "decoder_segment_ids" in batch:
            segments = batch["decoder_segment_ids"]
            mask = causal & same_segment(segments, segments)
        else:  # padding comes last, where the causal mask hides it from every real token
            segments, mask = jnp.ones_like(targets), causal
        cross_mask = same_segment(segments, sources)
        x, _ = self.decoder(self.embed(targets), encoded, mask, cross_mask, fold(dropout_key, 1))
        return x

    def prefill(
        self,
        inputs: Int[Array, "batch inputs"],
        segments: Int[Array, "batch inputs"],
        length: int,
    ) -> tuple[None, Cache, Cache]:
        """See `Model`; what is kept are the segments, and keys and values of the encoder's output.

        The cache is as `Stack` has it, for `length` positions.
        """
        encoded = self.encode(inputs, segments)
        caches = (self._empty_cache(inputs.shape[0], length), None)
        _, (cache, cross) = self._decode(encoded[:, :1], encoded, segments, caches, 0)
        return None, cache, (cross, segments)

    def decode_step(
        self, token: Int[Array, " batch"], cache: Cache, kept: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "batch vocab"], Cache]:
        """See `Model`."""
        cross, segments = kept
        x, (cache, _) = self._decode(
            self.embed(token[:, None]), None, segments, (cache, cross), index
        )
        return self.logits(x)[:, 0], cache

    def _decode(self, x, encoded, segments, caches, index):
        """The decoder at position `index`, or, without a cross cache, what makes that."""
        length = jax.tree.leaves(caches[0])[0].shape[-2]
        mask = (jnp.arange(length) <= index)[None, None, None]
        cross_mask = (segments > 0)[:, None, None]
        return self.decoder(x, encoded, mask, cross_mask, None, caches, index)

    def _empty_cache(self, batch: int, length: int) -> Cache:
        config = self.config
        shape = (batch, config.num_heads, length, config.head_dim)
        if config.scan_layers:
            shape = (config.num_decoder_layers, *shape)
            return {name: jnp.zeros(shape, config.dtype) for name in ("key", "value")}
        layer = lambda: {name: jnp.zeros(shape, config.dtype) for name in ("key", "value")}  # noqa: E731
        return [layer() for _ in range(config.num_decoder_layers)]

    def head(self) -> Float[Array, "embed vocab"]:
        """The matrix from hidden to logits, scaled where the model scales."""
        tied = self.config.logits_via_embedding
        head = (self.token_embedder().T if tied else self.decoder.head()).astype(jnp.float32)
        return head / jnp.sqrt(self.config.emb_dim) if self.config.scale_decoder_outputs else head

    def logits(self, hidden: Float[Array, "... embed"]) -> Float[Array, "... vocab"]:
        """Logits in float32."""
        return logits_of(hidden, self.head())

    def __call__(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch targets vocab"]:
        """Logits for every target position."""
        return self.logits(self.hidden(batch, dropout_key))

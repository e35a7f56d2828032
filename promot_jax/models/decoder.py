"""A decoder-only transformer whose switches make it a Llama, Qwen, Gemma, OLMo or SmolLM.

A layer is attention and a gated MLP, each between norms and added to the residual stream:

    x += after(attention(before(x)));  x += after(mlp(before(x)))

where `norm_placement` says which of the two norms there are. Layers differ in kind: in what they
see (everything, or a window) and in their rope. All that depends on a kind, masks and tables of
angles, is computed once and picked by the layer's number, so that one traced layer serves all.

Soft prompts are token ids from `vocab_size` on, as in T5. In Gemma rows of the table are multiplied
by sqrt(emb_dim) as they are looked up, and prompts are not.

On a mesh, `tensor` cuts heads. Where it does not divide the key and value heads, keys and values
(and a cache of them) are whole on each of its devices, while the projections that make them stay
cut; the same holds for query heads.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.models import rope
from promot_jax.models.attention import attend, attend_kept
from promot_jax.models.config import DecoderConfig
from promot_jax.models.layers import (
    MLP,
    Dense,
    Embedder,
    Head,
    RMSNorm,
    Stack,
    embed,
    fan_in_normal,
    logits_of,
    prompt_tables,
    same_segment,
)
from promot_jax.models.model import Batch, Cache
from promot_jax.models.placing import HIDDEN, constrain, cut

KeysValues = dict[str, Float[Array, "batch kv_heads length head_dim"]]
Views = Any  # what depends on a layer's kind: one dict a kind, or, scanned, one of stacked arrays


def kinds(config: DecoderConfig) -> tuple[str, ...]:
    """The kinds of layers that a model has."""
    return tuple(sorted({config.layer_type(i) for i in range(config.num_layers)}))


def norm(config: DecoderConfig, name: str | None = None, axis: str = "embed") -> RMSNorm:
    """A norm as the model has it everywhere."""
    return RMSNorm(config, config.rms_norm_eps, config.norm_offset, axis, name=name)


class Attention(nn.Module):
    """Causal self-attention with grouped heads and rope."""

    config: DecoderConfig

    def setup(self):
        config = self.config
        dense = lambda count: Dense(  # noqa: E731
            config,
            count * config.head_dim,
            ("embed", "joined_kv"),
            fan_in_normal,
            config.qkv_bias,
        )
        self.query = dense(config.num_heads)
        self.key, self.value = dense(config.num_kv_heads), dense(config.num_kv_heads)
        self.out = Dense(config, config.emb_dim, ("joined_kv", "embed"), fan_in_normal)
        if config.qk_norm is not None:
            axis = "head_dim" if config.qk_norm == "head" else "joined_kv"
            self.q_norm, self.k_norm = norm(config, axis=axis), norm(config, axis=axis)
        scalar = config.query_pre_attn_scalar
        self.scale = (config.head_dim if scalar is None else scalar) ** -0.5

    def heads(self, x: Float[Array, "batch length joined"], norm: RMSNorm | None, name: str):
        """Splits the joined width; heads go before the length, where the products want them."""
        x = norm(x) if norm is not None and self.config.qk_norm == "width" else x
        count = x.shape[-1] // self.config.head_dim
        x = constrain(self, x, ("batch", "length", cut(name, count)))
        x = x.reshape(*x.shape[:-1], count, self.config.head_dim)
        x = norm(x) if norm is not None and self.config.qk_norm == "head" else x
        return constrain(self, x.transpose(0, 2, 1, 3), ("batch", name, "length", "head_dim"))

    def queries_keys_values(self, x: Float[Array, "batch length embed"], table: rope.Table):
        """Queries and keys, turned to their positions, and values."""
        normed = self.config.qk_norm is not None
        query = self.heads(self.query(x), self.q_norm if normed else None, "heads")
        key = self.heads(self.key(x), self.k_norm if normed else None, "kv_heads")
        value = self.heads(self.value(x), None, "kv_heads")
        return rope.rotate(query, table), {"key": rope.rotate(key, table), "value": value}

    def joined(self, x: Float[Array, "batch heads length head_dim"]):
        """The output projection of all heads."""
        x = x.transpose(0, 2, 1, 3).reshape(*x.shape[:1], x.shape[2], -1)
        return self.out(
            constrain(self, x, ("batch", "length", cut("heads", self.config.num_heads)))
        )

    def __call__(
        self, x: Float[Array, "batch length embed"], layer: int | Int[Array, ""], views: Views
    ) -> tuple[Float[Array, "batch length embed"], KeysValues]:
        """Every token sees itself and what comes before; also returns keys and values."""
        config, kind = self.config, kind_of(self.config, layer)
        view = pick(views, kind)
        query, kv = self.queries_keys_values(x, view["rope"])
        x = attend(
            query,
            **kv,
            scale=self.scale,
            mask=view["mask"],
            causal=True,
            windows=[config.sliding_window if k == "local" else None for k in kinds(config)],
            kind=kind,
            segments=view["segments"],
            soft_cap=config.attn_logit_softcapping,
            implementation=config.attention,
            remat=config.remat,
        )
        return self.joined(x), kv

    def step(self, x, layer, views: Views, cache: KeysValues, kept: KeysValues, slot):
        """One token, whose keys and values go into the cache at `slot`; returns the new cache."""
        view = pick(views, kind_of(self.config, layer))
        query, kv = self.queries_keys_values(x, view["rope"])
        write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis=2)  # noqa: E731
        cache = jax.tree.map(write, cache, kv)
        cap = self.config.attn_logit_softcapping
        x = attend_kept(query, kept, view["kept_mask"], cache, view["mask"], self.scale, cap)
        return self.joined(x), cache


def kind_of(config: DecoderConfig, layer: int | Int[Array, ""]) -> int | Int[Array, ""]:
    """The number of a layer's kind; a plain one where the layer's is, or where all are of one."""
    names = kinds(config)
    every = [names.index(config.layer_type(i)) for i in range(config.num_layers)]
    if isinstance(layer, int) or len(names) == 1:
        return every[layer if isinstance(layer, int) else 0]
    return jnp.asarray(every)[layer]


def pick(views: Views, kind: int | Int[Array, ""]) -> dict[str, Any]:
    """What one kind of layer sees."""
    if isinstance(views, (list, tuple)):
        return views[kind]
    return jax.tree.map(lambda x: x[kind], views)


class DecoderLayer(nn.Module):
    """Self-attention and MLP, between norms, each added to the residual stream."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        layer: Int[Array, ""] | int,
        cache: KeysValues | None,
        kept: KeysValues | None,
        views: Views,
        slot: Int[Array, ""] | None,
    ):
        """Returns x and, as a tuple, keys and values or, while decoding, the new cache."""
        config = self.config
        before = config.norm_placement in ("before", "both")
        after = config.norm_placement in ("after", "both")
        attention = Attention(config, name="self_attention")
        h = norm(config, "pre_self_attention_layer_norm")(x) if before else x
        if cache is None:
            h, new = attention(h, layer, views)
        else:
            h, new = attention.step(h, layer, views, cache, kept, slot)
        h = norm(config, "post_self_attention_layer_norm")(h) if after else h
        x = constrain(self, x + h, HIDDEN)
        h = norm(config, "pre_mlp_layer_norm")(x) if before else x
        h = MLP(config, (config.mlp_activation, "linear"), name="mlp")(h)
        h = norm(config, "post_mlp_layer_norm")(h) if after else h
        return constrain(self, x + h, HIDDEN), (new,)


class Layers(nn.Module):
    """All layers, the last norm, and the head where it is not tied."""

    config: DecoderConfig

    def setup(self):
        self.stack = Stack(self.config, DecoderLayer, self.config.num_layers)
        nn.share_scope(self, self.stack)
        self.decoder_norm = norm(self.config)
        if not self.config.logits_via_embedding:
            self.logits_dense = Head(self.config)

    def __call__(self, x, views, cache=None, kept=None, slot=None):
        """The residual stream, not yet normed, and keys and values of every layer."""
        if self.config.scan_layers and len(views) > 1:
            views = jax.tree.map(lambda *xs: jnp.stack(xs), *views)
        x, (new,) = self.stack(x, (cache, kept), (views, slot))
        return x, new

    def normed(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        """Behind the last norm."""
        return self.decoder_norm(x)

    def head(self) -> Float[Array, "embed vocab"]:
        """The output matrix of models that have one of their own."""
        return self.logits_dense()


class Decoder(nn.Module):
    """The decoder-only model.

    Attributes:
      config: sizes and switches.
      prompts: (name, length) of every soft prompt, in the order of their ids.
    """

    config: DecoderConfig
    prompts: tuple[tuple[str, int], ...] = ()

    @property
    def soft_cap(self) -> float | None:
        return self.config.final_logit_softcapping

    @property
    def embedding_scale(self) -> float:
        """In float32; in bfloat16 it is rounded, as Gemma does it."""
        return math.sqrt(self.config.emb_dim) if self.config.scale_embeddings else 1.0

    def setup(self):
        config = self.config
        std = config.emb_dim**-0.5  # of about 1 behind the scale, or in front of a tied head
        self.token_embedder = Embedder(config, nn.initializers.normal(std))
        self.decoder = Layers(config)
        self.prompt_table = prompt_tables(self, self.prompts)

    def embed(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        """Looks ids up in the embedding table, scaled, or, from `vocab_size` on, in the prompts."""
        return embed(self, ids, self.token_embedder(), self.prompt_table, self.embedding_scale)

    def ropes(self, positions: Int[Array, "batch length"]) -> list[rope.Table]:
        """The table of angles for each kind of layer."""
        config = self.config
        local = config.rope_theta if config.local_rope_theta is None else config.local_rope_theta
        inverse = {
            "global": rope.frequencies(config.head_dim, config.rope_theta, config.rope_scaling),
            "local": rope.frequencies(config.head_dim, local),
        }
        none = 0 * inverse["global"]  # nothing turns
        return [rope.table(positions, inverse.get(kind, none)) for kind in kinds(config)]

    def views(self, positions, segments) -> list[dict[str, Any]]:
        """Angles and masks for whole rows, for each kind of layer."""
        places = jnp.arange(positions.shape[1])
        distance = places[:, None] - places[None]
        mask = (distance >= 0)[None, None]
        if segments is not None:
            mask = mask & same_segment(segments, segments)
        window = self.config.sliding_window
        return [
            {
                "rope": table,
                "mask": mask & (distance < window) if kind == "local" else mask,
                "segments": segments,
            }
            for kind, table in zip(kinds(self.config), self.ropes(positions), strict=True)
        ]

    def hidden(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch targets embed"]:
        """What the head turns into logits, for the positions that predict a target.

        Decoders have no dropout; the key is there for the sake of the interface.
        """
        ids, segments = batch["decoder_input_tokens"], batch.get("decoder_segment_ids")
        positions = batch.get("decoder_positions", jnp.arange(ids.shape[1])[None])
        x, _ = self.decoder(self.embed(ids), self.views(positions, segments))
        x = jax.vmap(lambda row, places: row[places])(x, batch["decoder_target_positions"])
        return self.decoder.normed(constrain(self, x, HIDDEN))

    def prefill(
        self,
        inputs: Int[Array, "batch inputs"],
        segments: Int[Array, "batch inputs"],
        length: int,
    ) -> tuple[Float[Array, "batch vocab"], Cache, Cache]:
        """Reads inputs, padded on the right (segment 0), for outputs of up to `length` tokens."""
        positions = jnp.arange(inputs.shape[1])[None]
        x, layers = self.decoder(self.embed(inputs), self.views(positions, None))
        lengths = jnp.sum(segments > 0, axis=1)
        last = jax.vmap(lambda row, n: row[n - 1])(x, lengths)
        wider = lambda x: jnp.zeros((*x.shape[:-2], length, x.shape[-1]), x.dtype)  # noqa: E731
        cache = jax.tree.map(wider, layers)
        return self.logits(self.decoder.normed(last)), cache, {"layers": layers, "lengths": lengths}

    def decode_step(
        self, token: Int[Array, " rows"], cache: Cache, kept: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "rows vocab"], Cache]:
        """Logits of output token number `index`, behind `token`; and the new cache.

        Rows are those of the inputs, or several beams of each, one behind the other.
        """
        lengths, slot = kept["lengths"], index - 1
        key = jax.tree.leaves(kept["layers"])[0]
        places, slots = jnp.arange(key.shape[-2]), jnp.arange(jax.tree.leaves(cache)[0].shape[-2])
        kept_mask, mask = places < lengths[:, None], slots <= slot
        here = lengths + slot  # the position of `token`, in each row of the inputs
        window = self.config.sliding_window
        tables = self.ropes(jnp.repeat(here, token.shape[0] // lengths.shape[0])[:, None])
        views = []
        for kind, table in zip(kinds(self.config), tables, strict=True):
            view = {"rope": table, "kept_mask": kept_mask, "mask": mask}
            if kind == "local":
                view["kept_mask"] = kept_mask & (here[:, None] - places < window)
                view["mask"] = mask & (slot - slots < window)
            views.append(view)
        x = self.embed(token[:, None])
        x, cache = self.decoder(x, views, cache, kept["layers"], slot)
        return self.logits(self.decoder.normed(x[:, 0])), cache

    def head(self) -> Float[Array, "embed vocab"]:
        """The matrix from hidden to logits."""
        tied = self.config.logits_via_embedding
        head = self.token_embedder().T if tied else self.decoder.head()
        return head.astype(jnp.float32)

    def logits(self, hidden: Float[Array, "... embed"]) -> Float[Array, "... vocab"]:
        """Logits in float32, capped where the model caps them."""
        return logits_of(hidden, self.head(), self.soft_cap)

    def __call__(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch targets vocab"]:
        """Logits for every target position."""
        return self.logits(self.hidden(batch, dropout_key))

"""What T5 alone has: attention with learned biases for relative distances.

T5 differs from the textbook transformer in four points: RMS norm without bias or mean, no
1/sqrt(d) at the attention logits (folded into the query's initialiser), learned biases for bucketed
relative distances in the place of position embeddings, and no bias vector anywhere.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from promot_jax.models.attention import attend
from promot_jax.models.config import T5Config
from promot_jax.models.layers import Dense, dropout, fan_in_normal
from promot_jax.models.placing import constrain, cut

Cache = dict[str, Float[Array, "batch heads length head_dim"]]


def relative_buckets(
    query: Int[Array, " q"], key: Int[Array, " k"], bidirectional: bool, config: T5Config
) -> Int[Array, "q k"]:
    """Bucket of each (query, key) distance: exact when near, logarithmic when far (T5, 2.1)."""
    distance = key[None, :] - query[:, None]
    buckets = config.relative_attention_num_buckets
    offset = 0
    if bidirectional:
        buckets //= 2
        offset = jnp.where(distance > 0, buckets, 0)
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(-distance, 0)
    exact = buckets // 2
    far = jnp.log(distance.astype(jnp.float32) / exact + jnp.finfo(jnp.float32).eps)
    far = far / math.log(config.relative_attention_max_distance / exact) * (buckets - exact)
    far = jnp.minimum(exact + far.astype(jnp.int32), buckets - 1)
    return offset + jnp.where(distance < exact, distance, far)


class RelativeBias(nn.Module):
    """A learned attention bias for each bucket and head."""

    config: T5Config

    @nn.compact
    def __call__(self, buckets: Int[Array, "q k"]) -> Float[Array, "1 heads q k"]:
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        init = nn.with_logical_partitioning(init, ("heads", "relpos_buckets"))
        shape = (self.config.num_heads, self.config.relative_attention_num_buckets)
        table = self.param("rel_embedding", init, shape, self.config.param_dtype)
        return table[:, buckets][None].astype(jnp.float32)


class Attention(nn.Module):
    """Multi-head attention; keys and values come from `kv`, or ready-made from a cache."""

    config: T5Config

    def setup(self):
        config, width = self.config, self.config.num_heads * self.config.head_dim
        # The 1/sqrt(head_dim) that other models apply to the logits is folded in here.
        scaled = lambda *args: fan_in_normal(*args) / jnp.sqrt(config.head_dim).astype(args[-1])  # noqa: E731
        self.query = Dense(config, width, ("embed", "joined_kv"), scaled)
        self.key = Dense(config, width, ("embed", "joined_kv"), fan_in_normal)
        self.value = Dense(config, width, ("embed", "joined_kv"), fan_in_normal)
        self.out = Dense(config, config.emb_dim, ("joined_kv", "embed"), fan_in_normal)

    def heads(
        self, x: Float[Array, "batch length joined"]
    ) -> Float[Array, "batch heads length head_dim"]:
        """Splits the joined width; heads go before the length, where the products want them."""
        x = constrain(self, x, ("batch", "length", cut("heads", self.config.num_heads)))
        x = x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)
        x = x.transpose(0, 2, 1, 3)
        return constrain(self, x, ("batch", "heads", "length", "head_dim"))

    def keys_values(self, kv: Float[Array, "batch k embed"]) -> Cache:
        """What attention keeps of `kv`; computed once for the encoder's output while decoding."""
        return {"key": self.heads(self.key(kv)), "value": self.heads(self.value(kv))}

    def __call__(
        self,
        x: Float[Array, "batch q embed"],
        kv: Cache,
        bias: Float[Array, "1 heads q k"] | None,
        mask: Bool[Array, "batch 1 q k"] | None,
        dropout_key: PRNGKeyArray | None,
    ) -> Float[Array, "batch q embed"]:
        config, drop = self.config, None
        if dropout_key is not None and config.dropout_rate > 0:
            drop = lambda weights: dropout(weights, config.dropout_rate, dropout_key, 0)  # noqa: E731
        x = attend(
            self.heads(self.query(x)),
            kv["key"],
            kv["value"],
            mask=mask,
            bias=bias,
            drop=drop,
            implementation=config.attention,
            remat=config.remat,
        )
        x = x.transpose(0, 2, 1, 3).reshape(*x.shape[:1], x.shape[2], -1)
        return self.out(constrain(self, x, ("batch", "length", cut("heads", config.num_heads))))

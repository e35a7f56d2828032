"""The parts of a T5 layer: norm, dropout, attention, MLP, relative position bias.

T5 differs from the textbook transformer in four points, all of them here: RMS norm without bias or
mean, no 1/sqrt(d) at the attention logits (folded into the query's initialiser), learned biases for
bucketed relative distances in the place of position embeddings, and no bias vector anywhere.
Kernels are two-dimensional, [in, heads * head_dim], as T5X's minimal models keep them.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from promot_jax.models.config import T5Config

MASKED = -1e10  # finite, so that a row with every key masked stays a number
fan_in_normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
fan_in_truncated = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

Cache = dict[str, Float[Array, "batch heads length head_dim"]]


def dropout(
    x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None, site: int
) -> Float[Array, "..."]:
    """Inverted dropout whose mask is shared along axis -2 (the length), as in T5X.

    `key` is the layer's; `site` tells the places in the layer apart. None: nothing is dropped.
    Keys are explicit so that scanned and unrolled layers drop the same units.
    """
    if key is None or rate == 0.0:
        return x
    shape = x.shape[:-2] + (1, x.shape[-1])
    keep = jax.random.bernoulli(jax.random.fold_in(key, site), 1.0 - rate, shape)
    return x * jnp.where(keep, 1.0 / (1.0 - rate), 0.0).astype(x.dtype)


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


def constrain(
    module: nn.Module, x: Float[Array, "..."], axes: Sequence[str]
) -> Float[Array, "..."]:
    """Lays an activation out on the mesh, by the names of its axes and the rules in force.

    Flax drops a constraint in silence where no mesh is set, and XLA then chooses: every device may
    compute with the whole batch. So that is an error where there are several devices.

    Raises:
      RuntimeError: the model is traced outside of `training.use`, on several devices.
    """
    if module.is_initializing():  # one row, which no mesh divides
        return x
    if jax.sharding.get_abstract_mesh().empty and jax.device_count() > 1:
        raise RuntimeError(
            "the model is traced without a mesh, so its activations would not be sharded: trace it"
            " inside promot_jax.training.use(mesh)"
        )
    return nn.with_logical_constraint(x, tuple(axes))


@jax.custom_vjp
def matmul(x: Float[Array, "... in"], kernel: Float[Array, "in out"]) -> Float[Array, "... out"]:
    """x @ kernel, with a backward pass that XLA's CPU backend runs twice as fast.

    Left alone, it fuses the elementwise backward pass of what follows into the transposition of the
    weight gradient's operand, with strided loads. On other backends the gradient is the usual one.
    """
    return x @ kernel


def _matmul_backward(saved, gradient):
    x, kernel = saved
    if jax.default_backend() == "cpu":
        gradient = jax.lax.optimization_barrier(gradient)
    rows = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return gradient @ kernel.T, rows[0].T @ rows[1]


matmul.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _matmul_backward)


@jax.custom_vjp
def add_bias(
    logits: Float[Array, "batch heads q k"], bias: Float[Array, "1 heads q k"]
) -> Float[Array, "batch heads q k"]:
    """logits + bias; on CPU the bias's gradient is a product with ones.

    XLA's CPU backend sums over the leading axis ten times slower than it multiplies.
    """
    return logits + bias


def _add_bias_backward(_, gradient):
    if jax.default_backend() != "cpu":
        return gradient, jnp.sum(gradient, axis=0, keepdims=True)
    rows = gradient.reshape(gradient.shape[0], -1)
    total = jnp.ones((1, rows.shape[0]), rows.dtype) @ rows
    return gradient, total.reshape(1, *gradient.shape[1:])


add_bias.defvjp(lambda logits, bias: (logits + bias, None), _add_bias_backward)


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32, eps 1e-6."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        scale = self.param("scale", init, (x.shape[-1],), self.config.param_dtype)
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
        return (x * scale).astype(self.config.dtype)


class Dense(nn.Module):
    """A matrix, no bias."""

    config: T5Config
    features: int
    axes: tuple[str, str]
    init: nn.initializers.Initializer = fan_in_truncated

    @nn.compact
    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        init = nn.with_logical_partitioning(self.init, self.axes)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), self.config.param_dtype)
        return matmul(x, kernel.astype(self.config.dtype))


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
        query = self.heads(self.query(x))
        logits = jnp.einsum("bhqd,bhkd->bhqk", query, kv["key"]).astype(jnp.float32)
        if bias is not None:
            logits = add_bias(logits, bias)
        if mask is not None:
            logits = jnp.where(mask, logits, MASKED)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.config.dtype)
        weights = dropout(weights, self.config.dropout_rate, dropout_key, 0)
        x = jnp.einsum("bhqk,bhkd->bhqd", weights, kv["value"]).transpose(0, 2, 1, 3)
        return self.out(x.reshape(*x.shape[:2], -1))


class MLP(nn.Module):
    """One activated projection (T5 1.0), or the product of two (gated; T5 1.1), and back."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], dropout_key: PRNGKeyArray | None
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        single = len(config.mlp_activations) == 1
        inner = 1.0
        for i, activation in enumerate(config.mlp_activations):
            name = "wi" if single else f"wi_{i}"
            h = Dense(config, config.mlp_dim, ("embed", "mlp"), name=name)(x)
            inner = inner * (h if activation == "linear" else getattr(nn, activation)(h))
        inner = constrain(self, inner, ("batch", "length", "mlp"))
        inner = dropout(inner, config.dropout_rate, dropout_key, 1)
        return Dense(config, config.emb_dim, ("mlp", "embed"), name="wo")(inner)


def soft_cap(logits: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """cap * tanh(logits / cap): near 0 as they are, never beyond the cap (Gemma 2); None: as is."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)

"""What both kinds of models share: embeddings, norm, dense layers, MLP, a stack of layers.

Kernels are two-dimensional, [in, heads * head_dim], as T5X's minimal models keep them. Activations
are laid out on the mesh by the names of their axes (see `placing.py`).
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.models.attention import capped
from promot_jax.models.config import Config
from promot_jax.models.placing import HEAD, HIDDEN, constrain, lay_out, platform, weights_stay

fan_in_normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
fan_in_truncated = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def fold(key: PRNGKeyArray | None, data: int | Array) -> PRNGKeyArray | None:
    """`jax.random.fold_in` that passes None (no dropout) through."""
    return None if key is None else jax.random.fold_in(key, data)


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


@jax.custom_vjp
def matmul(x: Float[Array, "... in"], kernel: Float[Array, "in out"]) -> Float[Array, "... out"]:
    """x @ kernel, with a backward pass that XLA's CPU backend runs twice as fast.

    Left alone, it fuses the elementwise backward pass of what follows into the transposition of the
    weight gradient's operand, with strided loads. On other backends the gradient is the usual one.
    """
    return x @ kernel


def _matmul_backward(saved, gradient):
    x, kernel = saved
    if platform() == "cpu":
        gradient = jax.lax.optimization_barrier(gradient)
    rows = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return gradient @ kernel.T, rows[0].T @ rows[1]


matmul.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _matmul_backward)


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32 and rounded once.

    Attributes:
      config: for the types.
      eps: added to the mean square.
      offset: multiply by 1 + scale, which starts at 0 (Gemma).
      axis: the name of the normalised axis.
    """

    config: Config
    eps: float = 1e-6
    offset: bool = False
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        init = nn.initializers.zeros if self.offset else nn.initializers.ones
        init = nn.with_logical_partitioning(init, (self.axis,))
        scale = self.param("scale", init, (x.shape[-1],), self.config.param_dtype)
        scale = 1.0 + scale.astype(jnp.float32) if self.offset else scale
        return _normalised(x, scale, self.eps, self.config.dtype)


@functools.partial(jax.checkpoint, static_argnums=(2, 3))  # cheaper to compute again than to keep
def _normalised(x: Array, scale: Array, eps: float, dtype: str) -> Array:
    x = x.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    return (x * scale).astype(dtype)


class Dense(nn.Module):
    """A matrix and, with `use_bias`, a bias vector; and LoRA, where the variables have it."""

    config: Config
    features: int
    axes: tuple[str, str]
    init: nn.initializers.Initializer = fan_in_truncated
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        config = self.config
        init = nn.with_logical_partitioning(self.init, self.axes)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), config.param_dtype)
        # The residual stream is whole where rows stay, whatever cuts the matrix's axis.
        before, after = ("activation_embed" if axis == "embed" else axis for axis in self.axes)
        x = constrain(self, x, ("dense_batch", "length", before))
        y = matmul(x, kernel.astype(config.dtype))
        if self.has_variable("lora", "a"):
            y = y + self.low_rank(x)
        x = constrain(self, y, ("dense_batch", "length", after))
        if not self.use_bias:
            return x
        init = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
        return x + self.param("bias", init, (self.features,), config.param_dtype).astype(x.dtype)

    def low_rank(self, x: Float[Array, "batch length in"]) -> Float[Array, "batch length out"]:
        """(alpha / rank) (x A) B, the whole of the LoRA machinery in the models (see `lora.py`)."""
        a, b = (self.get_variable("lora", name).astype(self.config.dtype) for name in "ab")
        x = constrain(self, matmul(x, a), ("dense_batch", "length", None))
        return matmul(x * jnp.asarray(self.config.lora.scale, x.dtype), b)


class MLP(nn.Module):
    """One activated projection (T5 1.0), or the product of two (gated), and back."""

    config: Config
    activations: tuple[str, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        count = len(self.activations)
        names = ["wi"] if count == 1 else [f"wi_{i}" for i in range(count)]
        wide = [Dense(config, config.mlp_dim, ("embed", "mlp"), name=name)(x) for name in names]
        inner = _product(self.activations, wide)
        inner = constrain(self, inner, ("dense_batch", "length", "mlp"))
        inner = dropout(inner, self.dropout_rate, dropout_key, 1)
        return Dense(config, config.emb_dim, ("mlp", "embed"), name="wo")(inner)


@functools.partial(jax.checkpoint, static_argnums=0)  # as above
def _product(activations: tuple[str, ...], wide: Sequence[Array]) -> Array:
    inner = 1.0
    for activation, h in zip(activations, wide, strict=True):
        inner = inner * (h if activation == "linear" else getattr(nn, activation)(h))
    return inner


class Stack(nn.Module):
    """The layers of an encoder or decoder: one after the other, or one traced and scanned."""

    config: Config
    layer: type[nn.Module]
    count: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch length embed"], caches: tuple, shared: tuple):
        """Runs the layers; each gets its number, its own part of `caches`, and `shared` as it is.

        A cache is a list of one tree a layer, or with `scan_layers` one tree with the layers along
        its first axis (along another they would be copied for every token); None where there is
        none. A layer returns x and a tuple of new caches, or None. Returns x and the new caches.
        """
        config, layer = self.config, self.layer
        if config.remat:  # a layer's number, the argument behind self and x, stays a plain one
            static = () if config.scan_layers else (2,)
            layer = nn.remat(layer, prevent_cse=not config.scan_layers, static_argnums=static)
        if config.scan_layers:
            axes = (0,) + (0,) * len(caches) + (nn.broadcast,) * len(shared)
            scan = nn.scan(
                layer,
                variable_axes={"params": 0, "lora": 0},
                split_rngs={"params": True},
                in_axes=axes,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            return scan(config, name="layers")(x, jnp.arange(self.count), *caches, *shared)
        new_caches = []
        for i in range(self.count):
            own = [None if cache is None else cache[i] for cache in caches]
            x, new = layer(config, name=f"layers_{i}")(x, i, *own, *shared)
            new_caches.append(new)
        return x, None if new_caches[0] is None else tuple(map(list, zip(*new_caches, strict=True)))


class Embedder(nn.Module):
    """The embedding table."""

    config: Config
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> Float[Array, "vocab embed"]:
        init = nn.with_logical_partitioning(self.init, ("vocab", "embed"))
        shape = (self.config.vocab_size, self.config.emb_dim)
        return self.param("embedding", init, shape, self.config.param_dtype)


class Head(nn.Module):
    """The output matrix of models whose head is not tied to the embedding."""

    config: Config

    @nn.compact
    def __call__(self) -> Float[Array, "embed vocab"]:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        init = nn.with_logical_partitioning(init, ("embed", "vocab"))
        shape = (self.config.emb_dim, self.config.vocab_size)
        return self.param("kernel", init, shape, self.config.param_dtype)


def prompt_tables(module: nn.Module, prompts: Sequence[tuple[str, int]]) -> list[Any]:
    """The variables of a model's soft prompts, for its `setup`; zeros at first."""
    init = nn.with_logical_partitioning(jnp.zeros, ("prompt", "embed"))
    width = module.config.emb_dim
    return [
        module.variable("prompt", name, init, (length, width), jnp.float32)
        for name, length in prompts
    ]


def embed(
    module: nn.Module,
    ids: Int[Array, "batch length"],
    table: Float[Array, "vocab embed"],
    prompts: Sequence[Any],
    scale: float = 1.0,
) -> Float[Array, "batch length embed"]:
    """Looks ids up in the embedding table, from `vocab_size` on in the prompts.

    This is the whole of the prompt machinery (see `prompts.py`). Rows of the table are multiplied
    by `scale`, rounded to the activations' type; prompts never are.

    On a mesh each device looks up its part of the vectors for all rows that share a copy of the
    table, so that neither it nor its gradient is gathered; then the vectors go to their rows.
    """
    config = module.config
    x = jnp.take(table, ids, axis=0, mode="clip").astype(config.dtype)
    x = constrain(module, constrain(module, x, ("group_batch", "length", "embed")), HIDDEN)
    if scale != 1:
        x = x * jnp.asarray(scale, config.dtype)
    if prompts:
        rows = jnp.concatenate([prompt.value for prompt in prompts])
        soft = jnp.take(rows, ids - config.vocab_size, axis=0, mode="clip").astype(config.dtype)
        x = jnp.where((ids >= config.vocab_size)[..., None], soft, x)
    return constrain(module, x, HIDDEN)


def logits_of(
    hidden: Float[Array, "... embed"], head: Float[Array, "embed vocab"], cap: float | None = None
) -> Float[Array, "... vocab"]:
    """Logits in float32, capped where the model caps them; of a mesh, the vocabulary is cut.

    The head is never gathered: the rows are, and each device computes its part of their logits.
    """
    rows = ("dense_batch", *[None] * (hidden.ndim - 2))
    with weights_stay():
        head = lay_out(head, HEAD)
        hidden = lay_out(hidden, (*rows, "activation_embed")).astype(jnp.float32)
        return lay_out(capped(hidden @ head, cap), (*rows, "vocab"))


def same_segment(query: Int[Array, "batch q"], key: Int[Array, "batch k"]) -> Array:
    """Who may look at whom [batch, 1, q, k]: the same segment, and no padding (segment 0)."""
    return ((query[:, :, None] == key[:, None]) & (key[:, None] > 0))[:, None]

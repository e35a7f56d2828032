"""Positions a few at a time: what is computed from logits, without ever holding all of them.

A chunk is a stretch of the length, of all rows together, since a mesh may cut the batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from promot_jax.models.layers import logits_of
from promot_jax.models.placing import HEAD, lay_out, parts, weights_stay

CHUNK_TOKENS = 4096  # positions whose logits exist at once, over the whole batch
EXCHANGES = 4  # least number of chunks where devices gather them: none holds the whole batch


def in_chunks(x: Shaped[Array, "batch length *rest"]) -> Shaped[Array, "chunks batch size *rest"]:
    """Cuts rows, padded, into chunks of up to CHUNK_TOKENS positions of all rows together."""
    batch, length = x.shape[:2]
    with weights_stay():
        exchanged = parts("batch") > parts("dense_batch")
    most = -(-length // EXCHANGES) if exchanged else length
    size = max(1, min(most, CHUNK_TOKENS // batch))
    x = jnp.pad(x, ((0, 0), (0, -length % size)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(batch, -1, size, *x.shape[2:]), 1, 0)


def joined(
    chunks: Shaped[Array, "chunks batch size *rest"], length: int
) -> Shaped[Array, "batch length *rest"]:
    """The inverse of `in_chunks`, without the padding."""
    x = jnp.moveaxis(chunks, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])[:, :length]


def gathered(chunk):
    """A chunk's rows (a tree of arrays), on every device that has a part of the head."""
    return jax.tree.map(lambda x: lay_out(x, ("dense_batch", *[None] * (x.ndim - 1))), chunk)


def log_probabilities(
    hidden: Float[Array, "batch length embed"],
    head: Float[Array, "embed vocab"],
    targets: Int[Array, "batch length"],
    cap: float | None,
) -> tuple[Float[Array, "batch length"], Bool[Array, "batch length"]]:
    """log p of every target token, in nats, and whether it is the likeliest one."""
    with weights_stay():
        head = lay_out(head, HEAD)

    def of_chunk(chunk):
        with weights_stay():
            hidden, targets = gathered(chunk)
            logits = logits_of(hidden, head, cap)
            log_p = jax.nn.log_softmax(logits)
            log_p = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
            return log_p, jnp.argmax(logits, axis=-1) == targets

    found = jax.lax.map(of_chunk, [in_chunks(x) for x in (hidden, targets)])
    log_p, likeliest = (joined(x, targets.shape[1]) for x in found)
    return log_p, likeliest

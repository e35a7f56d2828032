"""Cross entropy over the vocabulary head without ever holding [batch, length, vocab].

The head is applied to a few positions at a time. What makes that cheap is the gradient rule: the
loss is a sum over positions, so each chunk's contribution to the gradients is computed while its
logits are at hand, and nothing is kept or computed twice. A frozen head costs no gradient at all.

On a mesh the devices that share a copy of the model share the vocabulary: each has a part of the
head, of its gradient and of the logits, and gathers a chunk's vectors. Neither the head nor its
gradient is ever whole on a device, and sums over copies of the model are taken once, at the end.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from promot_jax.models.layers import logits_of
from promot_jax.models.layout import Variables, nested
from promot_jax.models.model import Batch, Model
from promot_jax.models.placing import HEAD, lay_out, parts, weights_stay

CHUNK_TOKENS = 4096  # positions whose logits exist at once, over the whole batch
EXCHANGES = 4  # least number of chunks where devices gather them: none holds the whole batch


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def cross_entropy(
    hidden: Float[Array, "batch length embed"],
    head: Float[Array, "embed vocab"],
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    label_smoothing: float,
    z_loss: float,
    cap: float | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Summed cross entropy of softmax(hidden @ head), T5X's `cross_entropy_with_logits`.

    With label smoothing s the target has probability 1 - s and every other token s / (vocab - 1);
    the constant that makes the least possible loss 0 is subtracted. `z_loss` adds
    z_loss * log(Z)^2. `cap` is the model's soft cap of its logits.

    Returns:
      The weighted sum over all positions, and the sums "z_loss" (a part of it) and "correct"
      (argmax hits).
    """
    total, metrics, _, _ = _forward(
        hidden, head, targets, weights, label_smoothing, z_loss, cap, False, False
    )
    return total, metrics


def _chunk(
    hidden: Float[Array, "*rows embed"],
    head: Float[Array, "embed vocab"],
    targets: Int[Array, "*rows"],
    weights: Float[Array, "*rows"],
    label_smoothing: float,
    z_loss: float,
    cap: float | None,
) -> tuple[Float[Array, "3"], Float[Array, "*rows vocab"]]:
    """Sums of loss, z-loss and right tokens over some positions, and d loss / d logits."""
    vocab = head.shape[1]
    low = label_smoothing / (vocab - 1)
    high = 1.0 - label_smoothing
    least = -high * math.log(high) - (label_smoothing * math.log(low) if label_smoothing else 0.0)
    logits = logits_of(hidden, head, cap)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss = log_z - (high - low) * target_logit - least
    if label_smoothing:
        loss -= low * jnp.sum(logits, axis=-1)
    z = z_loss * jnp.square(log_z)
    correct = jnp.argmax(logits, axis=-1) == targets
    sums = jnp.stack([jnp.sum(part * weights) for part in (loss + z, z, correct)])
    softmax = jnp.exp(logits - log_z[..., None])
    is_target = jnp.arange(vocab) == targets[..., None]
    gradient = softmax * (1.0 + 2.0 * z_loss * log_z)[..., None] - jnp.where(is_target, high, low)
    if cap is not None:
        gradient = gradient * (1.0 - jnp.square(logits / cap))
    return sums, gradient * weights[..., None]


def in_chunks(
    x: Shaped[Array, "batch length *rest"], tokens: int
) -> Shaped[Array, "chunks batch size *rest"]:
    """Cuts rows, padded, into chunks of up to `tokens` positions of all rows together.

    Along the length, since a mesh may cut the batch.
    """
    batch, length = x.shape[:2]
    with weights_stay():
        exchanged = parts("batch") > parts("dense_batch")
    most = -(-length // EXCHANGES) if exchanged else length
    size = max(1, min(most, tokens // batch))
    x = jnp.pad(x, ((0, 0), (0, -length % size)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(batch, -1, size, *x.shape[2:]), 1, 0)


def joined(
    chunks: Shaped[Array, "chunks batch size *rest"], length: int
) -> Shaped[Array, "batch length *rest"]:
    """The inverse of `in_chunks`, without the padding."""
    x = jnp.moveaxis(chunks, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])[:, :length]


def gathered(chunk: Sequence[Shaped[Array, "batch size ..."]]) -> list[Array]:
    """A chunk's rows, on every device that has a part of the head."""
    return [lay_out(x, ("dense_batch", *[None] * (x.ndim - 1))) for x in chunk]


def _head_gradient(
    hidden: Float[Array, "batch length embed"],
    d_logits: Float[Array, "batch length vocab"],
    copies: int,
) -> Float[Array, "*copies embed vocab"]:
    """hidden^T d_logits, cut as the head is; each of several copies of the model has its own."""
    product = lambda h, d: jnp.einsum("bte,btv->ev", h.astype(jnp.float32), d)  # noqa: E731
    if copies == 1:
        return lay_out(product(hidden, d_logits), HEAD)
    split = lambda x: x.reshape(copies, -1, *x.shape[1:])  # noqa: E731
    return lay_out(jax.vmap(product)(split(hidden), split(d_logits)), ("dense_batch", *HEAD))


def _forward(hidden, head, targets, weights, label_smoothing, z_loss, cap, hidden_grad, head_grad):
    """Sums over all chunks, and the gradients that are asked for (None otherwise)."""
    with weights_stay():
        head, copies = lay_out(head, HEAD), math.gcd(len(hidden), parts("dense_batch"))

    def body(carry, chunk):
        sums, d_head = carry
        with weights_stay():
            h, t, w = gathered(chunk)
            new, d_logits = _chunk(h, head, t, w, label_smoothing, z_loss, cap)
            if head_grad:
                d_head = d_head + _head_gradient(h, d_logits, copies)
        if not hidden_grad:
            return (sums + new, d_head), None
        d_hidden = (d_logits @ head.T).astype(hidden.dtype)
        return (sums + new, d_head), lay_out(d_hidden, ("batch", None, None))

    inputs = [in_chunks(x, CHUNK_TOKENS) for x in (hidden, targets, weights)]
    start = (jnp.zeros(3), 0.0 if head_grad else None)
    if len(inputs[0]) == 1:
        (sums, d_head), d_hidden = body(start, [x[0] for x in inputs])
    else:
        zeros = jnp.zeros((copies, *head.shape) if copies > 1 else head.shape, head.dtype)
        start = (start[0], zeros if head_grad else None)
        (sums, d_head), d_hidden = jax.lax.scan(body, start, inputs)
        if hidden_grad:
            d_hidden = joined(d_hidden, hidden.shape[1])
    if head_grad:
        d_head = lay_out(d_head.sum(axis=0) if copies > 1 else d_head, HEAD)
    return sums[0], {"z_loss": sums[1], "correct": sums[2]}, d_hidden, d_head


def _fwd(hidden, head, targets, weights, label_smoothing, z_loss, cap):
    total, metrics, d_hidden, d_head = _forward(
        *(x.value for x in (hidden, head, targets, weights)),
        label_smoothing,
        z_loss,
        cap,
        hidden.perturbed,
        head.perturbed,
    )
    return (total, metrics), (d_hidden, d_head)


def _bwd(label_smoothing, z_loss, cap, gradients, cotangents):
    scale = cotangents[0]
    if isinstance(scale, jax.custom_derivatives.SymbolicZero):
        scale = 0.0
    scaled = (None if g is None else (g * scale).astype(g.dtype) for g in gradients)
    return (*scaled, None, None)


cross_entropy.defvjp(_fwd, _bwd, symbolic_zeros=True)


def loss(
    model: Model,
    variables: Variables,
    batch: Batch,
    dropout_key: PRNGKeyArray | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The summed loss of a batch and its parts; "tokens" counts the target tokens to divide by."""
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]

    def hidden_and_head(module):
        return module.hidden(batch, dropout_key), module.head()

    hidden, head = model.apply(nested(variables), method=hidden_and_head)
    total, sums = cross_entropy(
        hidden, head, targets, weights, label_smoothing, z_loss, model.soft_cap
    )
    return total, sums | {"tokens": jnp.sum(weights)}

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

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.models.chunks import gathered, in_chunks, joined, log_probabilities
from promot_jax.models.layers import logits_of
from promot_jax.models.layout import Variables, nested
from promot_jax.models.model import Batch, Model
from promot_jax.models.objective import KL, Objective, row_means
from promot_jax.models.placing import HEAD, lay_out, parts, weights_stay
from promot_jax.models.token_weights import OF_REFERENCE, TokenWeight

Known = dict[str, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def cross_entropy(
    hidden: Float[Array, "batch length embed"],
    head: Float[Array, "embed vocab"],
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    reference: Known | None,
    objective: Objective,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Summed cross entropy of softmax(hidden @ head), T5X's `cross_entropy_with_logits`.

    With label smoothing s the target has probability 1 - s and every other token s / (vocab - 1);
    the constant that makes the least possible loss 0 is subtracted. The z-loss adds
    z_loss * log(Z)^2, divergences their KL.

    Args:
      reference: what `objective` needs of a reference: its "hidden" and "head" for divergences,
        and fields of `Token`, [batch, length]. No gradient goes to it.
      objective: what counts.

    Returns:
      The weighted sum over all positions, and the sums that `objective` names, such as "z_loss" (a
      part of it) and "correct" (argmax hits).
    """
    total, metrics, _, _ = _forward(
        hidden, head, targets, weights, reference, objective, False, False
    )
    return total, metrics


def _chunk(
    chunk: dict[str, Array],
    head: Float[Array, "embed vocab"],
    head0: Float[Array, "embed vocab"] | None,
    objective: Objective,
) -> tuple[Float[Array, " sums"], Float[Array, "*rows vocab"]]:
    """Weighted sums over some positions, and d loss / d uncapped logits."""
    token, weights = dict(chunk), chunk["weights"]
    hidden, targets, hidden0 = (token.pop(n, None) for n in ("hidden", "targets", "hidden0"))
    del token["weights"]
    logits = logits_of(hidden, head, objective.cap)
    logits0 = None if hidden0 is None else logits_of(hidden0, head0, objective.cap)
    values, gradient = objective.at(logits, targets, logits0, token)
    sums = jnp.stack([jnp.sum(value * weights) for value in values])
    return sums, gradient * weights[..., None]


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


def _forward(hidden, head, targets, weights, reference, objective, hidden_grad, head_grad):
    """Sums over all chunks, and the gradients that are asked for (None otherwise)."""
    known = dict(reference or {})
    with weights_stay():
        head, copies = lay_out(head, HEAD), math.gcd(len(hidden), parts("dense_batch"))
        head0 = lay_out(known.pop("head"), HEAD) if "head" in known else None
    if "hidden" in known:
        known["hidden0"] = known.pop("hidden")

    def body(carry, chunk):
        sums, d_head = carry
        with weights_stay():
            chunk = gathered(chunk)
            new, d_logits = _chunk(chunk, head, head0, objective)
            if head_grad:
                d_head = d_head + _head_gradient(chunk["hidden"], d_logits, copies)
        if not hidden_grad:
            return (sums + new, d_head), None
        d_hidden = (d_logits @ head.T).astype(hidden.dtype)
        return (sums + new, d_head), lay_out(d_hidden, ("batch", None, None))

    arrays = {"hidden": hidden, "targets": targets, "weights": weights} | known
    inputs = jax.tree.map(in_chunks, arrays)
    start = (jnp.zeros(1 + len(objective.names)), 0.0 if head_grad else None)
    if len(inputs["hidden"]) == 1:
        (sums, d_head), d_hidden = body(start, jax.tree.map(lambda x: x[0], inputs))
    else:
        zeros = jnp.zeros((copies, *head.shape) if copies > 1 else head.shape, head.dtype)
        start = (start[0], zeros if head_grad else None)
        (sums, d_head), d_hidden = jax.lax.scan(body, start, inputs)
        if hidden_grad:
            d_hidden = joined(d_hidden, hidden.shape[1])
    if head_grad:
        d_head = lay_out(d_head.sum(axis=0) if copies > 1 else d_head, HEAD)
    metrics = {name: sums[i] for i, name in enumerate(objective.names, start=1)}
    return sums[0], metrics, d_hidden, d_head


def _fwd(hidden, head, targets, weights, reference, objective):
    wanted = hidden.perturbed, head.perturbed
    given = jax.custom_derivatives.custom_vjp_primal_tree_values(
        (hidden, head, targets, weights, reference)
    )
    total, metrics, d_hidden, d_head = _forward(*given, objective, *wanted)
    return (total, metrics), (d_hidden, d_head)


def _bwd(objective, gradients, cotangents):
    scale = cotangents[0]
    if isinstance(scale, jax.custom_derivatives.SymbolicZero):
        scale = 0.0
    scaled = (None if g is None else (g * scale).astype(g.dtype) for g in gradients)
    return (*scaled, None, None, None)


cross_entropy.defvjp(_fwd, _bwd, symbolic_zeros=True)


def loss(
    model: Model,
    variables: Variables,
    batch: Batch,
    dropout_key: PRNGKeyArray | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    token_weights: tuple[TokenWeight, ...] = (),
    divergences: tuple[KL, ...] = (),
    further: tuple[tuple[str, KL], ...] = (),
    reference: Variables | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The summed loss of a batch and its parts; "tokens" counts the target tokens to divide by.

    Args:
      token_weights: of the batch's target tokens, multiplied.
      divergences: from the reference, on the batch's target tokens.
      further: (name, divergence) on batches of their own, batch["further"][name], whose weights are
        such that one division by "tokens" is right for all.
      reference: another model's variables, for what differs from `variables`; it has no dropout.
    """
    other = None if reference is None else variables | reference
    objective = Objective(label_smoothing, z_loss, model.soft_cap, token_weights, divergences)
    total, sums = _minimised(model, variables, batch, dropout_key, objective, other)
    for place, (name, kl) in enumerate(further, start=1):
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, place)
        objective = Objective(cap=model.soft_cap, divergences=(kl,), task=False)
        more, found = _minimised(model, variables, batch["further"][name], key, objective, other)
        total, sums = total + more, sums | found
    return total, sums | {"tokens": jnp.sum(batch["decoder_loss_weights"])}


def _minimised(model, variables, batch, dropout_key, objective, other):
    """`cross_entropy` of one batch; `other`: the reference's variables, all of them."""
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]

    def hidden_and_head(module, key):
        return module.hidden(batch, key), module.head()

    run = lambda given, key: model.apply(nested(given), key, method=hidden_and_head)  # noqa: E731
    hidden, head = run(variables, dropout_key)
    known = {}
    if objective.needs & OF_REFERENCE or objective.divergences:
        hidden0, head0 = run(other, None)
        if objective.divergences:
            known = {"hidden": hidden0, "head": head0}
        known |= _of_tokens(hidden0, head0, batch, objective)
    return cross_entropy(hidden, head, targets, weights, known or None, objective)


def _of_tokens(hidden0, head0, batch, objective) -> Known:
    """The fields of `Token` that the reference gives."""
    needs = objective.needs & OF_REFERENCE
    if not needs:
        return {}
    weights = batch["decoder_loss_weights"]
    log_p0, _ = log_probabilities(hidden0, head0, batch["decoder_target_tokens"], objective.cap)
    found = {"log_p0": log_p0}
    if "row_log_p0" in needs:
        segments = batch.get("decoder_segment_ids")
        if segments is not None and "decoder_target_positions" in batch:
            positions = batch["decoder_target_positions"]
            segments = jnp.take_along_axis(segments, positions, axis=1)
        found["row_log_p0"] = row_means(log_p0, weights, segments)
    return {name: found[name] for name in needs}

"""What is minimised at a position, from its logits: loss and d loss / d logits, by hand.

Written for a chunk of positions whose logits are at hand, so nothing is kept for a backward pass.
"""

import dataclasses
import functools
import math
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from promot_jax.models.token_weights import TOP, Token, TokenWeight

DIRECTIONS = ("forward", "reverse")


@dataclasses.dataclass(frozen=True)
class KL:
    """A divergence from the reference's distribution p0 of the next token to the model's, p.

    Attributes:
      weight: how much it counts beside the cross entropy.
      direction: 'forward': KL(p0 || p), 'reverse': KL(p || p0).
      mask_target: without the target token, which is taken out of both, and the rest renormalised:
        so it does not pull against the cross entropy (arXiv 2605.29498).
      name: of its metric.
    """

    weight: float
    direction: str = "forward"
    mask_target: bool = False
    name: str = "kl"


@dataclasses.dataclass(frozen=True)
class Objective:
    """What counts at a position.

    Attributes:
      label_smoothing: share of the target's probability given to the other tokens.
      z_loss: weight of log(Z)^2.
      cap: the model's soft cap of its logits.
      weights: of the cross entropy and the z-loss, multiplied.
      divergences: from the reference.
      task: whether the cross entropy counts; if not, only divergences do.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    cap: float | None = None
    weights: tuple[TokenWeight, ...] = ()
    divergences: tuple[KL, ...] = ()
    task: bool = True

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Token` that its weights need."""
        return frozenset().union(*(weight.needs for weight in self.weights))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sums that `at` gives, behind the loss itself."""
        changed = bool(self.weights or self.divergences)
        names = ("z_loss", "correct") if self.task else ()
        names += ("cross_entropy",) if self.task and changed else ()
        names += ("token_weight",) if self.weights else ()
        return names + tuple(kl.name for kl in self.divergences)

    def at(
        self,
        logits: Float[Array, "*rows vocab"],
        targets: Int[Array, "*rows"],
        logits0: Float[Array, "*rows vocab"] | None,
        token: dict[str, Float[Array, "*rows"]],
    ) -> tuple[tuple[Float[Array, "*rows"], ...], Float[Array, "*rows vocab"]]:
        """The loss and what `names` says, at each position, and d loss / d uncapped logits.

        `logits0` are the reference's; `token`: fields of `Token` from the reference.
        """
        log_z = jax.nn.logsumexp(logits, axis=-1)
        loss, gradient, rest = 0.0, 0.0, ()
        if self.task:
            loss, gradient, rest = self._task(logits, targets, log_z, token)
        for kl in self.divergences:
            value, change = divergence(kl, logits, logits0, targets)
            loss, gradient = loss + kl.weight * value, gradient + kl.weight * change
            rest += (value,)
        if self.cap is not None:
            gradient = gradient * (1.0 - jnp.square(logits / self.cap))
        return (loss, *rest), gradient

    def _task(self, logits, targets, log_z, token):
        """Cross entropy and z-loss, weighted; d of these / d logits; the sums that go with them."""
        vocab = logits.shape[-1]
        low = self.label_smoothing / (vocab - 1)
        high = 1.0 - self.label_smoothing
        least = -high * math.log(high) - (self.label_smoothing * math.log(low) if low else 0.0)
        target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        loss = log_z - (high - low) * target_logit - least
        if self.label_smoothing:
            loss -= low * jnp.sum(logits, axis=-1)
        z = self.z_loss * jnp.square(log_z)
        correct = jnp.argmax(logits, axis=-1) == targets
        softmax = jnp.exp(logits - log_z[..., None])
        is_target = jnp.arange(vocab) == targets[..., None]
        slope = (1.0 + 2.0 * self.z_loss * log_z)[..., None]
        gradient = softmax * slope - jnp.where(is_target, high, low)
        rest = (loss,) if self.weights or self.divergences else ()
        if not self.weights:
            return loss + z, gradient, (z, correct, *rest)
        if "entropy" in self.needs:
            token = token | {"entropy": top_entropy(logits)}
        token = Token(target_logit - log_z, **token)
        weight = functools.reduce(operator.mul, (each(token) for each in self.weights))
        z *= weight
        return weight * loss + z, weight[..., None] * gradient, (z, correct, *rest, weight)


def top_entropy(logits: Float[Array, "*rows vocab"]) -> Float[Array, "*rows"]:
    """The entropy of the TOP likeliest tokens, their probabilities renormalised, in nats."""
    log_p = jax.nn.log_softmax(jax.lax.top_k(logits, min(TOP, logits.shape[-1]))[0])
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def divergence(
    kl: KL,
    logits: Float[Array, "*rows vocab"],
    logits0: Float[Array, "*rows vocab"],
    targets: Int[Array, "*rows"],
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows vocab"]]:
    """KL in nats, not weighted, and d KL / d logits.

    forward  sum p0 (log p0 - log p), whose gradient is p - p0
    reverse  sum p (log p - log p0),  whose gradient is p (log p - log p0 - KL)
    """
    kept = jnp.arange(logits.shape[-1]) != targets[..., None] if kl.mask_target else None
    log_p, log_p0 = (jax.nn.log_softmax(x, where=kept) for x in (logits, logits0))
    ratio, p, p0 = log_p0 - log_p, jnp.exp(log_p), jnp.exp(log_p0)
    if kl.mask_target:  # where both logarithms are -inf
        ratio = jnp.where(kept, ratio, 0.0)
    if kl.direction == "forward":
        return jnp.sum(p0 * ratio, axis=-1), p - p0
    value = -jnp.sum(p * ratio, axis=-1)
    return value, p * (-ratio - value[..., None])


def row_means(
    x: Float[Array, "batch length"],
    weights: Float[Array, "batch length"],
    segments: Int[Array, "batch length"] | None,
) -> Float[Array, "batch length"]:
    """At each token the mean over its example's tokens (a row's, or a segment's in it)."""
    if segments is None:
        total = jnp.sum(x * weights, axis=1, keepdims=True)
        mean = total / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
        return jnp.broadcast_to(mean, x.shape)
    same = (segments[:, :, None] == segments[:, None]) * weights[:, None]
    return jnp.einsum("bts,bs->bt", same, x) / jnp.maximum(jnp.sum(same, axis=-1), 1.0)

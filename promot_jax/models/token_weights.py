"""How much each target token counts: w = f(log p, log p0, entropy), its gradient stopped.

p is the model's own probability of the token, p0 the reference's. The weighted losses are summed
and divided by the number of all target tokens, so weights of 0.5 everywhere halve the gradient. A
weight looks at its own token alone (or its row's mean under the reference): thresholds and scales
are numbers that are set, for a median of the batch would make a batch that goes through in parts
another one than the whole. Several weights are multiplied.

Targets that are label words ("True") are unlikely before training, so STM leaves them out and DFT,
TALR and EAFT begin slowly; behind a tuned prompt they are likely.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from promot_jax.errors import check_positive, check_range, check_types

TOP = 20  # tokens whose entropy is meant
OF_REFERENCE = frozenset({"log_p0", "row_log_p0"})  # fields of `Token` that a reference gives


class Token(NamedTuple):
    """What is known of target tokens; None where no weight needs it.

    Attributes:
      log_p: under the model, in nats.
      log_p0: under the reference.
      row_log_p0: the mean of `log_p0` over the tokens of the same example.
      entropy: of the model's TOP likeliest tokens, renormalised, in nats.
    """

    log_p: Float[Array, "*rows"]
    log_p0: Float[Array, "*rows"] | None = None
    row_log_p0: Float[Array, "*rows"] | None = None
    entropy: Float[Array, "*rows"] | None = None


@dataclasses.dataclass(frozen=True)
class TokenWeight:
    """A weight.

    Attributes:
      needs: the fields of `Token` that it needs beside `log_p`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """The weight of each token, 0 or more."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class STM(TokenWeight):
    """Selective token masking (arXiv 2501.14315): 1 where 1 / p0 <= perplexity, else 0."""

    perplexity: float = 2.5
    needs: ClassVar[frozenset[str]] = frozenset({"log_p0"})

    def __post_init__(self):
        check_types(self)
        check_range("STM.perplexity", self.perplexity, 1, 1e30)

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """See `TokenWeight`."""
        return (-token.log_p0 <= math.log(self.perplexity)).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class DFT(TokenWeight):
    """Dynamic fine-tuning (arXiv 2508.05629): p."""

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """See `TokenWeight`."""
        return jnp.exp(token.log_p)


@dataclasses.dataclass(frozen=True)
class EAFT(TokenWeight):
    """Entropy-adaptive fine-tuning (arXiv 2601.02151): (entropy / ln 20)^alpha."""

    alpha: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"entropy"})

    def __post_init__(self):
        check_types(self)
        check_positive("EAFT.alpha", self.alpha, 1e6)

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """See `TokenWeight`."""
        return (token.entropy / math.log(TOP)) ** self.alpha


@dataclasses.dataclass(frozen=True)
class TALR(TokenWeight):
    """Token-adaptive loss reweighting (arXiv 2509.20758): exp(-loss / tau), at least `floor`.

    The paper takes tau from the losses of each batch; here it is a number.
    """

    tau: float = 2.0
    floor: float = 0.0

    def __post_init__(self):
        check_types(self)
        check_positive("TALR.tau", self.tau, 1e6)
        check_range("TALR.floor", self.floor, 0, 1)

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """See `TokenWeight`."""
        return jnp.maximum(jnp.exp(token.log_p / self.tau), self.floor)


@dataclasses.dataclass(frozen=True)
class FLOW(TokenWeight):
    """Weights of whole examples (arXiv 2502.02797): exp(-L0 / tau).

    L0 is the example's mean loss under the reference. The paper's tau is the median of L0 over the
    training rows.
    """

    tau: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"row_log_p0"})

    def __post_init__(self):
        check_types(self)
        check_positive("FLOW.tau", self.tau, 1e6)

    def __call__(self, token: Token) -> Float[Array, "*rows"]:
        """See `TokenWeight`."""
        return jnp.exp(token.row_log_p0 / self.tau)

"""What happens to an optimizer's update before it is applied, in the order of `Part.filters`.

A filter is made into an optax transformation, chained behind the optimizer, that may look at
optax's extra arguments: `value` (the loss per target token), `grad` and `reference` (the weights
that the stage compares itself with). An array of scanned layers is treated as its layers would be.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from promot_jax.errors import check_positive, check_range, check_types
from promot_jax.models.names import STACK, layers_of

Schedule = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Filter:
    """A change to updates.

    Attributes:
      reference: whether it needs one.
    """

    reference: ClassVar[bool] = False

    def __call__(self, learning_rate: Schedule) -> optax.GradientTransformationExtraArgs:
        """The transformation, for a part with this learning rate."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Finch(Filter):
    """Smaller steps while the loss is high, after FINCH (arXiv 2605.20005).

    Its bound says that a step forgets at most in proportion to rate * sqrt(loss). The update is
    multiplied by

        min(1, sqrt(loss / L)), at least `floor`,

    L the running mean of the loss per target token before each update. So rate * sqrt(L) stays what
    it is at L = `loss`. The paper's own schedule we have not seen.

    Attributes:
      loss: up to which the steps have their full length, in nats.
      floor: least factor.
      decay: of the running mean, whose bias is corrected: at first it is the first loss.
    """

    loss: float = 0.1
    floor: float = 0.01
    decay: float = 0.9

    def __post_init__(self):
        check_types(self)
        check_positive("Finch.loss", self.loss, 1e9)
        check_range("Finch.floor", self.floor, 0, 1)
        check_range("Finch.decay", self.decay, 0, 0.9999)

    def __call__(self, learning_rate: Schedule) -> optax.GradientTransformationExtraArgs:
        """See `Filter`."""

        def update(updates, state, params=None, *, value, **_):
            mean, count = state
            mean = self.decay * mean + (1 - self.decay) * value
            unbiased = mean / (1 - self.decay ** (count + 1.0))
            ratio = jnp.sqrt(self.loss / jnp.maximum(unbiased, 1e-12))
            factor = jnp.clip(ratio, self.floor, 1.0)
            return jax.tree.map(lambda u: u * factor.astype(u.dtype), updates), (mean, count + 1)

        return optax.GradientTransformationExtraArgs(
            lambda params: (jnp.zeros(()), jnp.zeros((), jnp.int32)), update
        )


@dataclasses.dataclass(frozen=True)
class Pull(Filter):
    """Decoupled L2-SP: theta <- theta - rate * weight * (theta - theta0), apart from the gradient.

    What decoupled weight decay (arXiv 1711.05101) is to weight decay, with the reference in the
    place of 0: no moments of an optimizer see it.
    """

    weight: float = 1.0
    reference: ClassVar[bool] = True

    def __post_init__(self):
        check_types(self)
        check_range("Pull.weight", self.weight, 0, 1e9)

    def __call__(self, learning_rate: Schedule) -> optax.GradientTransformationExtraArgs:
        """See `Filter`."""

        def update(updates, count, params, *, reference, **_):
            rate = learning_rate(count) * self.weight
            back = lambda u, x, x0: (u - rate * (x - x0)).astype(u.dtype)  # noqa: E731
            return jax.tree.map(back, updates, params, reference), count + 1

        return optax.GradientTransformationExtraArgs(
            lambda params: jnp.zeros((), jnp.int32), update
        )


@dataclasses.dataclass(frozen=True)
class Mofo(Filter):
    """Momentum-filtered updates (arXiv 2407.20999).

    Of each array only the `share` of coordinates moves whose momentum is largest. The momentum is a
    running mean of the gradient, Adam's first moment but for the bias, and a copy of what is
    trained. The optimizer's own moments go on for all coordinates.
    """

    share: float = 0.1
    decay: float = 0.9

    def __post_init__(self):
        check_types(self)
        check_positive("Mofo.share", self.share, 1)
        check_range("Mofo.decay", self.decay, 0, 0.9999)

    def __call__(self, learning_rate: Schedule) -> optax.GradientTransformationExtraArgs:
        """See `Filter`."""

        def largest(momentum: Float[Array, "..."]) -> Bool[Array, "..."]:
            count = max(1, round(self.share * momentum.size))
            size = jnp.abs(momentum)
            return size >= jnp.sort(size.ravel())[momentum.size - count]

        def update(updates, momentum, params=None, *, grad, **_):
            moved = lambda m, g: self.decay * m + (1 - self.decay) * g.astype(m.dtype)  # noqa: E731
            momentum = jax.tree.map(moved, momentum, grad)
            kept = {p: each_layer(largest, p)(m) for p, m in momentum.items()}
            return {p: jnp.where(kept[p], u, 0.0) for p, u in updates.items()}, momentum

        zeros = lambda params: jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)  # noqa: E731
        return optax.GradientTransformationExtraArgs(zeros, update)


@dataclasses.dataclass(frozen=True)
class HalfFrozen(Filter):
    """Half fine-tuning (arXiv 2404.18466): in each round a random half of the arrays stands still.

    The paper draws them by kind within each layer; here of all arrays of the part alike. Gradients
    of all are computed, and the optimizer's moments go on.

    Attributes:
      steps: updates of a round.
      seed: of the draws.
    """

    steps: int = 100
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        check_range("HalfFrozen.steps", self.steps, 1, 10**9)

    def __call__(self, learning_rate: Schedule) -> optax.GradientTransformationExtraArgs:
        """See `Filter`."""

        def update(updates, count, params=None, **_):
            shapes = {path: u.shape for path, u in updates.items()}
            names = sorted(name for path in shapes for name in layers_of(path, shapes[path]))
            key = jax.random.fold_in(jax.random.key(self.seed), count // self.steps)
            order = jax.random.permutation(key, len(names))
            moves = dict(zip(names, order >= len(names) // 2, strict=True))

            def kept(path, u):
                each = jnp.stack([moves[name] for name in layers_of(path, u.shape)])
                each = each.reshape((-1,) + (1,) * (u.ndim - 1)) if STACK in path else each[0]
                return jnp.where(each, u, 0.0)

            return {path: kept(path, u) for path, u in updates.items()}, count + 1

        return optax.GradientTransformationExtraArgs(
            lambda params: jnp.zeros((), jnp.int32), update
        )


def each_layer(function: Callable[[Array], Any], path: str) -> Callable[[Array], Any]:
    """The function of an array, mapped over the layers of a scanned stack."""
    return jax.vmap(function) if STACK in path else function

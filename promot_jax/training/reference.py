"""What a stage compares itself with: other weights of what it trains, held beside it.

A penalty draws the weights back to where they were, in one of two ways (arXiv 1802.01483 and
1612.00796):

    L2-SP   weight / 2 * sum (theta - theta0)^2
    EWC     weight / 2 * sum F (theta - theta0)^2

F is the diagonal of the Fisher information on rows of data: the mean over rows of the square of the
gradient of a row's log-likelihood, at theta0, on the rows' own targets.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from promot_jax.models import Batch, Variables
from promot_jax.models.names import matches
from promot_jax.training.mesh import replicated, use


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reference:
    """Other weights than those that are trained; no gradient goes to them.

    Attributes:
      variables: of all paths that the stage trains, those too that it begins to train later.
      importance: for the penalties that have one, by name: F of the paths that they are about.
    """

    variables: Variables
    importance: Mapping[str, Variables] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A quadratic penalty on the distance from the reference.

    Attributes:
      name: of its metric, and of its importance in the reference.
      weight: how much it counts beside the loss per target token.
      pattern: which of the trained arrays it is about.
    """

    name: str
    weight: float
    pattern: str = "*"

    def __call__(self, trained: Variables, reference: Reference) -> Float[Array, ""]:
        """The penalty, its weight apart; in float32."""
        importance, total = reference.importance.get(self.name), jnp.zeros(())
        for path in sorted(trained):
            if matches(self.pattern, path):
                gap = jnp.float32(trained[path]) - jnp.float32(reference.variables[path])
                scale = 1.0 if importance is None else importance[path]
                total += 0.5 * jnp.sum(scale * jnp.square(gap))
        return total


def penalized(
    trained: Variables, reference: Reference | None, penalties: Sequence[Penalty]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of penalties, and each by name, not weighted."""
    values = {each.name: each(trained, reference) for each in penalties}
    return sum(each.weight * values[each.name] for each in penalties), values


def fisher(
    log_loss: Callable[[Variables, Batch], Float[Array, ""]],
    trained: Variables,
    frozen: Variables,
    rows: Iterable[Batch],
    mesh: Mesh,
) -> Variables:
    """The diagonal Fisher information F of `trained`, in float32.

    Args:
      log_loss: (variables, batch) -> -log p of a row's targets.
      rows: batches of one row each, the same on all hosts.
    """

    def add(total, trained, frozen, batch):
        grads = jax.grad(lambda x: log_loss(x | frozen, batch))(trained)
        return {path: total[path] + jnp.square(jnp.float32(g)) for path, g in grads.items()}

    places = {path: x.sharding for path, x in trained.items()}
    zeros = lambda: {path: jnp.zeros(x.shape, jnp.float32) for path, x in trained.items()}  # noqa: E731
    with use(mesh):
        total, count = jax.jit(zeros, out_shardings=places)(), 0
        step = jax.jit(add, donate_argnums=0, out_shardings=places)
        for row in rows:
            total = step(total, trained, frozen, jax.device_put(row, replicated(mesh)))
            count += 1
        mean = lambda total: jax.tree.map(lambda x: x / max(count, 1), total)  # noqa: E731
        return jax.jit(mean, donate_argnums=0, out_shardings=places)(total)

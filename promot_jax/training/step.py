"""The training step: a pure function of (state, frozen variables, batch).

Only what the state holds is differentiated. Whatever the stage leaves frozen enters as a separate,
constant argument, so that neither gradient nor norm nor optimizer state of it can exist.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.models import Variables
from promot_jax.models.t5 import Batch
from promot_jax.training.mesh import replicated
from promot_jax.training.optimizers import Part
from promot_jax.training.reference import Penalty, Reference, penalized

# (variables, batch, dropout key), and `reference` where there is one -> loss sum and other sums
Loss = Callable[..., tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What changes from step to step.

    Attributes:
      step: updates made in this stage.
      trained: the variables under training, flat.
      optimizer: optimizer state by part ("0", "1", ... in the stage's order).
      key: root of the stage's dropout keys; step n folds n in.
    """

    step: Int[Array, ""]
    trained: Variables
    optimizer: dict[str, Any]
    key: PRNGKeyArray


def gradients(
    loss: Loss,
    trained: Variables,
    frozen: Variables,
    batch: Batch,
    key: PRNGKeyArray,
    accumulate: int,
    reference: Reference | None = None,
    penalties: Sequence[Penalty] = (),
) -> tuple[Variables, dict[str, Float[Array, ""]]]:
    """The gradient of the mean loss over the batch's target tokens, and the sums it comes from.

    With `accumulate` > 1 the batch goes through in that many parts; gradients and tokens are summed
    in float32 and divided once, which equals the large batch however the tokens are spread.

    Penalties are added once, behind the division. What the loss compares with is `reference`.
    """
    more = {} if reference is None else {"reference": reference.variables}

    def part(batch, key):
        fun = lambda trained: loss(trained | frozen, batch, key, **more)  # noqa: E731
        (total, sums), grads = jax.value_and_grad(fun, has_aux=True)(trained)
        return grads, sums | {"loss": total}

    batch = balanced(batch)
    if accumulate == 1:
        grads, sums = part(batch, key)
    else:
        # Row i goes to part i % accumulate, so that every device keeps its own rows.
        split = lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)  # noqa: E731

        def body(carry, inputs):
            index, rows = inputs
            new = part(rows, jax.random.fold_in(key, index))
            return jax.tree.map(lambda sum, x: sum + x.astype(sum.dtype), carry, new), None

        rows = jax.tree.map(split, batch)
        shapes = jax.eval_shape(part, jax.tree.map(lambda x: x[0], rows), key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), shapes)
        (grads, sums), _ = jax.lax.scan(body, zeros, (jnp.arange(accumulate), rows))
    tokens = jnp.maximum(sums["tokens"], 1.0)
    grads = {path: g / tokens for path, g in grads.items()}
    if penalties:
        grads, sums = _with_penalties(grads, sums, trained, reference, penalties)
    return {path: g.astype(trained[path].dtype) for path, g in grads.items()}, sums


def _with_penalties(grads, sums, trained, reference, penalties):
    """Mean gradients and sums of a batch, with those of penalties on the weights."""
    fun = lambda trained: penalized(trained, reference, penalties)  # noqa: E731
    (total, values), pull = jax.value_and_grad(fun, has_aux=True)(trained)
    tokens = jnp.maximum(sums["tokens"], 1.0)
    sums = sums | {name: x * tokens for name, x in values.items()}
    sums["loss"] += total * tokens
    return {path: g + pull[path] for path, g in grads.items()}, sums


def balanced(batch: Batch) -> Batch:
    """Weighs further batches so that one division by the batch's own target tokens is right.

    Of the whole batch, before it is cut: a part of it may have any share of the tokens.
    """
    if "further" not in batch:
        return batch
    count = lambda batch: jnp.sum(batch["decoder_loss_weights"])  # noqa: E731
    tokens = jnp.maximum(count(batch), 1.0)

    def scaled(other):
        scale = tokens / jnp.maximum(count(other), 1.0)
        return other | {"decoder_loss_weights": other["decoder_loss_weights"] * scale}

    return batch | {"further": {name: scaled(x) for name, x in batch["further"].items()}}


def sharp_gradients(
    gradient: Callable[[Variables], tuple[Variables, dict[str, Float[Array, ""]]]],
    trained: Variables,
    radius: float,
) -> tuple[Variables, dict[str, Float[Array, ""]]]:
    """The gradient at theta + radius * g / |g|, and the sums at theta (SAM, arXiv 2010.01412).

    g is the gradient at theta, its norm that over all that is trained.
    """
    grads, sums = gradient(trained)
    scale = radius / jnp.maximum(optax.global_norm(grads), 1e-12)
    up = lambda x, g: (x + scale * g).astype(x.dtype)  # noqa: E731
    return gradient({path: up(x, grads[path]) for path, x in trained.items()})[0], sums


def train_step(
    state: State,
    frozen: Variables,
    batch: Batch,
    reference: Reference | None = None,
    *,
    loss: Loss,
    parts: Sequence[Part],
    owner: dict[str, int],
    accumulate: int,
    penalties: Sequence[Penalty] = (),
    sam_radius: float = 0.0,
) -> tuple[State, dict[str, Float[Array, ""]]]:
    """One update; the metrics are those before it, loss per target token.

    Optimizers that take optax's extra arguments get `value`, the loss per target token, `grad`,
    and `reference`, the variables of the reference where there is one.
    """
    key = jax.random.fold_in(state.key, state.step)

    def gradient(trained):
        return gradients(loss, trained, frozen, batch, key, accumulate, reference, penalties)

    if sam_radius:
        grads, sums = sharp_gradients(gradient, state.trained, sam_radius)
    else:
        grads, sums = gradient(state.trained)
    tokens = sums["tokens"]
    metrics = {
        name: value / jnp.maximum(tokens, 1.0) for name, value in sums.items() if name != "tokens"
    }
    trained, optimizer = {}, {}
    for name, old in state.optimizer.items():
        mine = {path: x for path, x in state.trained.items() if owner[path] == int(name)}
        grad = {path: grads[path] for path in mine}
        extra = {"value": metrics["loss"], "grad": grad}
        if reference is not None:
            extra["reference"] = {path: reference.variables[path] for path in mine}
        transformation = parts[int(name)].transformation()
        updates, optimizer[name] = transformation.update(grad, old, mine, **extra)
        trained |= optax.apply_updates(mine, updates)
    metrics |= {"tokens": tokens, "gradient_norm": optax.global_norm(grads)}
    return State(state.step + 1, trained, optimizer, state.key), metrics


def begin(mesh: Mesh, seed: int, step: int = 0) -> State:
    """A state that trains nothing yet; `thaw` adds what is due at `step`."""
    make = lambda: State(jnp.int32(step), {}, {}, jax.random.key(seed))  # noqa: E731
    return jax.jit(make, out_shardings=replicated(mesh))()


def thaw(
    state: State, frozen: Variables, parts: Sequence[Part], owner: dict[str, int]
) -> tuple[State, Variables]:
    """Moves what is trained from the state's step on out of `frozen`; optimizer state is new."""
    due = [
        i
        for i, p in enumerate(parts)
        if p.unfreeze <= int(state.step) and str(i) not in state.optimizer
    ]
    new = {path: x for path, x in frozen.items() if owner.get(path) in due}
    optimizer = {
        str(i): init_optimizer(parts[i], {p: x for p, x in new.items() if owner[p] == i})
        for i in due
    }
    state = dataclasses.replace(
        state, trained=state.trained | new, optimizer=state.optimizer | optimizer
    )
    return state, {path: x for path, x in frozen.items() if path not in new}


def init_optimizer(part: Part, variables: Variables) -> Any:
    """The part's optimizer state, each array of it laid out like the variable it belongs to.

    Of abstract variables, its shapes and layouts alone.
    """
    init = part.transformation().init
    abstract = jax.eval_shape(init, variables)
    places = like(abstract, variables)
    if isinstance(next(iter(variables.values())), jax.ShapeDtypeStruct):
        return jax.tree.map(lambda x, place: x.update(sharding=place), abstract, places)
    return jax.jit(init, out_shardings=places)(variables)


def like(optimizer: Any, variables: Variables) -> Any:
    """Shardings for an optimizer state: a variable's own where the shape is its, else whole.

    Optimizer states mirror the flat dictionary of variables, so the path is in the leaf's key path.
    Adafactor's factors are vectors and stay whole.
    """
    mesh = next(iter(variables.values())).sharding

    def sharding(keys, leaf):
        names = [key.key for key in keys if getattr(key, "key", None) in variables]
        if names and variables[names[-1]].shape == leaf.shape:
            return variables[names[-1]].sharding
        if isinstance(mesh, NamedSharding):
            return replicated(mesh.mesh)
        return mesh

    return jax.tree_util.tree_map_with_path(sharding, optimizer)

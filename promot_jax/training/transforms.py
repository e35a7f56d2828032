"""Weights in, weights out: how far back from tuned weights to those before, array by array.

A transform is a function (before, after, kept, place) -> new. `kept` is its coefficient: with 1 the
tuned weights come out bit by bit, and the less it is, the more of the way Delta = after - before is
taken back. `place` says where in the model the array lies. A scanned stack is transformed layer by
layer, so that scanned and unrolled weights stay the same.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from promot_jax.errors import check_range, check_values
from promot_jax.models import Variables
from promot_jax.models.names import LAYER, STACK, layers_of

STACKS = ("params/encoder", "params/decoder")  # as a text goes through them


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Place:
    """Where an array lies.

    Attributes:
      depth: (l - 1) / (L - 1) in layer l of L, from 0 to 1; see `places`.
      draw: a number in (0, 1) that belongs to this array alone: those of all arrays are evenly
        spread, in an order drawn by chance.
    """

    depth: Float[Any, "*layers"]
    draw: Float[Any, "*layers"]


Change = Callable[[Array, Array, Float[Array, ""], Place], Array]


def wise_ft() -> Change:
    """WiSE-FT: before + kept * (after - before) (Wortsman et al. 2022, arXiv 2109.01903).

    With 0 it is the weights before, with 1 those after, bit by bit.
    """
    return lambda before, after, kept, place: between(before, after, kept)


def lines(slope: float | None = None) -> Change:
    """LiNeS: layer l of L keeps the share kept + slope * (l - 1) / (L - 1) (Wang et al. 2024, arXiv
    2410.17146, which calls them alpha and beta).

    Args:
      slope: None: 1 - kept, so that the last layer stays as tuned.

    Raises:
      UserError: a slope that is no number from 0 to 1.
    """
    check_values(lines, {"slope": slope})
    check_range("lines.slope", slope or 0, 0, 1)

    def change(before: Array, after: Array, kept: Float[Array, ""], place: Place) -> Array:
        rise = 1 - kept if slope is None else slope
        return between(before, after, kept + rise * place.depth)

    return change


def half_reset() -> Change:
    """Half reset: a share of 1 - kept of all arrays gets its weights before back, whole (the pilot
    study of half fine-tuning, Hui et al. 2024, arXiv 2404.18466, which takes a half).

    An array that is reset stays so with less kept: the way from after to before has no way back.
    """
    return lambda before, after, kept, place: jnp.where(place.draw < kept, after, before)


def between(before: Array, after: Array, kept: Float[Array, ""]) -> Array:
    """before + kept * (after - before), computed in float32; its two ends without rounding."""
    exact = jnp.promote_types(before.dtype, jnp.float32)
    x, y = before.astype(exact), after.astype(exact)
    moved = (x + kept * (y - x)).astype(after.dtype)
    return jnp.where(kept == 0, before, jnp.where(kept == 1, after, moved))


def transformed(
    change: Change,
    before: Variables,
    after: Variables,
    kept: float,
    places: Mapping[str, Place],
) -> Variables:
    """Every array of `before` and `after`, which have the same paths, as `change` makes it."""
    layouts = {path: x.sharding for path, x in after.items()}
    return _transformed(change, tuple(layouts.items()))(before, after, np.float32(kept), places)


def lower(change: Change, variables: Variables, places: Mapping[str, Place]) -> jax.stages.Lowered:
    """The program that does it, for abstract variables with shardings."""
    layouts = tuple((path, x.sharding) for path, x in variables.items())
    return _transformed(change, layouts).lower(variables, variables, np.float32(0), places)


def _transformed(change: Change, layouts: Sequence[tuple[str, Any]]) -> Any:
    def every(before, after, kept, places):
        return {
            path: jax.vmap(change, (0, 0, None, 0))(x, after[path], kept, places[path])
            if STACK in path
            else change(x, after[path], kept, places[path])
            for path, x in before.items()
        }

    return jax.jit(every, out_shardings=dict(layouts))


def places(changed: Sequence[str], shapes: Mapping[str, Any], seed: int) -> dict[str, Place]:
    """Where arrays lie; those of a scanned stack have one place a layer.

    An encoder's layers come first and a decoder's behind them, in one count from 1 to L. What
    embeds tokens is in layer 1, what stands before a stack's layers (relative positions) in the
    first of the stack, what stands behind them (its last norm, the head) in the last of it.

    Args:
      changed: paths of the arrays that are transformed.
      shapes: path -> shape of all arrays of the model.
      seed: of `Place.draw`.
    """
    first, last, total = _layers(shapes)
    names = {path: layers_of(path, shapes[path].shape) for path in changed}
    every = sorted(name for of in names.values() for name in of)
    order = np.random.default_rng(seed).permutation(len(every))
    draws = dict(zip(every, (order + 0.5) / max(len(every), 1), strict=True))
    found = {}
    for path, of in names.items():
        depth = [(_layer(name, first, last) - 1) / max(total - 1, 1) for name in of]
        both = (np.array(each, np.float32) for each in (depth, [draws[name] for name in of]))
        found[path] = Place(*(each if STACK in path else each[0] for each in both))
    return found


def _layers(shapes: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int], int]:
    """The first and the last layer of each stack, counted through all of them, and how many."""
    first, last, total = {}, {}, 0
    for stack in STACKS:
        inside = [path for path in shapes if path.startswith(f"{stack}/layers")]
        if inside:
            names = (name for path in inside for name in layers_of(path, shapes[path].shape))
            count = 1 + max(int(LAYER.search(name)[1]) for name in names)
            first[stack], last[stack] = total + 1, total + count
            total += count
    return first, last, total


def _layer(path: str, first: Mapping[str, int], last: Mapping[str, int]) -> int:
    """The layer of an array, from 1; LoRA lies where its kernel does."""
    path = path.replace("lora/", "params/", 1) if path.startswith("lora/") else path
    stack = next((stack for stack in first if path.startswith(f"{stack}/")), None)
    if stack is None:
        return 1
    if inside := LAYER.search(path):
        return first[stack] + int(inside[1])
    return first[stack] if "relpos_bias" in path else last[stack]

"""LoRA: low-rank additions to the matrices of the layers (Hu et al. 2021, arXiv:2106.09685).

A layer with a kernel W [in, out] computes, where the variables have A and B for it,

    y = x W + (alpha / rank) (x A) B        A [in, rank], B [rank, out]

They lie in a collection of their own beside `params` and `prompt`, by the path of their kernel:
`lora/decoder/layers_0/mlp/wo/a` and `b`. So `Part("lora")` trains them alone, and variables without
the collection are the model as it was: that is all there is to removing it. B begins at 0, A as in
PEFT: the model begins as it was, too. Both are float32 whatever the model is, like soft prompts.

`scaled` and `merged` take a further scale s: with the collection, the layers then compute
W + s (alpha / rank) A B. At 0 that is the model without it, bit by bit.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from promot_jax.errors import UserError, check_types
from promot_jax.models.names import LAYER, hint, matches, stacked

COLLECTION, KERNEL = "lora/", "/kernel"


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which kernels get a low-rank addition, and of which rank.

    Attributes:
      rank: columns of A and rows of B.
      alpha: the addition is multiplied by alpha / rank; None: twice the rank.
      targets: patterns of kernels, as `Part.pattern` has them but with the layers' own numbers
        ("params/decoder", "params/*/self_attention/*"). Only matrices of layers are meant, whatever
        a pattern covers: no embedding and no head.

    Raises:
      UserError: a value of the wrong type or out of range.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ("params",)

    def __post_init__(self):
        named = (self.targets,) if isinstance(self.targets, str) else self.targets
        if isinstance(named, list):  # of a JSON or gin file
            named = tuple(named)
        object.__setattr__(self, "targets", named)
        check_types(self)
        if self.rank < 1:
            raise UserError(f"Lora.rank = {self.rank}: set a positive whole number")
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        object.__setattr__(self, "alpha", float(alpha))
        if not 0 < self.alpha <= 1e6:
            raise UserError(f"Lora.alpha = {self.alpha}: set a number above 0, up to 1e6")
        if not self.targets:
            raise UserError("Lora.targets = (): name at least one pattern of kernels")

    @property
    def scale(self) -> float:
        """What A B is multiplied by."""
        return self.alpha / self.rank


def paths_of(kernel: str) -> tuple[str, str]:
    """The paths of A and B of a kernel's path."""
    stem = COLLECTION + kernel.removeprefix("params/").removesuffix(KERNEL)
    return f"{stem}/a", f"{stem}/b"


def kernels(
    lora: Lora | None, shapes: Mapping[str, jax.ShapeDtypeStruct], scanned: bool = False
) -> list[str]:
    """The paths of the kernels that it is added to.

    Args:
      lora: None: to none.
      shapes: of the parameters, of unrolled layers.
      scanned: the layers are stacked, so that all of a stack have it or none.

    Raises:
      UserError: a pattern without match, a rank that a kernel has not, or layers that differ.
    """
    if lora is None:
        return []
    every = [p for p in shapes if LAYER.search(p) and p.endswith(KERNEL)]
    for pattern in lora.targets:
        if not any(matches(pattern, path) for path in every):
            raise UserError(
                f"Lora.targets = {pattern!r} matches no kernel of a layer{hint(pattern, every)};"
                f" they are like {every[0]}"
            )
    found = [path for path in every if any(matches(p, path) for p in lora.targets)]
    for path in found:
        rows, columns = shapes[path].shape
        if lora.rank > min(rows, columns):
            raise UserError(
                f"Lora.rank = {lora.rank} is more than that of {path} can be ({rows} x {columns}):"
                f" set at most {min(rows, columns)}, or leave it out of Lora.targets"
            )
    stacks = {stacked(path) for path in found}
    left = [p for p in every if p not in set(found) and stacked(p) in stacks]
    if scanned and left:
        raise UserError(
            f"Lora.targets leaves out {left[0]}, but not that of other layers, which are computed"
            " in one scan: set scan_layers = False, or name all layers"
        )
    return found


def shapes(
    found: Sequence[str], of_kernels: Mapping[str, jax.ShapeDtypeStruct], lora: Lora | None
) -> dict[str, jax.ShapeDtypeStruct]:
    """A's and B's, of the kernels that were `found`."""
    made = {}
    for kernel in found:
        (rows, columns), (a, b) = of_kernels[kernel].shape, paths_of(kernel)
        made[a] = jax.ShapeDtypeStruct((rows, lora.rank), jnp.float32)
        made[b] = jax.ShapeDtypeStruct((lora.rank, columns), jnp.float32)
    return made


def axes(
    found: Sequence[str], of_kernels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Names of their axes: the kernel's own, which a mesh cuts alike; the rank stays whole."""
    made = {}
    for kernel in found:
        (rows, columns), (a, b) = of_kernels[kernel], paths_of(kernel)
        made |= {a: (rows, "rank"), b: ("rank", columns)}
    return made


def draw(key: PRNGKeyArray, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Array]:
    """A's and B's as training begins with them, of unrolled layers; each from a key of its path.

    A is uniform in +-1 / sqrt(in): PyTorch's `kaiming_uniform_(a=sqrt(5))`, which PEFT takes.
    """

    def one(path, leaf):
        if path.endswith("/b"):
            return jnp.zeros(leaf.shape, leaf.dtype)
        bound, own = leaf.shape[0] ** -0.5, jax.random.fold_in(key, zlib.crc32(path.encode()))
        return jax.random.uniform(own, leaf.shape, leaf.dtype, -bound, bound)

    return {path: one(path, leaf) for path, leaf in abstract.items()}


def removed(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables without it: the model as it was."""
    return {path: x for path, x in variables.items() if not path.startswith(COLLECTION)}


def scaled(variables: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """The variables with s A B in the place of A B; at 0 without them."""
    if scale == 0:
        return removed(variables)
    if scale == 1:
        return dict(variables)
    ends = lambda path: path.startswith(COLLECTION) and path.endswith("/b")  # noqa: E731
    return {path: x * scale if ends(path) else x for path, x in variables.items()}


def merged(variables: Mapping[str, Any], lora: Lora, scale: float = 1.0) -> dict[str, Any]:
    """The variables without it, and each kernel W + s (alpha / rank) A B, summed in float32.

    Of unrolled or of stacked layers. At s = 0 every kernel is as it was.
    """
    if scale == 0:
        return removed(variables)
    made, factor = removed(variables), scale * lora.scale
    for kernel in list(made):
        a, b = paths_of(kernel)
        if kernel.endswith(KERNEL) and a in variables:
            added = factor * jnp.matmul(variables[a], variables[b], precision="highest")
            made[kernel] = (made[kernel].astype(jnp.float32) + added).astype(made[kernel].dtype)
    return made

"""How activations lie on the mesh: the axes that models name, by the rules in force.

Rows and a matrix that is cut over devices are multiplied in one of two ways:

rows stay      every device gathers the matrix and multiplies its own rows: cheap where there are
               many rows, as in the layers while training
weights stay   every device gathers the rows and multiplies them with its part of the matrix, and
               the results go back to where the rows lie: cheap where there are few rows, as in
               each step of decoding, or where the matrix is large, as the vocabulary head is

The rules are made for the first; `weights_stay` changes them to the second. Names that it changes:
the axes of matrices, and `dense_batch`, the rows that a matrix meets.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

ANY = PartitionSpec.UNCONSTRAINED  # an axis that the compiler may lay out
HIDDEN = ("batch", "length", "activation_embed")
HEAD = ("embed", "vocab")
# The rows of a mesh's group whose devices share one model, and what all devices of a group cut.
STAYING = {"dense_batch": "group_batch", "embed": None} | dict.fromkeys(
    ("vocab", "mlp", "joined_kv"), "group"
)


@contextlib.contextmanager
def weights_stay() -> Iterator[None]:
    """Rules under which matrices stay where they are and rows move, for what is traced inside."""
    rules = dict(nn.get_logical_axis_rules())
    changed = {name: rules.get(there) for name, there in STAYING.items()}
    with nn.logical_axis_rules(list((rules | changed).items())):
        yield


def lay_out(x: Shaped[Array, "..."], axes: Sequence[Any]) -> Shaped[Array, "..."]:
    """Lays an array out on the mesh, by the names of its axes and the rules in force.

    In the place of a name may be what `cut` says, None (whole) or ANY.

    Flax drops a constraint in silence where no mesh is set, and XLA then chooses: every device may
    compute with the whole batch. So that is an error where there are several devices.

    Raises:
      RuntimeError: the model is traced outside of `training.use`, on several devices.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        if jax.device_count() > 1:
            raise RuntimeError(
                "the model is traced without a mesh, so its activations would not be sharded: trace"
                " it inside promot_jax.training.use(mesh)"
            )
        return x
    places = [
        cut(name, size) if isinstance(name, str) else name
        for name, size in zip(axes, x.shape, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*places))


def cut(name: str, size: int | None = None) -> tuple[str, ...]:
    """The mesh axes that cut an axis of this name.

    Where they do not divide its `size` together, the last of them alone, and the compiler pads; but
    heads, of which a part is of no use, by the first ones that do.
    """
    place, mesh = nn.logical_to_mesh_axes((name,))[0], jax.sharding.get_abstract_mesh()
    axes = () if place is None or mesh.empty else (place,) if isinstance(place, str) else place
    if size is None or size % _sizes(mesh, axes) == 0:
        return axes
    if name not in ("heads", "kv_heads"):
        return axes[-1:]
    while size % _sizes(mesh, axes):
        axes = axes[:-1]
    return axes


def parts(name: str) -> int:
    """In how many parts the mesh cuts an axis of this name."""
    return _sizes(jax.sharding.get_abstract_mesh(), cut(name))


def _sizes(mesh: Any, axes: Sequence[str]) -> int:
    return math.prod(mesh.shape[axis] for axis in axes)


def constrain(
    module: nn.Module, x: Shaped[Array, "..."], axes: Sequence[Any]
) -> Shaped[Array, "..."]:
    """`lay_out` in a module, but not of the one row that it is initialised with."""
    return x if module.is_initializing() else lay_out(x, axes)


def in_rows(tree: Any, axis: int = 0) -> Any:
    """Lays this axis of every array out as the batch; the others as the compiler likes."""

    def place(x):
        names = [ANY] * x.ndim
        names[axis] = "batch"
        return lay_out(x, names)

    return jax.tree.map(place, tree)


def by_row(function: Callable[[Array], Any], x: Shaped[Array, "batch ..."]) -> Any:
    """`function(x)`, which computes each row by itself; every device its own.

    For what XLA does not cut by itself: on CPUs and GPUs it gathers what `top_k` sorts.
    """
    if parts("batch") == 1 or len(x) % parts("batch"):
        return function(x)
    spec = PartitionSpec(cut("batch"))
    return jax.shard_map(function, in_specs=spec, out_specs=spec, check_vma=False)(x)


def platform() -> str:
    """What is traced for: the mesh's devices, which need not be here, or the ones that are."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform

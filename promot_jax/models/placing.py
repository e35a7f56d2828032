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
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

ANY = PartitionSpec.UNCONSTRAINED  # an axis that the compiler may lay out
HIDDEN = ("batch", "length", "activation_embed")
# The rows of a mesh's group whose devices share one model, and what all devices of a group cut.
STAYING = {"dense_batch": "group_batch", "embed": None} | dict.fromkeys(
    ("vocab", "mlp", "joined_kv"), "group"
)
MAY_BE_UNEVEN = ("batch", "dense_batch")  # there is a check of them, with a message


@contextlib.contextmanager
def weights_stay() -> Iterator[None]:
    """Rules under which matrices stay where they are and rows move, for what is traced inside."""
    rules = dict(nn.get_logical_axis_rules())
    changed = {name: rules.get(there) for name, there in STAYING.items()}
    with nn.logical_axis_rules(list((rules | changed).items())):
        yield


def lay_out(x: Shaped[Array, "..."], axes: Sequence[Any]) -> Shaped[Array, "..."]:
    """Lays an array out on the mesh, by the names of its axes and the rules in force.

    A name is cut over fewer of its mesh axes where they do not divide it, such as the few key and
    value heads of a decoder. Flax drops a constraint in silence where no mesh is set, and XLA then
    chooses: every device may compute with the whole batch. So that is an error where there are
    several devices.

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
        place if name in MAY_BE_UNEVEN or name is ANY else _dividing(mesh, place, size)
        for name, place, size in zip(axes, nn.logical_to_mesh_axes(axes), x.shape, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*places))


def _dividing(mesh: Any, place: Any, size: int) -> tuple[str, ...]:
    """The first axes of a place whose sizes divide the array's."""
    axes = () if place is None else (place,) if isinstance(place, str) else place
    while size % math.prod(mesh.shape[axis] for axis in axes):
        axes = axes[:-1]
    return axes


def parts(name: str) -> int:
    """In how many parts the mesh cuts an axis of this name."""
    mesh, place = jax.sharding.get_abstract_mesh(), nn.logical_to_mesh_axes((name,))[0]
    if mesh.empty or place is None:
        return 1
    return math.prod(mesh.shape[axis] for axis in ((place,) if isinstance(place, str) else place))


def constrain(
    module: nn.Module, x: Shaped[Array, "..."], axes: Sequence[Any]
) -> Shaped[Array, "..."]:
    """`lay_out` in a module, but not of the one row that it is initialised with."""
    return x if module.is_initializing() else lay_out(x, axes)


def in_rows(tree: Any) -> Any:
    """Lays the first axis of every array out as the batch; the others as the compiler likes."""
    return jax.tree.map(lambda x: lay_out(x, ("batch", *[ANY] * (x.ndim - 1))), tree)


def platform() -> str:
    """What is traced for: the mesh's devices, which need not be here, or the ones that are."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform

"""Devices as a mesh (slice, data, fsdp, tensor), and along which an axis of an array lies.

Models name the axes of their arrays ("embed", "mlp", "batch"); the one table below says where each
name goes. `data` replicates the model, `fsdp` cuts parameters and optimizer state and, like `data`,
the batch, `tensor` cuts heads, MLP and vocabulary. `slice` is a `data` between groups of devices
that are far from each other, such as slices of TPUs joined by a data centre's network: nothing but
gradients goes between them.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from promot_jax.errors import UserError

AXES = ("slice", "data", "fsdp", "tensor")
BATCH = ("slice", "data", "fsdp")
GROUP = ("tensor", "fsdp")  # devices that share one copy of the model
RULES = {
    "batch": BATCH,
    "dense_batch": BATCH,
    "group_batch": ("slice", "data"),
    "group": GROUP,
    "embed": "fsdp",
    "vocab": "tensor",
    "mlp": "tensor",
    "joined_kv": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
}


def make_mesh(
    shape: Mapping[str, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh of all devices; an axis of -1 takes what the others leave, absent ones are 1.

    `slice` is, where it is absent, the number of slices of TPUs. Elsewhere devices are cut into as
    many groups as it says, by what they say themselves of slices, then by process.

    Raises:
      UserError: unknown axis, sizes that do not multiply to the number of devices, or another
        number of slices than the TPUs have.
    """
    devices = jax.devices() if devices is None else devices
    given = {"data": -1} if shape is None else dict(shape)
    if unknown := set(given) - set(AXES):
        raise UserError(f"MESH has the axis {sorted(unknown)[0]!r}: the axes are {', '.join(AXES)}")
    there = _slices(devices)
    sizes = dict.fromkeys(AXES, 1) | {"slice": there} | given
    known = int(np.prod([size for size in sizes.values() if size != -1]))
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) == 1 and known > 0 and len(devices) % known == 0:
        sizes[free[0]] = len(devices) // known
    if any(size < 1 for size in sizes.values()) or np.prod(list(sizes.values())) != len(devices):
        raise UserError(
            f"MESH = {given} does not fit {len(devices)} devices"
            f"{f' in {there} slices' if there > 1 else ''}: its sizes must"
            f" multiply to {len(devices)} (one of them may be -1, for what the others leave)"
        )
    if there > 1 and sizes["slice"] != there:
        raise UserError(
            f"MESH has slice = {sizes['slice']}, but the devices are of {there} slices: leave"
            " slice out, which takes as many as there are"
        )
    return Mesh(_arranged(devices, sizes), AXES, axis_types=(jax.sharding.AxisType.Auto,) * 4)


def _slices(devices: Sequence[jax.Device]) -> int:
    """Of how many slices TPUs are; other devices are of one, whatever they are joined by."""
    if devices[0].platform != "tpu":
        return 1
    return len({getattr(device, "slice_index", 0) for device in devices})


def _arranged(devices: Sequence[jax.Device], sizes: Mapping[str, int]) -> np.ndarray:
    """The devices as an array with the mesh's axes; neighbours in it are near within each slice."""
    place = lambda device: (getattr(device, "slice_index", 0), device.process_index, device.id)  # noqa: E731
    if sizes["slice"] > 1:
        devices = sorted(devices, key=place)
    parts = np.split(np.asarray(devices), sizes["slice"])
    within = tuple(sizes[axis] for axis in AXES[1:])
    return np.stack(
        [
            mesh_utils.create_device_mesh(within, list(part), allow_split_physical_axes=True)
            for part in parts
        ]
    )


@contextlib.contextmanager
def use(mesh: Mesh) -> Iterator[None]:
    """Makes the models' axis names mean `mesh` for everything traced inside.

    `with mesh:` would not do: Flax looks for the mesh that `jax.set_mesh` sets, and where there is
    none it drops the models' constraints.
    """
    with jax.set_mesh(mesh), nn.logical_axis_rules(list(RULES.items())):
        yield


def shardings(
    mesh: Mesh, abstract: Mapping[str, jax.ShapeDtypeStruct], axes: Mapping[str, Sequence[str]]
) -> dict[str, NamedSharding]:
    """The sharding of every array, from the names of its axes.

    Raises:
      UserError: an axis is not divisible by its part of the mesh, or two axes of one array would
        lie along the same one.
    """
    result = {}
    for path, leaf in abstract.items():
        spec = [RULES.get(name) for name in axes[path]]
        used = [axis for axis in spec if axis is not None]
        if len(used) != len(set(used)):
            raise UserError(
                f"{path}: two of its axes {tuple(axes[path])} lie along one mesh axis: change RULES"
            )
        for size, name, axis in zip(leaf.shape, axes[path], spec, strict=True):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"MESH has {axis} = {mesh.shape[axis]}, which does not divide the {name} axis"
                    f" ({size}) of {path}: choose a divisor of {size}"
                )
        result[path] = NamedSharding(mesh, PartitionSpec(*spec))
    return result


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: Mesh) -> int:
    """In how many parts the mesh cuts a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def check_batch(mesh: Mesh, batch_size: int, setting: str, parts: int = 1) -> None:
    """Raises UserError unless `batch_size` divides into `parts` and then among the devices."""
    shards = batch_shards(mesh)
    if batch_size < 1 or batch_size % (shards * parts):
        per = f" x {parts} accumulation steps" if parts > 1 else ""
        raise UserError(
            f"{setting} = {batch_size} is not a multiple of the mesh's {' x '.join(BATCH)} ="
            f" {shards}{per}:"
            f" set a multiple of {shards * parts}"
        )


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """The rows of a global batch that lie on this host's devices, with any between them.

    Hosts share rows where the mesh cuts the model, not the batch, between them.
    """
    places = NamedSharding(mesh, PartitionSpec(BATCH)).addressable_devices_indices_map(
        (batch_size,)
    )
    starts, stops, _ = zip(
        *(index[0].indices(batch_size) for index in places.values()), strict=True
    )
    return slice(min(starts), max(stops))


def place_batch(mesh: Mesh, batch: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Global arrays, cut along the batch axis, from the `local_rows` of a batch.

    A batch may have further ones in it, of other sizes.
    """
    sharding, local = NamedSharding(mesh, PartitionSpec(BATCH)), local_rows(mesh, batch_size)

    def place(rows: Shaped[np.ndarray, "rows length"]) -> Shaped[Array, "batch length"]:
        # Of every batch hosts have the same share.
        size = len(rows) * batch_size // (local.stop - local.start)
        begin = local.start * size // batch_size

        def cut(index):
            start, stop, _ = index[0].indices(size)
            return rows[start - begin : stop - begin]

        return jax.make_array_from_callback((size, *rows.shape[1:]), sharding, cut)

    return jax.tree.map(place, dict(batch))

"""Sums of arrays' exact bits: what tells a damaged checkpoint, and a base that is another now.

Every element's bits, with its position, go through a function that maps no two values to one, and
the results are summed modulo 2^32. So one element that differs is always seen, any other difference
but once in 2^32. Integer sums are exact in any order: each device sums its own part, no array is
gathered, and the sum is the same on every mesh.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped, UInt32

from promot_jax.models import Variables
from promot_jax.models.names import STACK, layers_of

SMALL = 1 << 20  # bytes


def bit_sum(array: Shaped[Array, "..."]) -> UInt32[Array, ""]:
    """The sum of one array, of any type of 1, 2, 4 or 8 bytes (to be traced)."""
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    kinds = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}  # 8: one more axis of 2
    bits = jax.lax.bitcast_convert_type(array, kinds[array.dtype.itemsize]).astype(jnp.uint32)
    position = jnp.uint32(0)
    for axis, size in enumerate(bits.shape):
        along = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        position = position * np.uint32(size) + along
    return jnp.sum(_mixed(bits + position * np.uint32(0x9E3779B1)), dtype=jnp.uint32)


def _mixed(x: UInt32[Any, "..."]) -> UInt32[Any, "..."]:
    """The finalizer of MurmurHash3 (Appleby, public domain), a permutation of 32 bits."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _small_sum(array: Shaped[np.ndarray, "..."]) -> int:
    """`bit_sum` without a program, which takes longer to compile than a small array to read."""
    kinds = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
    bits = np.ascontiguousarray(array).reshape(-1).view(kinds[array.dtype.itemsize])
    bits = bits.astype(np.uint32)
    position = np.arange(bits.size, dtype=np.uint32)
    return int(np.sum(_mixed(bits + position * np.uint32(0x9E3779B1)), dtype=np.uint32))


# One program for each shape, type and sharding, of which a model has few.
_sum = jax.jit(bit_sum)
_sums_of_layers = jax.jit(jax.vmap(bit_sum))


def sums(arrays: Mapping[str, Array]) -> dict[str, str]:
    """What `described` says of each array, and its sum: `float32[4,8] 9f3c01d2`."""
    # One after the other: two of these programs at a time, each of which sums over all devices,
    # wait for each other for ever on CPU devices that have fewer threads than programs.
    return {path: f"{described(x)} {_sum_of(x):08x}" for path, x in arrays.items()}


def _sum_of(array: Array) -> int:
    here = getattr(array, "is_fully_addressable", True)  # NumPy's arrays are
    if here and array.nbytes <= SMALL:
        return _small_sum(np.asarray(array))
    return int(_sum(array))


def described(array: Array | jax.ShapeDtypeStruct) -> str:
    """Type and shape, as in `float32[4,8]`."""
    return f"{jnp.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


def parsed(entry: str) -> jax.ShapeDtypeStruct:
    """Type and shape of an entry of `sums`."""
    kind, _, sizes = entry.split(" ")[0].removesuffix("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(map(int, filter(None, sizes.split(",")))), jnp.dtype(kind))


def digest(variables: Variables) -> str:
    """A fingerprint of variables, the same on every mesh, for scanned and for unrolled layers."""
    layers = {path: x for path, x in variables.items() if STACK in path}
    found = sums({path: x for path, x in variables.items() if path not in layers})
    for path, x in layers.items():
        kind = described(jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
        of_layers = jax.device_get(_sums_of_layers(x))
        for name, each in zip(layers_of(path, x.shape), of_layers, strict=True):
            found[name] = f"{kind} {int(each):08x}"
    lines = "\n".join(f"{path} {found[path]}" for path in sorted(found))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]

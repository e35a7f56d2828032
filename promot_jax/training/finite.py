"""Whether numbers are still numbers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


@jax.jit
def all_finite(arrays: Any) -> Bool[Array, ""]:
    """Whether no array holds NaN or infinity; each device looks at its own part."""
    floats = (x for x in jax.tree.leaves(arrays) if jnp.isdtype(x.dtype, "real floating"))
    return functools.reduce(jnp.logical_and, (jnp.isfinite(x).all() for x in floats), True)

"""Rotary position embeddings (Su et al. 2021), in the half-split layout of Transformers.

A head's vector is d/2 pairs, dimension i with dimension i + d/2; a token at position p turns pair i
by the angle p * theta^(-2i/d). Frequencies, angles and products are float32, whatever the
activations are: in bfloat16 positions beyond 256 would no longer be told apart.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from promot_jax.models.config import RopeScaling

Table = tuple[Float[Array, "batch 1 length half"], Float[Array, "batch 1 length half"]]


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> Float[np.ndarray, " half"]:
    """The angle that one position adds to each pair, rounded step by step as Transformers do."""
    powers = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    inverse = np.float32(1.0) / np.power(np.float64(theta), powers).astype(np.float32)
    if scaling is None:
        return inverse
    factor = np.float32(scaling.factor)
    if scaling.rope_type == "linear":
        return inverse / factor
    wavelength = np.float32(2 * np.pi) / inverse
    original = np.float32(scaling.original_max_position_embeddings)
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * inverse / factor + smooth * inverse
    result = np.where(wavelength > original / low, inverse / factor, inverse)
    between = (wavelength <= original / low) & (wavelength >= original / high)
    return np.where(between, blended, result).astype(np.float32)


def table(positions: Int[Array, "batch length"], inverse: Float[np.ndarray, " half"]) -> Table:
    """Cosines and sines of every position, for `rotate`."""
    angles = positions[:, None, :, None].astype(jnp.float32) * inverse
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "batch heads length head_dim"], table: Table
) -> Float[Array, "batch heads length head_dim"]:
    """Turns every pair of dimensions by its angle."""
    cos, sin = table
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)

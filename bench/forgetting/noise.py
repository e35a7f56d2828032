"""Noise on a tuned prompt, as one of the ways of `training.transforms`."""

import jax
import jax.numpy as jnp

from promot_jax.training.transforms import Change

MOST = 2.0  # with nothing kept


def noise(seed: int = 0) -> Change:
    """after + MOST (1 - kept) rms(after) n, with n from a normal distribution of variance 1: with 1
    the tuned prompt bit by bit, with less of it ever more of the same noise.
    """

    def change(before, after, kept, place):
        del before, place
        size = MOST * (1 - kept) * jnp.sqrt(jnp.mean(jnp.square(after)))
        return after + size * jax.random.normal(jax.random.key(seed), after.shape, after.dtype)

    return change

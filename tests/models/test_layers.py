"""What layers keep for the gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from tiny_models import tiny

from promot_jax.models.layers import MLP, RMSNorm


def kept(layer: nn.Module, x: jax.Array) -> dict[tuple, int]:
    """Shapes of what stays between the forward pass and the backward one, and how many."""
    variables = nn.meta.unbox(layer.init(jax.random.key(0), x))
    _, backward = jax.vjp(layer.apply, variables, x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(backward)]
    return {shape: shapes.count(shape) for shape in shapes}


@pytest.mark.parametrize("offset", [False, True])
def test_a_norm_keeps_its_input_alone(offset):
    x = jnp.ones((2, 3, 8))
    assert kept(RMSNorm(tiny().config, offset=offset), x) == {x.shape: 1, (8,): 1}


@pytest.mark.parametrize("activations", [("gelu", "linear"), ("silu", "linear"), ("gelu",)])
def test_an_mlp_keeps_its_projections_and_their_product(activations):
    config = tiny().config
    x = jnp.ones((2, 3, config.emb_dim))
    found = kept(MLP(config, activations), x)
    assert found[2, 3, config.mlp_dim] == len(activations) + 1

"""Settings that change no result (scan, remat), and the other members of the family."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import batch_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import (
    T5Config,
    abstract,
    init,
    logical_axes,
    loss,
    nested,
    stack_layers,
    unstack_layers,
)

SCAN = {"scan_layers": True}
REMAT = {"remat": True}


def measure(model, variables, batch, key=None):
    """Logits, and the loss's value and gradients, with dropout where there is a key."""

    @jax.jit
    def all_of_it(variables):
        total = lambda v: loss(model, v, batch, key, 0.1, 1e-4)[0]  # noqa: E731
        logits = model.apply(nested(variables), batch, key)
        return logits, *jax.value_and_grad(total)(variables)

    return all_of_it(variables)


@pytest.fixture(scope="module")
def unrolled():
    """What the unrolled model computes, with dropout."""
    model = tiny(dropout_rate=0.3)
    return measure(model, variables_of(model), batch_of(), jax.random.key(7))


@pytest.mark.parametrize("changes", [SCAN, REMAT, SCAN | REMAT], ids=["scan", "remat", "both"])
def test_scan_and_remat_change_nothing(unrolled, changes):
    """With dropout: the same key drops the same units."""
    model = tiny(dropout_rate=0.3, **changes)
    logits, value, gradients = measure(model, variables_of(model), batch_of(), jax.random.key(7))
    expected_logits, expected_value, expected_gradients = unrolled
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    gradients = unstack_layers(gradients)
    assert gradients.keys() == expected_gradients.keys()
    for path, expected in expected_gradients.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradients[path], expected, atol=1e-4 * scale, err_msg=path)


def test_dropout_depends_on_its_key_alone():
    model = tiny(dropout_rate=0.3)
    variables, batch = nested(variables_of(model)), batch_of()
    apply = jax.jit(lambda key=None: model.apply(variables, batch, key))
    first, again, other = (np.asarray(apply(jax.random.key(n))) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, apply())  # no key: nothing is dropped


def test_stacking_and_back():
    variables = variables_of(tiny())
    stacked = stack_layers(variables)
    assert "params/encoder/layers/mlp/wo/kernel" in stacked
    back = unstack_layers(stacked)
    assert back.keys() == variables.keys()
    assert all(np.array_equal(back[path], variables[path]) for path in variables)


@pytest.mark.parametrize("changes", [{}, SCAN, {"relpos_per_layer": True} | SCAN, REMAT])
def test_shapes_at_no_cost_are_those_of_init(changes):
    model = tiny(**changes)
    real = jax.jit(lambda key: init(model, key))(jax.random.key(0))  # op by op it takes seconds
    planned, axes = abstract(model), logical_axes(model)
    assert {p: (x.shape, x.dtype) for p, x in real.items()} == {
        p: (x.shape, x.dtype) for p, x in planned.items()
    }
    assert {p: len(names) for p, names in axes.items()} == {p: x.ndim for p, x in real.items()}


def test_random_variables_are_the_same_scanned():
    unrolled, scanned = (init(tiny(**changes), jax.random.key(3)) for changes in ({}, SCAN))
    back = unstack_layers(scanned)
    assert all(np.array_equal(back[path], unrolled[path]) for path in unrolled)


def test_umt5_has_a_position_table_in_every_layer():
    model, scanned = (tiny(relpos_per_layer=True, **changes) for changes in ({}, SCAN))
    variables, batch = variables_of(model), batch_of()
    tables = sorted(path for path in variables if "relpos_bias" in path)
    assert len(tables) == 4 and all("/layers_" in path for path in tables)
    _, value, gradients = measure(scanned, stack_layers(variables), batch)
    gradients = unstack_layers(gradients)
    assert all(np.abs(gradients[path]).max() > 0 for path in tables)
    np.testing.assert_allclose(value, value_of(model, variables, batch), rtol=1e-5)


def value_of(model, variables, batch) -> float:
    """The loss alone."""
    return jax.jit(lambda v: loss(model, v, batch, None, 0.1, 1e-4)[0])(variables)


def test_t5_1_0_has_one_projection_and_a_tied_head():
    model = tiny(mlp_activations=("relu",), logits_via_embedding=True)
    variables, batch = variables_of(model), batch_of()
    assert "params/encoder/layers_0/mlp/wi/kernel" in variables
    assert not any("logits_dense" in path for path in variables)
    both = lambda module, batch: (module.hidden(batch), module(batch))  # noqa: E731
    hidden, logits = jax.jit(lambda v: model.apply(nested(v), batch, method=both))(variables)
    table = variables["params/token_embedder/embedding"]
    np.testing.assert_allclose(logits, hidden @ table.T / np.sqrt(16), rtol=1e-4, atol=1e-4)


def test_bfloat16_activations_stay_near():
    batch, results = batch_of(), []
    for dtype in ("float32", "bfloat16"):
        model = tiny(dtype=dtype)
        variables = variables_of(model)
        results.append(jax.jit(lambda v, m=model: m.apply(nested(v), batch))(variables))
    expected, logits = results
    assert logits.dtype == jnp.float32
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_bfloat16_parameters():
    model = tiny(dtype="bfloat16", param_dtype="bfloat16", scan_layers=True)
    variables = variables_of(model)
    for path, x in variables.items():
        assert x.dtype == (jnp.float32 if path.startswith("prompt/") else jnp.bfloat16)
    _, value, gradients = measure(model, variables, batch_of(), jax.random.key(0))
    assert np.isfinite(value)
    for path, gradient in gradients.items():
        assert gradient.dtype == variables[path].dtype
        assert np.isfinite(gradient.astype(float)).all()


def test_padding_changes_nothing():
    """Longer padding of inputs and targets leaves the loss as it is."""
    model = tiny(scan_layers=True)
    variables, batch = variables_of(model), batch_of()
    padded = {key: np.pad(value, ((0, 0), (0, 5))) for key, value in batch.items()}
    values = [value_of(model, variables, b) for b in (batch, padded)]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "T5Config.num_heads = 0"),
        ({"emb_dim": 1.5}, "T5Config.emb_dim = 1.5"),
        ({"mlp_activations": ("gelu", "tanh")}, "T5Config.mlp_activations"),
        ({"mlp_activations": ()}, "T5Config.mlp_activations"),
        ({"dropout_rate": 1.0}, "T5Config.dropout_rate = 1.0"),
        ({"dtype": "float16"}, "T5Config.dtype = 'float16'"),
        ({"param_dtype": "int8"}, "T5Config.param_dtype = 'int8'"),
    ],
)
def test_what_no_t5_can_have(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(tiny().config, **changes)


def test_lists_from_files_become_tuples():
    sizes = dict.fromkeys([field.name for field in dataclasses.fields(T5Config)[:7]], 2)
    assert T5Config(**sizes, mlp_activations=["relu"]).mlp_activations == ("relu",)

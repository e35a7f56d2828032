"""What becomes of tuned weights: each transform against its formula, written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from promot_jax.errors import UserError
from promot_jax.models import stack_layers
from promot_jax.training.transforms import half_reset, lines, places, transformed, wise_ft

DEPTHS = {  # of a T5 with an encoder of three layers and a decoder of two: layer 1 to 5
    "params/token_embedder/embedding": 0,
    "params/encoder/relpos_bias/rel_embedding": 0,
    "params/encoder/layers_0/mlp/wo/kernel": 0,
    "params/encoder/layers_1/mlp/wo/kernel": 1 / 4,
    "params/encoder/layers_2/mlp/wo/kernel": 2 / 4,
    "params/encoder/encoder_norm/scale": 2 / 4,
    "params/decoder/relpos_bias/rel_embedding": 3 / 4,
    "params/decoder/layers_0/mlp/wo/kernel": 3 / 4,
    "params/decoder/layers_1/mlp/wo/kernel": 1,
    "lora/decoder/layers_0/mlp/wo/b": 3 / 4,
    "lora/decoder/layers_1/mlp/wo/b": 1,
    "params/decoder/decoder_norm/scale": 1,
    "params/decoder/logits_dense/kernel": 1,
}


@pytest.fixture(scope="module")
def weights():
    """Before and after training; with what no arithmetic keeps: a negative zero, tiny and huge."""
    rng = np.random.default_rng(0)
    before, after = (
        {path: rng.normal(size=(4, 3)).astype(np.float32) for path in DEPTHS} for _ in range(2)
    )
    for x, y in ((before, after), (after, before)):
        x["params/token_embedder/embedding"][0] = -0.0, 1e-40, 3e38
        y["params/token_embedder/embedding"][1] = 1, 1, -3e38
    return before, after


def on_device(variables, scanned=False, dtype=jnp.float32):
    variables = {path: jnp.asarray(x, dtype) for path, x in variables.items()}
    return stack_layers(variables) if scanned else variables


def changed(change, weights, kept, scanned=False, seed=0, dtype=jnp.float32):
    before, after = (on_device(x, scanned, dtype) for x in weights)
    return transformed(change, before, after, kept, places(list(after), after, seed))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("change", [wise_ft(), half_reset()])
def test_the_ends_are_exact(weights, change, scanned, dtype):
    for kept, whole in zip((0.0, 1.0), weights, strict=True):
        found = changed(change, weights, kept, scanned, dtype=dtype)
        for path, x in on_device(whole, scanned, dtype).items():
            assert np.asarray(found[path]).tobytes() == np.asarray(x).tobytes(), path


def test_wise_ft(weights):
    found = changed(wise_ft(), weights, 0.3)
    for path, x in found.items():
        before, after = (each[path].astype(np.float64) for each in weights)
        np.testing.assert_allclose(x, before + 0.3 * (after - before), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("kept", "slope"), [(0.0, None), (0.2, None), (0.1, 0.5)])
def test_lines(weights, kept, slope):
    found = changed(lines(slope), weights, kept)
    assert found.keys() == DEPTHS.keys()
    for path, depth in DEPTHS.items():
        before, after = (each[path].astype(np.float64) for each in weights)
        share = kept + (1 - kept if slope is None else slope) * depth
        expected = before + share * (after - before)
        np.testing.assert_allclose(found[path], expected, rtol=2e-6, atol=1e-6, err_msg=path)


def test_half_reset(weights):
    """So many arrays as were asked for, whole; with less kept the same ones and more."""
    before, after = weights
    reset = {}
    for kept in (0.25, 0.5, 0.75):
        found = changed(half_reset(), weights, kept)
        back = {path for path in found if np.array_equal(found[path], before[path])}
        assert all(np.array_equal(found[p], after[p]) for p in found.keys() - back)
        assert abs(len(back) - (1 - kept) * len(found)) <= 0.5
        reset[kept] = back
    assert reset[0.75] < reset[0.5] < reset[0.25]
    other = changed(half_reset(), weights, 0.5, seed=1)
    assert {p for p in other if np.array_equal(other[p], before[p])} != reset[0.5]


@pytest.mark.parametrize("change", [wise_ft(), lines(), half_reset()])
def test_scanned_layers_are_those_of_unrolled_ones(weights, change):
    unrolled = stack_layers(changed(change, weights, 0.5))
    scanned = changed(change, weights, 0.5, scanned=True)
    assert scanned.keys() == unrolled.keys()
    for path, x in scanned.items():
        np.testing.assert_array_equal(x, unrolled[path], err_msg=path)


def test_a_slope_out_of_range():
    with pytest.raises(UserError, match="lines.slope = 1.5: set 0 to 1"):
        lines(1.5)

"""The comparison of gradients: what is compared with what."""

import numpy as np
import pytest

from bench.forgetting import alignment


def test_shuffled_labels_stand_behind_the_same_inputs():
    batch = {
        "encoder_input_tokens": np.arange(12).reshape(6, 2),
        "decoder_target_tokens": np.arange(6)[:, None],
        "decoder_loss_weights": np.arange(6.0)[:, None],
    }
    found = alignment.shuffled(batch, 0)
    assert (found["encoder_input_tokens"] == batch["encoder_input_tokens"]).all()
    targets = found["decoder_target_tokens"][:, 0]
    assert sorted(targets) == list(range(6))
    assert (targets != np.arange(6)).any()
    assert (found["decoder_loss_weights"][:, 0] == targets).all()  # a row's own all together


def test_cosines_by_hand():
    a = {"x": np.array([[1.0, 0.0]]), "y": np.array([3.0, 4.0])}
    b = {"x": np.array([[0.0, 2.0]]), "y": np.array([6.0, 8.0])}
    found = alignment.cosines(a, b)
    assert (float(found["x"]), float(found["y"])) == pytest.approx((0.0, 1.0))


def test_kernels_of_the_last_decoder_layer_are_compared():
    paths = [
        "params/encoder/layers_1/mlp/wo/kernel",
        "params/decoder/layers_0/mlp/wo/kernel",
        "params/decoder/layers_1/mlp/wo/kernel",
        "params/decoder/layers_1/pre_mlp_layer_norm/scale",
    ]
    assert alignment.of_last_layer(paths) == [paths[2]]


def test_a_gradient_agrees_with_itself_more_than_with_shuffled_labels():
    """On made-up gradients of a linear model, in place of the network's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "of_last_layer", list)
        patch.setattr(
            alignment,
            "gradient",
            lambda model, trained, frozen, batch: {
                "w": (batch["x"] * batch["decoder_target_tokens"]).mean(axis=0)
            },
        )
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8, 64, 30))
        y = x @ np.ones((30, 1))
        batches = [{"x": a, "decoder_target_tokens": b} for a, b in zip(x, y, strict=True)]
        found = alignment.compared(None, {"w": 0}, {}, batches, 0)
    assert found["true"] > 0.4
    assert abs(found["shuffled"]) < 0.5
    assert abs(found["other"]) < 0.3
    assert found["norms"] < 1

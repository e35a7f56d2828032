"""A tiny trained T5 1.1 gives what t5x and google's prompt-tuning compute from its weights."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promot_jax.models import T5, Decoding, T5Config, abstract, generate, generate_all, loss, nested

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
FIXTURE = SHARED / "fixtures" / "t5x_tiny"
pytestmark = pytest.mark.skipif(
    not FIXTURE.is_dir(), reason="t5x's results are not there (fixtures/t5x_tiny in PROMOT_SHARED)"
)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURE / f"{name}.npz") as file:
        return dict(file)


def batch_in(expected) -> dict[str, np.ndarray]:
    batch = {k.removeprefix("batch/"): v for k, v in expected.items() if k.startswith("batch/")}
    weights = batch["decoder_loss_weights"].astype(np.float32)
    return batch | {"decoder_loss_weights": weights}


@pytest.fixture(scope="module")
def config():
    values = json.loads((FIXTURE / "config.json").read_text())
    names = T5Config.__dataclass_fields__
    return T5Config(**{name: value for name, value in values.items() if name in names})


@pytest.fixture(scope="module")
def variables():
    named = arrays("params_flat").items()
    return {f"params/{k.removeprefix('target/')}": jnp.asarray(v) for k, v in named}


@pytest.fixture(scope="module")
def expected():
    return arrays("expected")


@pytest.fixture(scope="module")
def with_prompt(variables):
    expected = arrays("expected_prompt")
    return expected, variables | {"prompt/p": jnp.asarray(expected["prompt"])}


def test_paths_and_shapes_are_t5x_s(config, variables):
    ours = {path: leaf.shape for path, leaf in abstract(T5(config)).items()}
    assert ours == {path: leaf.shape for path, leaf in variables.items()}


def test_encoder_logits_and_loss(config, variables, expected):
    model, batch = T5(config), batch_in(expected)
    inputs = batch["encoder_input_tokens"]
    encoded = model.apply(nested(variables), inputs, method="encode")
    real = inputs > 0
    np.testing.assert_allclose(encoded[real], expected["encoded"][real], **CLOSE)
    logits = model.apply(nested(variables), batch)
    real = batch["decoder_loss_weights"] > 0
    np.testing.assert_allclose(logits[real], expected["logits"][real], **CLOSE)
    total, _ = loss(model, variables, batch, z_loss=1e-4)
    np.testing.assert_allclose(total, expected["loss"], rtol=1e-5)


def test_greedy(config, variables, expected):
    inputs = batch_in(expected)["encoder_input_tokens"]
    ids, _ = generate(T5(config), variables, inputs, Decoding(expected["greedy"].shape[1]))
    np.testing.assert_array_equal(ids, expected["greedy"])


def test_beams(config, variables, expected):
    """T5X's beams are in ascending order."""
    inputs = batch_in(expected)["encoder_input_tokens"]
    decoding = Decoding(expected["beam4_ids"].shape[2], beams=4)
    ids, scores = generate_all(T5(config), variables, inputs, decoding)
    np.testing.assert_array_equal(ids, expected["beam4_ids"][:, ::-1])
    np.testing.assert_allclose(scores, expected["beam4_scores"][:, ::-1], rtol=1e-4)


def test_prompt_logits_and_loss(config, with_prompt):
    expected, variables = with_prompt
    model, batch = prompted(config, expected)
    real = batch["decoder_loss_weights"] > 0
    logits = model.apply(nested(variables), batch)
    np.testing.assert_allclose(logits[real], expected["logits"][real], **CLOSE)
    total, _ = loss(model, variables, batch, z_loss=1e-4)
    np.testing.assert_allclose(total, expected["loss"], rtol=1e-5)


def test_prompt_gradient(config, with_prompt):
    expected, variables = with_prompt
    model, batch = prompted(config, expected)

    def total(prompt):
        return loss(model, variables | {"prompt/p": prompt}, batch, z_loss=1e-4)[0]

    gradient = jax.jit(jax.grad(total))(jnp.asarray(expected["prompt"]))
    np.testing.assert_allclose(gradient, expected["grad_prompt"], rtol=1e-4, atol=1e-3)


def prompted(config, expected):
    """The model with the prompt, and the batch with the prompt's ids in front."""
    batch = batch_in(expected)
    length, tokens = len(expected["prompt"]), batch["encoder_input_tokens"]
    soft = config.vocab_size + np.arange(length, dtype=np.int32)
    tokens = np.concatenate([np.tile(soft, (len(tokens), 1)), tokens], axis=1)
    return T5(config, (("p", length),)), batch | {"encoder_input_tokens": tokens}

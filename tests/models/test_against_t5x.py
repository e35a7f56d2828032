"""A tiny trained T5 1.1 gives what t5x and google's prompt-tuning compute from its weights."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promot_jax.convert import t5x
from promot_jax.models import T5, Decoding, abstract, loss, nested
from tests.t5_batches import all_answers, answers, segments_of, with_segments

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
FIXTURE = SHARED / "fixtures" / "t5x_tiny"
pytestmark = pytest.mark.skipif(
    not FIXTURE.is_dir(), reason="t5x's results are not there (fixtures/t5x_tiny in PROMOT_SHARED)"
)


def close(found, expected) -> None:
    """Within 1e-5 of the largest number."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURE / f"{name}.npz") as file:
        return dict(file)


def batch_in(expected) -> dict[str, np.ndarray]:
    batch = {k.removeprefix("batch/"): v for k, v in expected.items() if k.startswith("batch/")}
    weights = batch["decoder_loss_weights"].astype(np.float32)
    return with_segments(batch | {"decoder_loss_weights": weights})


@pytest.fixture(scope="module")
def source():
    return t5x.read(str(FIXTURE / "legacy"))


@pytest.fixture(scope="module")
def config(source):
    return source.config


@pytest.fixture(scope="module")
def variables(source):
    return {path: jnp.asarray(tensor.read()) for path, tensor in source.tensors.items()}


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


def check_logits_and_loss(model, variables, batch, expected):
    """Both in one program."""
    both = jax.jit(lambda v, b: (model.apply(nested(v), b), loss(model, v, b, z_loss=1e-4)[0]))
    logits, total = both(variables, batch)
    real = batch["decoder_loss_weights"] > 0
    close(logits[real], expected["logits"][real])
    np.testing.assert_allclose(total, expected["loss"], rtol=1e-5)


def test_logits_and_loss(config, variables, expected):
    check_logits_and_loss(T5(config), variables, batch_in(expected), expected)


def test_encoder(config, variables, expected):
    inputs = batch_in(expected)["encoder_input_tokens"]
    encode = jax.jit(lambda v, x: T5(config).apply(nested(v), x, segments_of(x), method="encode"))
    encoded = encode(variables, inputs)
    close(encoded[inputs > 0], expected["encoded"][inputs > 0])


def test_greedy(config, variables, expected):
    inputs = batch_in(expected)["encoder_input_tokens"]
    ids, _ = answers(T5(config), variables, inputs, Decoding(expected["greedy"].shape[1]))
    np.testing.assert_array_equal(ids, expected["greedy"])


def test_beams(config, variables, expected):
    """T5X's beams are in ascending order."""
    inputs = batch_in(expected)["encoder_input_tokens"]
    decoding = Decoding(expected["beam4_ids"].shape[2], beams=4)
    ids, scores = all_answers(T5(config), variables, inputs, decoding)
    np.testing.assert_array_equal(ids, expected["beam4_ids"][:, ::-1])
    close(scores, expected["beam4_scores"][:, ::-1])


def test_prompt_logits_and_loss(config, with_prompt):
    expected, variables = with_prompt
    model, batch = prompted(config, expected)
    check_logits_and_loss(model, variables, batch, expected)


def test_prompt_gradient(config, with_prompt):
    expected, variables = with_prompt
    model, batch = prompted(config, expected)

    @jax.jit
    def gradient(prompt, variables, batch):
        total = lambda p: loss(model, variables | {"prompt/p": p}, batch, z_loss=1e-4)[0]  # noqa: E731
        return jax.grad(total)(prompt)

    close(gradient(variables["prompt/p"], variables, batch), expected["grad_prompt"])


def prompted(config, expected):
    """The model with the prompt, and the batch with the prompt's ids in front."""
    batch = batch_in(expected)
    length, tokens = len(expected["prompt"]), batch["encoder_input_tokens"]
    soft = config.vocab_size + np.arange(length, dtype=np.int32)
    tokens = np.concatenate([np.tile(soft, (len(tokens), 1)), tokens], axis=1)
    return T5(config, (("p", length),)), with_segments(batch | {"encoder_input_tokens": tokens})

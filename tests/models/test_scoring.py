"""Log-likelihoods of targets: what the full softmax says, however the positions are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import batch_of, tiny, variables_of

from promot_jax.models import Decoding, chunks, nested, score
from tests.t5_batches import answers

MODEL = tiny()
LENGTH = 7


@pytest.fixture(scope="module")
def batch():
    return batch_of(rows=4, inputs=10, targets=LENGTH, prompts=["first", None, "second", None])


@pytest.fixture(scope="module")
def variables():
    return variables_of(MODEL)


@pytest.mark.parametrize("chunk", [4096, 12, 1])
def test_the_full_softmax_says_the_same(variables, batch, chunk, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_TOKENS", chunk)
    targets = batch["decoder_target_tokens"]
    found, _ = jax.jit(lambda v: score(MODEL, v, batch))(variables)
    log_p = jax.nn.log_softmax(MODEL.apply(nested(variables), batch))
    each = np.take_along_axis(np.asarray(log_p), targets[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, (each * (targets > 0)).sum(axis=1), rtol=1e-5)


def test_what_greedy_search_finds(variables, batch):
    inputs = batch["encoder_input_tokens"]
    ids, scores = jax.jit(lambda v: answers(MODEL, v, inputs, Decoding(LENGTH)))(variables)
    other = np.array(ids)
    other[:2, 1] = np.where(other[:2, 1] == 5, 6, 5)  # one token of two rows

    @jax.jit
    def rated(variables, targets):
        previous = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
        weights = {"decoder_target_tokens": targets, "decoder_loss_weights": targets > 0}
        return score(MODEL, variables, batch | {"decoder_input_tokens": previous} | weights)

    found, greedy = rated(variables, ids)
    np.testing.assert_allclose(found, scores, rtol=1e-4)
    assert greedy.all()
    assert rated(variables, other)[1].tolist() == [False, False, True, True]

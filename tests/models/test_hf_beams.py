"""Beam search with Hugging Face's rules gives Transformers' beams, token for token."""

import functools

import hf_beams
import jax
import numpy as np
import pytest
from hf_beams import BEAMS, EOS, INPUTS, MODEL, SEARCHES, SEEDS

from promot_jax.models import Decoding
from tests.t5_batches import all_answers


@pytest.fixture(scope="module")
def expected():
    return hf_beams.expected()


@pytest.fixture(scope="module")
def run():
    """One compilation for each search, whatever the weights."""
    return jax.jit(functools.partial(all_answers, MODEL), static_argnums=2)


@pytest.mark.parametrize("k", range(len(SEARCHES)))
def test_all_beams(run, expected, k):
    length, penalty = SEARCHES[k]
    decoding = Decoding(length, BEAMS, length_penalty=penalty, beam_search="huggingface")
    for seed in SEEDS:
        ids, scores = run(hf_beams.variables(seed), INPUTS, decoding)
        np.testing.assert_array_equal(ids, expected[f"ids/{seed}/{k}"])
        np.testing.assert_allclose(scores, expected[f"scores/{seed}/{k}"], rtol=1e-4)


def test_some_outputs_end_and_some_do_not(expected):
    best = [ids[:, 0] for name, ids in expected.items() if name.startswith("ids") and "/0" in name]
    ended = np.concatenate([(ids == EOS).any(axis=1) for ids in best])
    assert ended.any() and not ended.all()


@pytest.mark.skipif(not hf_beams.INSTALLED, reason="needs torch and transformers: make parity")
def test_what_was_recorded_is_what_transformers_find(expected):
    with np.load(hf_beams.GOLDEN) as recorded:
        assert set(recorded) == set(expected)
        for name, values in recorded.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-4)

"""lm-evaluation-harness asks our decoder and, as its own model `hf`, Transformers' of the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: make parity")
sys.path.insert(0, str(Path(__file__).parents[1] / "convert"))

import decoder_models
from lm_eval.api.instance import Instance

from promot_jax.run.harness import HarnessModel

pytestmark = pytest.mark.skipif(not decoder_models.INSTALLED, reason="needs make parity")


@pytest.fixture(scope="module", params=["gemma3", "qwen3"])
def models(request, tmp_path_factory):
    """Ours and theirs: with a BOS and windows, and without a BOS."""
    from lm_eval.models.huggingface import HFLM

    path = str(decoder_models.save(request.param, tmp_path_factory.mktemp("harness") / "model"))
    theirs = HFLM(path, device="cpu", batch_size=1, dtype="float32")
    return HarnessModel(path, batch_size=4, mesh={"data": 1}), theirs


def ask(model, kind, *requests):
    """A request is a tuple of arguments."""
    return getattr(model, kind)([Instance(kind, {}, each, 0) for each in requests])


PAIRS = [("What follows? ", "a b"), ("What follows?", " a b"), ("", "alone"), ("a\n\nb", "\nc")]


def test_log_likelihoods(models):
    """Spaces at a context's end belong to what follows, and no context is BOS, or EOS, alone."""
    ours, theirs = (ask(model, "loglikelihood", *PAIRS) for model in models)
    np.testing.assert_allclose([x for x, _ in ours], [x for x, _ in theirs], rtol=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_rolling_log_likelihoods(models):
    """A text of several windows of the context of 96."""
    texts = [("short",), ("one two three " * 40,)]
    ours, theirs = (ask(model, "loglikelihood_rolling", *texts) for model in models)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_generation(models):
    greedy = {"max_gen_toks": 8, "do_sample": False}
    requests = [(text, greedy | {"until": ["\n\n"]}) for text, _ in PAIRS if text]
    ours, theirs = (ask(model, "generate_until", *requests) for model in models)
    assert ours == theirs

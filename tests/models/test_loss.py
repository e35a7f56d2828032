"""Chunked cross entropy is the plain formula, in value and gradients; a frozen head is free."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import ClosedJaxpr, Jaxpr
from tiny_models import batch_of, tiny, variables_of

from promot_jax.models import Objective, chunks, cross_entropy, loss, nested


def plain(hidden, head, targets, weights, label_smoothing, z_loss):
    """T5X's definition, with all logits at once."""
    logits = hidden @ head
    vocab = logits.shape[-1]
    high, low = 1 - label_smoothing, label_smoothing / (vocab - 1)
    target = jax.nn.one_hot(targets, vocab) * (high - low) + low
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nothing = high * np.log(high) + (label_smoothing * np.log(low) if label_smoothing else 0.0)
    losses = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1) + nothing + z_loss * log_z**2
    return jnp.sum(losses * weights)


def example(batch, length, vocab=23, embed=5, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(batch, length, embed)).astype(np.float32)
    head = rng.normal(size=(embed, vocab)).astype(np.float32)
    targets = rng.integers(0, vocab, (batch, length)).astype(np.int32)
    weights = (rng.random((batch, length)) < 0.7).astype(np.float32)
    return hidden, head, targets, weights


@pytest.fixture
def chunk_tokens(monkeypatch):
    """Sets how many positions have their logits at once."""
    return lambda count: monkeypatch.setattr(chunks, "CHUNK_TOKENS", count)


def check(arrays, label_smoothing, z_loss):
    objective = Objective(label_smoothing, z_loss)
    ours = lambda *a: cross_entropy(*a, None, objective)[0]  # noqa: E731
    theirs = lambda *a: plain(*a, label_smoothing, z_loss)  # noqa: E731
    value, gradients = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(*arrays)
    expected, expected_gradients = jax.jit(jax.value_and_grad(theirs, argnums=(0, 1)))(*arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 4, 7, 4096])
@pytest.mark.parametrize(("label_smoothing", "z_loss"), [(0.0, 0.0), (0.1, 1e-2)])
def test_chunks_change_nothing(chunk_tokens, chunk, label_smoothing, z_loss):
    chunk_tokens(chunk)
    check(example(3, 5), label_smoothing, z_loss)


@settings(max_examples=6, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 2),
    chunk=st.integers(1, 20),
    label_smoothing=st.sampled_from([0.0, 0.2]),
    z_loss=st.sampled_from([0.0, 1e-2]),
    seed=st.integers(0, 99),
)
def test_any_shape(shape, chunk, label_smoothing, z_loss, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_TOKENS", chunk)
        check(example(*shape, vocab=11, embed=3, seed=seed), label_smoothing, z_loss)


def test_sums(chunk_tokens):
    chunk_tokens(6)
    hidden, head, targets, weights = example(3, 5)
    _, sums = cross_entropy(hidden, head, targets, weights, None, Objective(0.1, 1e-2))
    logits = hidden @ head
    log_z = jax.nn.logsumexp(logits, axis=-1)
    np.testing.assert_allclose(sums["z_loss"], 1e-2 * np.sum(log_z**2 * weights), rtol=1e-5)
    assert sums["correct"] == np.sum((logits.argmax(-1) == targets) * weights)


def test_the_least_loss_is_zero():
    """However strong the smoothing: its constant is taken off."""
    smoothing, vocab = 0.3, 9
    wanted = np.full(vocab, smoothing / (vocab - 1), np.float32)
    wanted[4] = 1 - smoothing
    one = np.ones((1, 1, 1), np.float32)
    total, _ = cross_entropy(
        *(one, np.log(wanted)[None], np.full((1, 1), 4), np.ones((1, 1))),
        *(None, Objective(smoothing)),
    )
    assert abs(total) < 1e-6


def products(jaxpr, shape) -> int:
    """Matrix products with a result of this shape, in loops and calls too."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            count += any(v.aval.shape == shape for v in equation.outvars)
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))
        ):
            if isinstance(inner, ClosedJaxpr):
                inner = inner.jaxpr
            if isinstance(inner, Jaxpr):
                count += products(inner, shape)
    return count


@pytest.mark.parametrize("chunk", [3, 4096])
def test_a_frozen_head_has_no_gradient(chunk_tokens, chunk):
    chunk_tokens(chunk)
    hidden, head, targets, weights = example(3, 5)
    objective = Objective(0.1, 1e-4)
    total = lambda h, w: cross_entropy(h, w, targets, weights, None, objective)[0]  # noqa: E731
    both = jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(hidden, head)
    frozen = jax.make_jaxpr(jax.grad(total))(hidden, head)
    assert products(both.jaxpr, head.shape) == 1
    assert products(frozen.jaxpr, head.shape) == 0


def test_all_logits_never_exist(chunk_tokens):
    chunk_tokens(6)
    arrays = example(3, 8)
    total = lambda *a: cross_entropy(*a, None, Objective(0.1, 1e-4))[0]  # noqa: E731
    text = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(*arrays))
    assert "[3,2,23]" in text and "[3,8,23]" not in text and "[24,23]" not in text


@pytest.mark.parametrize("tied", [False, True])
def test_loss_of_a_batch(tied):
    """The model's loss is the formula on its logits, with either kind of head."""
    model = tiny(prompts=(), logits_via_embedding=tied)
    variables, batch = variables_of(model), batch_of()
    total, sums = jax.jit(lambda v: loss(model, v, batch, None, 0.1, 1e-4))(variables)
    logits = jax.jit(lambda v: model.apply(nested(v), batch))(variables)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    expected = plain(logits, np.eye(64, dtype=np.float32), targets, weights, 0.1, 1e-4)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert sums["tokens"] == weights.sum()

"""Divergences and weights of tokens are their formulas, written out in NumPy; in any chunks."""

import jax
import numpy as np
import pytest
from tiny_models import batch_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import (
    DFT,
    EAFT,
    FLOW,
    KL,
    STM,
    TALR,
    Objective,
    Token,
    chunks,
    cross_entropy,
    loss,
    nested,
)
from promot_jax.models.objective import row_means, top_entropy

BATCH, LENGTH, VOCAB, EMBED = 3, 5, 23, 5
CAP = 3.0


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def arrays():
    """hidden, head, targets, weights, and the reference's hidden and head."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    targets = rng.integers(0, VOCAB, (BATCH, LENGTH)).astype(np.int32)
    weights = (rng.random((BATCH, LENGTH)) < 0.7).astype(np.float32)
    hidden = draw(BATCH, LENGTH, EMBED), draw(BATCH, LENGTH, EMBED)
    head = draw(EMBED, VOCAB)
    return hidden[0], head, targets, weights, hidden[1], head + 0.3 * draw(EMBED, VOCAB)


def without(p, targets):
    """Distributions without the target token, renormalised."""
    p = p * (np.arange(VOCAB) != targets[..., None])
    return p / p.sum(-1, keepdims=True)


def divergence(kl, logits, logits0, targets):
    """The formula, in float64."""
    p, q = softmax(np.float64(logits0)), softmax(np.float64(logits))
    if kl.mask_target:
        p, q = without(p, targets), without(q, targets)
    if kl.direction == "reverse":
        p, q = q, p
    return np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / np.maximum(q, 1e-300)), 0), -1)


KINDS = [
    KL(0.7, direction, masked) for direction in ("forward", "reverse") for masked in (False, True)
]


@pytest.mark.parametrize("kl", KINDS, ids=lambda kl: f"{kl.direction}-{kl.mask_target}")
@pytest.mark.parametrize("chunk", [4, 4096])
def test_divergences(arrays, kl, chunk, monkeypatch):
    """The value, and the gradient of hidden and head by finite differences; logits are capped."""
    monkeypatch.setattr(chunks, "CHUNK_TOKENS", chunk)
    hidden, head, targets, weights, hidden0, head0 = arrays
    objective = Objective(cap=CAP, divergences=(kl,), task=False)
    known = {"hidden": hidden0, "head": head0}
    run = jax.jit(
        jax.value_and_grad(
            lambda h, w: cross_entropy(h, w, targets, weights, known, objective)[0], argnums=(0, 1)
        )
    )
    value, (d_hidden, d_head) = run(hidden, head)

    def plain(hidden, head):
        capped = lambda x: CAP * np.tanh(x / CAP)  # noqa: E731
        logits = capped(np.float64(hidden) @ np.float64(head))
        logits0 = capped(np.float64(hidden0) @ np.float64(head0))
        return 0.7 * np.sum(weights * divergence(kl, logits, logits0, targets))

    np.testing.assert_allclose(value, plain(hidden, head), rtol=1e-5)
    eps = 1e-5
    for where in [(0, 1, 2), (2, 4, 0)]:
        up, down = np.float64(hidden), np.float64(hidden)
        up[where] += eps
        down[where] -= eps
        slope = (plain(up, head) - plain(down, head)) / (2 * eps)
        np.testing.assert_allclose(d_hidden[where], slope, rtol=1e-4, atol=1e-5)
    up, down = np.float64(head), np.float64(head)
    up[1, 7] += eps
    down[1, 7] -= eps
    slope = (plain(hidden, up) - plain(hidden, down)) / (2 * eps)
    np.testing.assert_allclose(d_head[1, 7], slope, rtol=1e-4, atol=1e-5)


def test_without_the_target_its_logit_has_no_gradient(arrays):
    hidden, head, targets, weights, hidden0, head0 = arrays
    from promot_jax.models.objective import divergence as ours

    logits, logits0 = hidden @ head, hidden0 @ head0
    _, gradient = ours(KL(1.0, "forward", True), logits, logits0, targets)
    at_target = np.take_along_axis(np.asarray(gradient), targets[..., None], -1)
    assert np.all(at_target == 0) and np.abs(gradient).max() > 0.01


def entropy(logits):
    """Of the 20 likeliest tokens, renormalised."""
    top = np.sort(softmax(np.float64(logits)), -1)[..., -20:]
    top /= top.sum(-1, keepdims=True)
    return -(top * np.log(top)).sum(-1)


WEIGHTS = [
    (STM(4.0), lambda p, p0, row, h: 1.0 * (1 / p0 <= 4.0)),
    (DFT(), lambda p, p0, row, h: p),
    (EAFT(1.5), lambda p, p0, row, h: (h / np.log(20)) ** 1.5),
    (TALR(1.7, 0.2), lambda p, p0, row, h: np.maximum(p ** (1 / 1.7), 0.2)),
    (FLOW(0.8), lambda p, p0, row, h: np.exp(-row / 0.8)),
]


@pytest.mark.parametrize(("weight", "formula"), WEIGHTS, ids=lambda x: type(x).__name__)
def test_token_weights(arrays, weight, formula):
    """They scale the loss and the gradient, and have no gradient themselves."""
    hidden, head, targets, weights, hidden0, head0 = arrays
    probability = lambda logits: np.take_along_axis(  # noqa: E731
        softmax(np.float64(logits)), targets[..., None], -1
    )[..., 0]
    p, p0 = probability(hidden @ head), probability(hidden0 @ head0)
    row = -(np.log(p0) * weights).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    expected = formula(p, p0, row, entropy(hidden @ head)) * np.ones_like(p)
    fields = {"log_p0": np.log(p0), "row_log_p0": -row * np.ones_like(p)}
    known = {name: np.float32(fields[name]) for name in weight.needs if name in fields}
    objective = Objective(0.1, 1e-3, weights=(weight,))
    run = lambda objective, known, w: jax.jit(  # noqa: E731
        jax.value_and_grad(
            lambda h: cross_entropy(h, head, targets, w, known or None, objective), has_aux=True
        )
    )(hidden)
    (value, sums), gradient = run(objective, known, weights)
    (weighted, _), plain = run(Objective(0.1, 1e-3), {}, np.float32(weights * expected))
    np.testing.assert_allclose(value, weighted, rtol=1e-4)
    np.testing.assert_allclose(gradient, plain, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(sums["token_weight"], (expected * weights).sum(), rtol=1e-4)
    unweighted = cross_entropy(hidden, head, targets, weights, None, Objective(0.1))[0]
    np.testing.assert_allclose(sums["cross_entropy"], unweighted, rtol=1e-5)


def test_weights_are_multiplied(arrays):
    hidden, head, targets, weights, *_ = arrays
    both = Objective(weights=(DFT(), EAFT()))
    _, sums = cross_entropy(hidden, head, targets, weights, None, both)
    p = np.take_along_axis(softmax(np.float64(hidden @ head)), targets[..., None], -1)[..., 0]
    expected = (p * entropy(hidden @ head) / np.log(20) * weights).sum()
    np.testing.assert_allclose(sums["token_weight"], expected, rtol=1e-4)


def test_entropy_of_few_tokens():
    np.testing.assert_allclose(top_entropy(np.zeros((2, 4))), np.log(4), rtol=1e-6)
    np.testing.assert_allclose(EAFT()(Token(None, entropy=np.log(20.0))), 1.0, rtol=1e-6)


def test_means_of_segments():
    """Of its example's tokens alone, wherever it lies in the row."""
    x = np.array([[1.0, 3.0, 10.0, 20.0, 99.0]])
    weights, segments = np.array([[1.0, 1, 1, 1, 0]]), np.array([[1, 1, 2, 2, 0]])
    np.testing.assert_allclose(row_means(x, weights, segments)[0, :4], [2, 2, 15, 15])
    np.testing.assert_allclose(row_means(x, weights, None)[0, :4], [8.5] * 4)


def test_loss_of_a_batch_against_a_reference():
    """All in one call: the batch's own divergence and weights, and a further batch's divergence."""
    model = tiny(prompts=(), num_encoder_layers=1, num_decoder_layers=1)
    variables, batch, other = variables_of(model), batch_of(), batch_of(rows=2, seed=5)
    reference = {p: x + 0.1 for p, x in variables_of(model).items() if "mlp" in p}
    own, far = KL(0.5, name="own"), KL(2.0, "reverse", name="far")
    given = {"token_weights": (FLOW(),), "divergences": (own,), "further": (("far", far),)}

    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]

    @jax.jit
    def run(variables, reference):
        whole = batch | {"further": {"far": other}}
        found = loss(model, variables, whole, None, 0.1, 1e-4, reference=reference, **given)
        logits = {
            name: [model.apply(nested(v), b) for v in (variables, variables | reference)]
            for name, b in (("own", batch), ("far", other))
        }
        log_p0 = jax.nn.log_softmax(logits["own"][1])
        log_p0 = jax.numpy.take_along_axis(log_p0, targets[..., None], -1)[..., 0]
        flow = jax.numpy.exp((log_p0 * weights).sum(1) / weights.sum(1))
        weighed = batch | {"decoder_loss_weights": weights * flow[:, None]}
        return found, logits, loss(model, variables, weighed, None, 0.1, 1e-4), flow

    (total, sums), logits, (plain, _), flow = run(variables, reference)
    for kl, b in ((own, batch), (far, other)):
        each = divergence(kl, *logits[kl.name], b["decoder_target_tokens"])
        value = (each * b["decoder_loss_weights"]).sum()
        np.testing.assert_allclose(sums[kl.name], value, rtol=1e-4)
        plain += kl.weight * value
    np.testing.assert_allclose(total, plain, rtol=1e-4)
    np.testing.assert_allclose(sums["token_weight"], (flow[:, None] * weights).sum(), rtol=1e-4)
    assert sums["tokens"] == weights.sum()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: STM(0.5), "STM.perplexity = 0.5: set 1"),
        (lambda: EAFT(0.0), "EAFT.alpha = 0.0: set more than 0"),
        (lambda: TALR(-1.0), "TALR.tau = -1.0: set more than 0"),
        (lambda: TALR(1.0, 2.0), "TALR.floor = 2.0: set 0 to 1"),
        (lambda: FLOW("x"), "FLOW.tau = 'x': set a number"),
    ],
)
def test_settings_out_of_range(make, says):
    with pytest.raises(UserError, match=says):
        make()

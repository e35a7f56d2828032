"""Filters of updates are their formulas; a scanned stack's layers are arrays of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promot_jax.errors import UserError
from promot_jax.models import stack_layers, unstack_layers
from promot_jax.training import Finch, HalfFrozen, Mofo, Part, Pull, adamw, assign

RATE = 0.1


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    paths = [f"params/e/layers_{i}/{n}" for i in (0, 1, 2) for n in "ab"] + ["params/w"]
    return {path: rng.normal(size=(4, 5)).astype(np.float32) for path in paths}


def descend(filters, variables, steps=3, optimizer=optax.sgd, losses=None, reference=None):
    """Updates with a gradient of x^2 - 0.5; every state on the way."""
    transformation = Part("params", RATE, optimizer, filters=filters).transformation()

    @jax.jit
    def step(x, state, value):
        grad = jax.tree.map(lambda x: x * x - 0.5, x)
        extra = {"value": value, "grad": grad}
        extra |= {} if reference is None else {"reference": reference}
        updates, state = transformation.update(grad, state, x, **extra)
        return optax.apply_updates(x, updates), state

    state, found = transformation.init(variables), [variables]
    for n in range(steps):
        value = jnp.float32(1.0 if losses is None else losses[n])
        variables, state = step(variables, state, value)
        found.append(jax.tree.map(np.asarray, variables))
    return found


def test_finch():
    losses = [4.0, 1.0, 0.2, 1e-9]
    found = descend([Finch(0.5, 0.3, 0.9)], arrays(), 4, losses=losses)
    mean, factors = 0.0, []
    for n, loss in enumerate(losses):
        mean = 0.9 * mean + 0.1 * loss
        factors.append(np.clip(np.sqrt(0.5 / (mean / (1 - 0.9 ** (n + 1)))), 0.3, 1.0))
    assert factors[0] == pytest.approx(np.sqrt(0.5 / 4)) and factors[-1] < 1
    for before, after, factor in zip(found, found[1:], factors, strict=False):
        for path, x in before.items():
            np.testing.assert_allclose(
                after[path], x - RATE * factor * (x * x - 0.5), rtol=1e-5, atol=1e-6
            )


def test_pull():
    schedule = optax.linear_schedule(0.1, 0.0, 4)
    x0 = arrays(1)
    transformation = Part("params", schedule, optax.sgd, filters=[Pull(0.5)]).transformation()
    x = arrays()
    state = transformation.init(x)
    for n in range(3):
        grad = {p: v * v for p, v in x.items()}
        updates, state = transformation.update(grad, state, x, reference=x0)
        rate = 0.1 * (1 - n / 4)
        expected = {p: v - rate * grad[p] - rate * 0.5 * (v - x0[p]) for p, v in x.items()}
        x = jax.tree.map(np.asarray, optax.apply_updates(x, updates))
        for path in x:
            np.testing.assert_allclose(x[path], expected[path], rtol=1e-5, atol=1e-6)


def test_mofo():
    found = descend([Mofo(0.1, 0.8)], arrays())
    momentum = {p: np.zeros_like(x) for p, x in found[0].items()}
    for before, after in zip(found, found[1:], strict=False):
        for path, x in before.items():
            grad = x * x - 0.5
            momentum[path] = 0.8 * momentum[path] + 0.2 * grad
            size = np.abs(momentum[path])
            kept = size >= np.sort(size.ravel())[-2]  # 10 % of 20
            assert kept.sum() == 2
            np.testing.assert_allclose(after[path], x - RATE * kept * grad, rtol=1e-5, atol=1e-6)


def test_half_of_the_arrays_stands_still():
    found = descend([HalfFrozen(2, 7)], arrays(), 12)
    still = [
        frozenset(p for p in before if np.array_equal(before[p], after[p]))
        for before, after in zip(found, found[1:], strict=False)
    ]
    assert {len(each) for each in still} == {3}  # of 7
    rounds = still[::2]
    assert rounds == still[1::2] and len(set(rounds)) > 2
    assert frozenset().union(*rounds) == set(arrays())
    again = descend([HalfFrozen(2, 7)], arrays(), 12)
    other = descend([HalfFrozen(2, 8)], arrays(), 12)
    assert all(np.array_equal(again[-1][p], found[-1][p]) for p in again[-1])
    assert not all(np.array_equal(other[-1][p], found[-1][p]) for p in other[-1])


def test_scanned_layers_with_all_filters():
    filters = [Pull(0.5), Finch(0.5), Mofo(0.3), HalfFrozen(1)]
    x, x0 = arrays(), arrays(1)
    expected = descend(filters, x, 4, adamw, reference=x0)[-1]
    found = descend(filters, stack_layers(x), 4, adamw, reference=stack_layers(x0))[-1]
    found = unstack_layers(found)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(expected["params/w"], x["params/w"])


LAYERS = ["params/token_embedder/embedding", "params/e/layers_0/w", "params/e/layers_1/w"]


def test_frozen_patterns():
    part = Part("params", frozen=["params/token_embedder", "params/*/layers_0/*"])
    assert assign([part], LAYERS) == {LAYERS[2]: 0}
    assert assign([Part("params", frozen="params/e")], LAYERS) == {LAYERS[0]: 0}
    with pytest.raises(UserError, match=r"frozen = 'params/x' matches no array: 'params' covers"):
        assign([Part("params", frozen=["params/x"])], LAYERS)
    with pytest.raises(UserError, match=r"leaves nothing of 'params' to be trained"):
        assign([Part("params", frozen=["*"])], LAYERS)
    with pytest.raises(UserError, match=r"scan_layers = True keeps all layers .* set it False"):
        assign([part], ["params/token_embedder/embedding", "params/e/layers/w"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Finch(0.0), "Finch.loss = 0.0: set more than 0"),
        (lambda: Finch(floor=2.0), "Finch.floor = 2.0: set 0 to 1"),
        (lambda: Finch(decay=1.0), "Finch.decay = 1.0: set 0 to"),
        (lambda: Pull(-1.0), "Pull.weight = -1.0: set 0"),
        (lambda: Mofo(0.0), "Mofo.share = 0.0: set more than 0"),
        (lambda: Mofo(1.5), "Mofo.share = 1.5: set more than 0, up to 1"),
        (lambda: HalfFrozen(0), "HalfFrozen.steps = 0: set 1"),
        (lambda: HalfFrozen(2.5), "HalfFrozen.steps = 2.5: set a whole number"),
        (lambda: Part("params", filters=[0.1]), "Part.filters"),
    ],
)
def test_settings_out_of_range(make, says):
    with pytest.raises(UserError, match=says):
        make()

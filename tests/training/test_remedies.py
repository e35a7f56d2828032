"""Penalties, terms with batches of their own, SAM: their formulas; however the batch is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_equal_batches import assert_close, once_each, unequal
from tiny_training import (
    T5,
    batches_of,
    both_kinds,
    inputs_of,
    loss_of,
)

from promot_jax import models
from promot_jax.models import FLOW, KL, TALR, stack_layers, unstack_layers
from promot_jax.training import Penalty, Reference, fisher, gradients, make_mesh
from promot_jax.training.step import sharp_gradients

KEY = jax.random.key(0)
PENALTIES = (Penalty("l2sp", 0.3), Penalty("ewc", 2.0, "params/decoder"))


def with_all(model):
    """Every kind of term at once."""
    terms = {
        "token_weights": (FLOW(2.0), TALR(3.0)),
        "divergences": (KL(0.5), KL(0.2, "reverse", True, "masked")),
        "further": (("far", KL(0.7, name="far")),),
    }
    return functools.partial(models.loss, model, label_smoothing=0.1, z_loss=1e-4, **terms)


def reference_of(variables, model) -> Reference:
    """Weights a little off, and an importance of each."""
    moved = {path: x * 1.1 + 0.01 for path, x in variables.items()}
    importance = {path: jnp.square(x) for path, x in variables.items() if "decoder" in path}
    return Reference(moved, {"ewc": importance})


def wide(task, kind, step=0, **changes):
    """A batch with a further one in it, of another size and without a prompt."""
    further = batches_of(task, 4, kind, prompts=None)(step)
    return unequal(batches_of(task, kind=kind, **changes)(step)) | {"further": {"far": further}}


def decoder_of(variables):
    """What is trained, and the rest."""
    trained = {path: x for path, x in variables.items() if path.startswith("params/decoder")}
    return trained, {path: x for path, x in variables.items() if path not in trained}


@pytest.fixture(scope="module")
def cut(model, variables, task):
    """A batch, and gradients and sums of it whole (1) and in four parts."""
    batch = wide(task, T5)
    trained, frozen = decoder_of(variables)
    reference = reference_of(trained, model)

    @functools.partial(jax.jit, static_argnums=1)
    def run(v, n):
        return gradients(with_all(model), v, frozen, batch, KEY, n, reference, PENALTIES)

    return batch, {n: run(trained, n) for n in (1, 4)}


def test_accumulation_is_the_large_batch_with_terms(cut):
    (ours, our_sums), (theirs, their_sums) = cut[1][4], cut[1][1]
    assert_close(our_sums, their_sums)
    assert_close(ours, theirs)
    names = {"kl", "masked", "far", "l2sp", "ewc", "cross_entropy", "token_weight"}
    assert names < their_sums.keys() and min(their_sums[name] for name in names) > 0


def test_each_term_is_a_mean(cut, model, variables):
    """Whatever the number of tokens: of the further batch its own, of penalties none."""
    trained, _ = decoder_of(variables)
    batch, reference = cut[0], reference_of(trained, model)
    host = lambda x: np.float64(x)  # noqa: E731
    gaps = {p: host(x) - host(reference.variables[p]) for p, x in trained.items()}
    ewc = (host(f) * np.square(gaps[p]) for p, f in reference.importance["ewc"].items())
    plain = {
        "l2sp": sum(np.square(gap).sum() for gap in gaps.values()) / 2,
        "ewc": sum(x.sum() for x in ewc) / 2,
    }
    far = batch["further"]["far"]
    alone = functools.partial(models.loss, model, divergences=(KL(1.0, name="far"),))
    _, found = jax.jit(lambda v: alone(v, far, None, reference=reference.variables))(variables)
    plain["far"] = found["far"] / far["decoder_loss_weights"].sum()
    for name, value in plain.items():
        mean = cut[1][1][1][name] / batch["decoder_loss_weights"].sum()
        np.testing.assert_allclose(mean, value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("stack", [dict, stack_layers], ids=["unrolled", "scanned"])
def test_penalties_gradient(stack):
    """weight * F * (theta - theta0), once, beside the mean loss's own gradient."""
    rng = np.random.default_rng(0)
    paths = [f"params/{where}/layers_{i}/w" for where in ("encoder", "decoder") for i in (0, 1)]
    draw = lambda: {path: rng.normal(size=(3, 4)).astype(np.float32) for path in paths}  # noqa: E731
    x, x0, weighed = draw(), draw(), {p: f**2 for p, f in draw().items() if "decoder" in p}
    reference = Reference(stack(x0), {"ewc": stack(weighed)})
    batch = {"decoder_loss_weights": np.array([[1.0, 1.0], [1.0, 0.0]])}

    def loss(v, batch, key, reference):
        tokens = jnp.sum(batch["decoder_loss_weights"])
        return tokens * sum(jnp.sum(each) for each in v.values()), {"tokens": tokens}

    for parts in (1, 2):
        run = lambda v, n=parts: gradients(loss, v, {}, batch, KEY, n, reference, PENALTIES)  # noqa: E731
        grads, sums = run(stack(x))
        for path, found in unstack_layers(grads).items():
            scale = 0.3 + 2.0 * weighed.get(path, 0.0)
            np.testing.assert_allclose(found, 1 + scale * (x[path] - x0[path]), rtol=1e-5)
        total = sum(each.sum() for each in x.values())
        total += sum(
            0.5 * ((0.3 + 2.0 * weighed.get(p, 0.0)) * (x[p] - x0[p]) ** 2).sum() for p in x
        )
        np.testing.assert_allclose(sums["loss"] / 3, total, rtol=1e-5)


@both_kinds
def test_packed_is_unpacked_with_terms(model, variables, task, kind):
    """Weights of examples, and divergences, are of an example wherever it lies."""
    settings = {"batch_size": 1, "kind": kind, "input_length": 60, "target_length": 24}
    alone, packed = (once_each(batches_of(task, packing=p, **settings)) for p in (False, True))
    assert len(inputs_of(packed)) < len(inputs_of(alone))
    reference = reference_of(variables, model).variables
    loss = functools.partial(models.loss, model, token_weights=(FLOW(2.0),), divergences=(KL(0.5),))
    run = jax.jit(lambda v, b: loss(v, b, reference=reference)[1])
    assert_close(run(variables, packed), run(variables, alone))


def test_sam():
    """Of a quadratic: g(x + radius * g / |g|); the metrics are those of x."""
    scale = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    x = {"a": jnp.array([1.0, -1.0]), "b": jnp.array([0.5])}

    def gradient(x):
        return {p: scale[p] * v for p, v in x.items()}, {"loss": sum(v.sum() for v in x.values())}

    found, sums = sharp_gradients(gradient, x, 0.3)
    g = {p: scale[p] * np.asarray(v) for p, v in x.items()}
    norm = np.sqrt(sum(np.square(v).sum() for v in g.values()))
    for path, v in x.items():
        expected = scale[path] * (np.asarray(v) + 0.3 * g[path] / norm)
        np.testing.assert_allclose(found[path], expected, rtol=1e-6)
    assert sums["loss"] == 0.5
    still, _ = sharp_gradients(gradient, jax.tree.map(jnp.zeros_like, x), 0.3)
    assert all(np.all(v == 0) for v in still.values())


def test_fisher():
    """The mean over rows of the squared gradient of a row's log-likelihood."""
    about = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[0.5]])}
    log_loss = lambda v, row: jnp.sum(v["a"] ** 2 * row["x"]) * jnp.sum(v["b"] + v["c"])  # noqa: E731
    rows = [{"x": np.array([[1.0, i]], np.float32)} for i in range(3)]
    rest, mesh = {"c": jnp.array(1.0)}, make_mesh(devices=jax.devices()[:1])
    found = fisher(log_loss, about, rest, iter(rows), mesh)
    a = [np.array([2.0, 4.0]) * row["x"][0] * 1.5 for row in rows]
    b = [1.0 + 4.0 * row["x"][0, 1] for row in rows]
    np.testing.assert_allclose(found["a"], np.mean(np.square(a), axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[np.mean(np.square(b))]], rtol=1e-6)


def test_what_is_off_costs_nothing(model, variables, batches):
    """Terms and weights that are None or weigh nothing leave the program as it is."""
    from promot_jax.run import Distance, Divergence, Stage

    off = Stage("s", terms=[None, Distance(0.0), Divergence(0.0)], token_weights=[None])
    assert not off.compares and off.penalties == () and off.further == {}
    program = lambda loss: jax.jit(  # noqa: E731
        lambda v: gradients(loss, v, {}, batches(0), KEY, 1, None, off.penalties)
    ).lower(variables)
    assert program(off.loss(model)).as_text() == program(loss_of(model)).as_text()

"""Which arrays a stage trains, at what rate, and what Adafactor does to one array (against t5x)."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promot_jax.convert import t5x
from promot_jax.errors import UserError
from promot_jax.models import T5, loss, stack_layers, unstack_layers
from promot_jax.training import Part, adafactor, adamw, assign
from tests.t5_batches import with_segments

PATHS = [
    "params/encoder/layers_0/mlp/wi/kernel",
    "params/encoder/layers_0/mlp/wo/kernel",
    "params/decoder/layers_0/mlp/wi/kernel",
    "params/decoder/logits_dense/kernel",
    "prompt/target",
]


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("params", PATHS[:4]),
        ("prompt", PATHS[4:]),
        ("params/decoder", PATHS[2:4]),
        ("params/*/mlp/*", PATHS[:3]),
        ("*", PATHS),
        ("prompt/target", PATHS[4:]),
        ("params/*coder/layers_0/mlp/wo/kernel", PATHS[1:2]),
    ],
)
def test_patterns(pattern, covered):
    assert assign([Part(pattern)], PATHS) == dict.fromkeys(covered, 0)


def test_each_path_has_the_index_of_its_part():
    owner = assign([Part("prompt"), Part("params/encoder")], PATHS)
    assert owner == {PATHS[0]: 1, PATHS[1]: 1, PATHS[4]: 0}


@pytest.mark.parametrize(
    ("pattern", "hint"), [("promt", "'prompt'"), ("params/encodr", "'params/encoder'"), ("x", "")]
)
def test_a_pattern_without_match(pattern, hint):
    with pytest.raises(
        UserError, match=f"'{pattern}' matches no array.*{hint}.*'params', 'prompt'"
    ):
        assign([Part(pattern)], PATHS)


def test_a_name_is_not_matched_by_its_beginning():
    with pytest.raises(UserError, match="matches no array"):
        assign([Part("par")], PATHS)


def test_two_parts_for_one_path():
    with pytest.raises(UserError, match="'params' and 'params/decoder' both cover"):
        assign([Part("params"), Part("params/decoder")], PATHS)


def test_rates():
    assert Part("p", 0.5).rate(10) == 0.5
    late = Part("p", optax.linear_schedule(0.0, 1.0, 10), unfreeze=5)
    assert [late.rate(step) for step in (0, 4, 5, 10, 15, 20)] == [0, 0, 0, 0.5, 1, 1]


def test_a_schedule_counts_the_part_s_own_updates():
    """Plain gradient descent at rates 1, 0: it moves once and stops."""
    schedule = optax.piecewise_constant_schedule(1.0, {1: 0.0})
    part = Part("p", schedule, optax.sgd)
    variables = {"p/x": np.ones(3, np.float32)}
    optimizer = part.transformation()
    state = optimizer.init(variables)
    moves = []
    for _ in range(3):
        updates, state = optimizer.update(variables, state, variables)
        moves.append(float(updates["p/x"][0]))
    assert moves == [-1, 0, 0]


@pytest.mark.parametrize("make", [adafactor, adamw])
def test_stacked_layers_are_arrays_of_their_own(make):
    rng = np.random.default_rng(0)
    shape = (130, 140)  # large enough for Adafactor to factor
    single = {
        f"params/e/layers_{i}/w": rng.normal(size=shape).astype(np.float32) * 10**i for i in (0, 1)
    }
    single |= {"params/w": rng.normal(size=shape).astype(np.float32)}
    optimizer = Part("params", 0.1, make).transformation()

    @jax.jit
    def descend(variables):
        state = optimizer.init(variables)
        for _ in range(3):
            gradients = jax.tree.map(lambda x: x * x - 0.5, variables)
            updates, state = optimizer.update(gradients, state, variables)
            variables = optax.apply_updates(variables, updates)
        return variables

    expected = descend(single)
    found = unstack_layers(descend(stack_layers(single)))
    for path in expected:
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-4, atol=1e-5)


SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
FIXTURE = SHARED / "fixtures" / "t5x_tiny"
PROMPT_TUNING = {"multiply_by_parameter_scale": False, "weight_decay_rate": 1e-5}
needs_t5x = pytest.mark.skipif(
    not FIXTURE.is_dir(), reason="t5x's results are not there (fixtures/t5x_tiny in PROMOT_SHARED)"
)


@needs_t5x
@pytest.mark.parametrize(("name", "changes"), [("finetune", {}), ("prompt", PROMPT_TUNING)])
def test_adafactor_is_t5x_s(name, changes):
    """Four updates, with factored moments and without, as t5x and prompt-tuning set it."""
    with np.load(FIXTURE / "adafactor_factored.npz") as file:
        arrays = {key: file[key] for key in file if key.startswith(name)}
    named = lambda kind: {  # noqa: E731
        key.removeprefix(f"{name}/{kind}/"): x for key, x in arrays.items() if f"/{kind}/" in key
    }
    optimizer = Part("*", 0.01, lambda rate: adafactor(rate, **changes)).transformation()
    variables = named("p0")
    state = optimizer.init(variables)
    for step in range(4):
        updates, state = optimizer.update(named(f"g{step}"), state, variables)
        before, variables = variables, optax.apply_updates(variables, updates)
        for path, expected in named(f"p{step + 1}").items():
            moved = np.abs(expected - before[path]).max()
            np.testing.assert_allclose(variables[path], expected, atol=1e-4 * moved)


@needs_t5x
def test_a_step_of_the_model_is_t5x_s():
    """Step 301 of a training of t5x's: our gradient, its moments, its new parameters."""
    with np.load(FIXTURE / "adafactor_step.npz") as file:
        arrays = {key: file[key] for key in file}
    named = lambda kind: {  # noqa: E731
        f"params/{key.removeprefix(kind)}": x for key, x in arrays.items() if key.startswith(kind)
    }
    batch = {key.removeprefix("batch/"): x for key, x in arrays.items() if "batch/" in key}
    batch["decoder_loss_weights"] = batch["decoder_loss_weights"].astype(np.float32)
    batch = with_segments(batch)
    model = T5(t5x.read(str(FIXTURE / "legacy")).config)
    optimizer, before = adafactor(0.001), named("pre/")
    state = optimizer.init(before)
    moments = {
        part: {p: arrays[f"opt/param_states/{p.removeprefix('params/')}/{part}"] for p in before}
        for part in ("v", "v_row", "v_col")
    }
    state = (state[0]._replace(count=arrays["opt/step"], **moments), *state[1:])

    @jax.jit
    def step(variables, state, batch):
        total = lambda v: loss(model, v, batch, z_loss=1e-4)[0]  # noqa: E731
        updates, _ = optimizer.update(jax.grad(total)(variables), state, variables)
        return optax.apply_updates(variables, updates)

    after = step(before, state, batch)
    for path, expected in named("post/").items():
        moved = np.abs(expected - before[path]).max()
        np.testing.assert_allclose(after[path], expected, atol=1e-4 * moved, err_msg=path)


def test_adafactor_of_bfloat16_keeps_float32_moments():
    """As T5X does; in bfloat16 they would stand still after a few hundred updates."""
    rng, optimizer = np.random.default_rng(0), adafactor(0.1)
    draw = lambda: {"params/w": jnp.asarray(rng.normal(size=(130, 140)), "bfloat16")}  # noqa: E731
    half = draw()
    single = jax.tree.map(lambda x: x.astype("float32"), half)
    states = [optimizer.init(half), optimizer.init(single)]
    update = jax.jit(optimizer.update)
    for _ in range(3):
        gradient = draw()
        updates, states[0] = update(gradient, states[0], half)
        exact = jax.tree.map(lambda x: x.astype("float32"), gradient)
        expected, states[1] = update(exact, states[1], single)
        # to a few roundings of float32: the casts are fused into other sums
        np.testing.assert_allclose(updates["params/w"], expected["params/w"], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert optax.apply_updates(half, updates)["params/w"].dtype == jnp.bfloat16

"""Different ways through the same examples: accumulated, packed, scanned. The same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny_training import (
    DECODER,
    IDS,
    T5,
    Trainer,
    batches_of,
    both_kinds,
    fine_tuning,
    inputs_of,
    loss_of,
    tiny,
    variables_of,
)

from promot_jax.models import stack_layers, unstack_layers
from promot_jax.training import Part, adamw, gradients


def assert_close(ours, theirs, tolerance=1e-5):
    """Every array within a share of its own largest number."""
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        scale = np.abs(expected).max() + 1e-9
        np.testing.assert_allclose(ours[path], expected, atol=tolerance * scale, err_msg=path)


def unequal(batch):
    """All target tokens but one of every second row are taken off."""
    weights = batch["decoder_loss_weights"].copy()
    weights[::2, 1:] = 0
    weights[0] = 0
    return batch | {"decoder_loss_weights": weights}


@both_kinds
def test_accumulation_is_the_large_batch(model, variables, batches, accumulate=4):
    batch = unequal(batches(0))
    run = jax.jit(
        lambda v, n: gradients(loss_of(model), v, {}, batch, jax.random.key(0), n),
        static_argnums=1,
    )
    (ours, our_sums), (theirs, their_sums) = run(variables, accumulate), run(variables, 1)
    assert our_sums["tokens"] == batch["decoder_loss_weights"].sum()
    assert_close(our_sums, their_sums)
    assert_close(ours, theirs)


@both_kinds
def test_accumulation_in_bfloat16_loses_nothing(model, variables, batches):
    """The mean of 64 equal parts is one of them, which a sum in bfloat16 would be far from."""
    half = {path: x.astype(jnp.bfloat16) for path, x in variables.items()}
    row = {name: x[:1] for name, x in batches(0).items()}
    rows = {name: np.repeat(x, 64, axis=0) for name, x in row.items()}
    run = jax.jit(
        lambda batch, n: gradients(loss_of(model), half, {}, batch, jax.random.key(0), n)[0],
        static_argnums=1,
    )
    ours, theirs = run(rows, 64), run(row, 1)
    assert {x.dtype for x in ours.values()} == {jnp.dtype("bfloat16")}
    wide = lambda tree: {path: np.asarray(x, np.float32) for path, x in tree.items()}  # noqa: E731
    assert_close(wide(ours), wide(theirs), tolerance=1e-3)


def test_parts_of_a_batch_drop_different_units(variables, batches):
    model = tiny(dropout_rate=0.5)
    batch = batches(0)
    halves = {name: np.repeat(x[:4], 2, axis=0) for name, x in batch.items()}  # two equal parts
    run = jax.jit(
        lambda b, n: gradients(loss_of(model), {}, variables, b, jax.random.key(0), n)[1]["loss"],
        static_argnums=1,
    )
    whole = run({name: x[:4] for name, x in batch.items()}, 1)
    assert abs(run(halves, 2) - 2 * whole) > 1e-3


def examples_of(batches, count) -> dict:
    """The first `count` global batches in one."""
    found = [batches(step) for step in range(count)]
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def once_each(batches) -> dict:
    """Every example once: the first epoch of units, one row each."""
    units = batches.report["units"]
    batch = examples_of(batches, units)
    return {name: x[:units] for name, x in batch.items()}


@both_kinds
def test_packed_is_unpacked(model, variables, task, kind):
    """The same examples with their prompts, packed and alone; the prompt's gradient too."""
    settings = {"batch_size": 1, "kind": kind, "input_length": 60, "target_length": 24}
    alone, packed = (once_each(batches_of(task, packing=p, **settings)) for p in (False, True))
    assert len(inputs_of(packed)) < len(inputs_of(alone))
    soft = [(inputs_of(batch) >= IDS["target"][0]).sum() for batch in (packed, alone)]
    assert soft[0] == soft[1] == 4 * len(inputs_of(alone))
    run = jax.jit(lambda v, b: gradients(loss_of(model), v, {}, b, jax.random.key(0), 1))
    (ours, our_sums), (theirs, their_sums) = run(variables, packed), run(variables, alone)
    assert_close(our_sums, their_sums)
    assert_close(ours, theirs, 3e-5)


LAYERS = {T5: {"num_encoder_layers": 2, "num_decoder_layers": 2}, DECODER: {}}


@both_kinds
def test_training_scanned_layers_is_training_unrolled_ones(batches, kind):
    """Adafactor's factors, clipping and scale are those of single layers, not of the stack."""
    optimizer = factored
    model = tiny(kind, **LAYERS[kind])
    scanned = tiny(kind, scan_layers=True, **LAYERS[kind])
    variables = variables_of(model)
    parts = [Part("params", 0.01, optimizer), Part("prompt", 0.1, optimizer)]
    ours = Trainer(scanned, stack_layers(variables), parts)
    theirs = Trainer(model, variables, parts)
    for step in range(5):
        batch = batches(step)
        mine, other = ours.step(batch), theirs.step(batch)
        np.testing.assert_allclose(mine["loss"], other["loss"], rtol=1e-5)
        np.testing.assert_allclose(mine["gradient_norm"], other["gradient_norm"], rtol=1e-4)
    for path, expected in theirs.state.trained.items():
        found = unstack_layers(ours.state.trained)[path]
        scale = np.abs(expected).max() + 1e-9
        # an update of nearly no gradient may have either sign: few numbers, and small
        off = np.abs(found - expected) > 1e-3 * scale
        assert off.mean() < 0.01, path


def factored(learning_rate):
    """Factored second moments, which only arrays of 128 and more have by default."""
    import optax

    return optax.adafactor(learning_rate, min_dim_size_to_factor=8)


def test_two_parts_have_optimizers_of_their_own(model, variables, batches):
    """One part's updates do not depend on what the other has."""
    both = Trainer(model, variables, [*fine_tuning(), Part("prompt", 0.0, adamw)])
    alone = Trainer(model, variables, fine_tuning())
    for trainer in (both, alone):
        trainer.step(batches(0))
    assert np.array_equal(both.state.trained["prompt/target"], variables["prompt/target"])
    for path, expected in alone.state.trained.items():
        np.testing.assert_allclose(both.state.trained[path], expected, atol=1e-6)

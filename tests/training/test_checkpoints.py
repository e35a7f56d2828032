"""Digests of exact bits, and checkpoints of what a stage trains."""

import contextlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import Trainer, fine_tuning, prompt_tuning

from promot_jax.errors import UserError
from promot_jax.models import stack_layers
from promot_jax.training import Checkpoints, digest


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    layers = {f"params/e/layers_{i}/w": rng.normal(size=(3, 4)).astype(np.float32) for i in (0, 1)}
    return layers | {"params/head": rng.normal(size=5).astype(np.float32)}


def test_a_digest_does_not_depend_on_order_or_layout():
    ours = arrays()
    assert digest(ours) == digest(dict(reversed(ours.items()))) == digest(stack_layers(ours))


@settings(max_examples=20, deadline=None)
@given(place=st.integers(0, 11), bit=st.integers(0, 31))
def test_a_digest_sees_every_bit(place, bit):
    ours = arrays()
    other = {path: x.copy() for path, x in ours.items()}
    other["params/e/layers_1/w"].reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
    assert digest(ours) != digest(other)


def test_a_digest_sees_names_order_and_type():
    ours = arrays()
    renamed = {path.replace("head", "tail"): x for path, x in ours.items()}
    swapped = ours | {"params/head": ours["params/head"][::-1].copy()}
    layers = ours | {f"params/e/layers_{i}/w": ours[f"params/e/layers_{1 - i}/w"] for i in (0, 1)}
    half = {path: x.astype(jax.numpy.bfloat16) for path, x in ours.items()}
    assert len({digest(v) for v in (ours, renamed, swapped, layers, half, {})}) == 6


@pytest.fixture
def stage(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        yield checkpoints


def at(state, step):
    import dataclasses

    return dataclasses.replace(state, step=jax.numpy.int32(step))


def test_the_best_and_the_last_are_kept(model, variables, stage):
    trainer = Trainer(model, variables, prompt_tuning())
    for step, score in ((1, 0.2), (2, 0.7), (3, None), (4, 0.7), (5, 0.1), (6, None)):
        stage.save(at(trainer.state, step), {}, {"n": step}, score)
        stage.manager.wait_until_finished()
        expected = [1, 2, 2, 4, 4, 4][step - 1]  # of equals the newest
        assert (stage.latest(), stage.best()) == (step, expected)
        assert set(stage.manager.all_steps()) == {expected, step}
    assert stage.note(4) == {"n": 4} and stage.score(4) == 0.7 and stage.score(6) is None
    stage.rescore(6, 0.9)  # its evaluation had been stopped
    assert stage.score(6) == 0.9 and stage.best() == 6
    with contextlib.closing(Checkpoints(stage.directory)) as again:
        assert again.score(6) == 0.9 and again.best() == 6


def test_without_scores_the_last_is_the_best(model, variables, stage):
    assert stage.latest() is None and stage.best() is None
    trainer = Trainer(model, variables, prompt_tuning())
    for step in (1, 2):
        stage.save(at(trainer.state, step), {}, {}, None)
    stage.manager.wait_until_finished()
    assert stage.best() == 2 and list(stage.manager.all_steps()) == [2]


def test_state_and_variables_come_back(model, variables, batches, stage):
    """Also while the next steps already run on donated buffers."""
    trainer = Trainer(model, variables, fine_tuning(), seed=5)
    trainer.step(batches(0))
    kept = jax.tree.map(np.array, (trainer.state.trained, trainer.state.optimizer))
    extra = {"prompt/target": trainer.frozen["prompt/target"]}
    stage.save(trainer.state, extra, {"seconds": 1.5}, 0.5)
    trainer.jitted = jax.jit(trainer.jitted, donate_argnums=0)
    for step in range(1, 4):
        trainer.step(batches(step))
    stage.manager.wait_until_finished()
    shapes = stage.shapes(1)
    assert set(shapes) == set(variables)
    read = stage.variables(1, shapes)
    fresh = Trainer(model, variables, fine_tuning(), seed=6)
    state = stage.state(1, fresh.state)
    assert int(state.step) == 1
    assert (
        jax.random.key_data(state.key).tolist() == jax.random.key_data(trainer.state.key).tolist()
    )
    jax.tree.map(np.testing.assert_array_equal, kept[1], state.optimizer)
    assert set(stage.variables(1, {"prompt/target": shapes["prompt/target"]})) == {"prompt/target"}
    for path, expected in (kept[0] | extra).items():
        np.testing.assert_array_equal(read[path], expected)


def test_variables_are_read_as_another_type(model, variables, stage):
    trainer = Trainer(model, variables, fine_tuning())
    stage.save(at(trainer.state, 1), {}, {}, None)
    stage.manager.wait_until_finished()
    path = "params/encoder/layers_0/mlp/wo/kernel"
    wanted = jax.ShapeDtypeStruct(
        variables[path].shape, jax.numpy.bfloat16, sharding=variables[path].sharding
    )
    expected = np.asarray(trainer.state.trained[path].astype(jax.numpy.bfloat16))
    np.testing.assert_array_equal(stage.variables(1, {path: wanted})[path], expected)


def test_a_reader_leaves_what_is_being_written(model, variables, stage):
    trainer = Trainer(model, variables, prompt_tuning())
    stage.save(at(trainer.state, 1), {}, {}, None)
    stage.manager.wait_until_finished()
    unfinished = stage.directory / "2.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    with contextlib.closing(Checkpoints(stage.directory, read_only=True)) as reader:
        assert reader.latest() == reader.best() == 1
        assert set(reader.shapes(1)) == {"prompt/target"}
    assert unfinished.is_dir()


@pytest.mark.parametrize("damage", ["variables", "state", "note"])
def test_a_damaged_checkpoint_names_itself(model, variables, stage, damage):
    import shutil

    trainer = Trainer(model, variables, prompt_tuning())
    stage.save(at(trainer.state, 1), {}, {}, None)
    stage.manager.wait_until_finished()
    shutil.rmtree(stage.directory / "1" / damage)
    with (
        contextlib.closing(Checkpoints(stage.directory, read_only=True)) as reader,
        pytest.raises(UserError, match="checkpoints/1 cannot be read .* restore it, or delete"),
    ):
        reader.note(1)
        reader.state(1, trainer.state)
        reader.variables(1, reader.shapes(1))

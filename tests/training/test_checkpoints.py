"""Digests of exact bits, and checkpoints of what a stage trains."""

import contextlib
import gc
import random
import resource
import shutil
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import Trainer, fine_tuning, prompt_tuning

from promot_jax.errors import UserError
from promot_jax.models import stack_layers
from promot_jax.training import Checkpoints, digest
from promot_jax.training.digests import parsed, sums


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
        stage.wait()
        expected = [1, 2, 2, 4, 4, 4][step - 1]  # of equals the newest
        assert (stage.latest(), stage.best()) == (step, expected)
        assert set(stage.steps()) == {expected, step}
    assert stage.note(4)["n"] == 4 and stage.score(4) == 0.7 and stage.score(6) is None
    stage.rescore(6, 0.9)  # its evaluation had been stopped
    assert stage.score(6) == 0.9 and stage.best() == 6
    with contextlib.closing(Checkpoints(stage.directory)) as again:
        assert again.score(6) == 0.9 and again.best() == 6


def test_without_scores_the_last_is_the_best(model, variables, stage):
    assert stage.latest() is None and stage.best() is None
    trainer = Trainer(model, variables, prompt_tuning())
    for step in (1, 2):
        stage.save(at(trainer.state, step), {}, {}, None)
    stage.wait()
    assert stage.best() == 2 and stage.steps() == [2]


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
    stage.wait()
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
    stage.wait()
    path = "params/encoder/layers_0/mlp/wo/kernel"
    wanted = jax.ShapeDtypeStruct(
        variables[path].shape, jax.numpy.bfloat16, sharding=variables[path].sharding
    )
    expected = np.asarray(trainer.state.trained[path].astype(jax.numpy.bfloat16))
    np.testing.assert_array_equal(stage.variables(1, {path: wanted})[path], expected)


def test_a_reader_leaves_what_is_being_written(model, variables, stage):
    trainer = Trainer(model, variables, prompt_tuning())
    stage.save(at(trainer.state, 1), {}, {}, None)
    stage.wait()
    unfinished = stage.directory / "2.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    with contextlib.closing(Checkpoints(stage.directory, read_only=True)) as reader:
        assert reader.latest() == reader.best() == 1
        assert set(reader.shapes(1)) == {"prompt/target"}
    assert unfinished.is_dir()


def saved(model, variables, directory, *steps):
    """Checkpoints of a prompt stage; returns its state."""
    trainer = Trainer(model, variables, prompt_tuning())
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        for step in steps:
            checkpoints.save(at(trainer.state, step), {}, {}, 1 / step)
            checkpoints.wait()
    return trainer.state


def read_all(directory, step, like) -> None:
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        checkpoints.variables(step, checkpoints.shapes(step))
        checkpoints.state(step, at(like, step))


@pytest.mark.parametrize("damage", ["variables", "state", "note"])
def test_a_damaged_checkpoint_names_itself_and_what_to_do(model, variables, tmp_path, damage):
    """The newest gives way to the one before, any other to a new stage."""
    directory = tmp_path / "1-prompt" / "checkpoints"
    state = saved(model, variables, directory, 1, 2)
    read_all(directory, 1, state)
    for step, advice in ((2, "delete it to go on from step 1"), (1, "1-prompt to begin the stage")):
        shutil.rmtree(directory / str(step) / damage)
        with pytest.raises(UserError, match=f"/{step} is damaged .* restore it, or .*{advice}"):
            read_all(directory, step, state)
        if step == 2:
            shutil.rmtree(directory / "2")


def test_every_flipped_bit_is_seen_or_harmless(model, variables, tmp_path):
    """Flipped anywhere in a checkpoint, it is an error or nothing that is read differs."""
    state = saved(model, variables, tmp_path, 1)
    files = sorted(path for path in (tmp_path / "1").rglob("*") if path.is_file())
    rng, seen = random.Random(0), 0
    for path in files:
        whole = path.read_bytes()
        for _ in range(4):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            try:
                read_all(tmp_path, 1, state)
            except UserError as error:
                assert "/1 is damaged (" in str(error) and "\n" not in str(error)
                seen += 1
        path.write_bytes(whole)
    assert seen > 20


def test_what_a_failed_read_leaves_behind_is_not_warned_of(model, variables, tmp_path):
    async def read():
        pass

    def warnings_of_coroutines() -> list[str]:
        with warnings.catch_warnings(record=True) as found:
            read()
            gc.collect()
        return [str(each.message) for each in found]

    state = saved(model, variables, tmp_path, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert warnings_of_coroutines()
        read_all(tmp_path, 1, state)
        assert not warnings_of_coroutines()


def test_a_value_that_decodes_is_still_compared(model, variables, tmp_path):
    """A whole checkpoint with one other value in it, as Orbax would write it."""
    state = saved(model, variables, tmp_path / "ours", 1)
    other = {path: x.at[0, 0].add(1) for path, x in state.trained.items()}
    saved(model, variables | other, tmp_path / "theirs", 1)
    ours = tmp_path / "ours" / "1" / "variables"
    shutil.rmtree(ours)
    shutil.copytree(tmp_path / "theirs" / "1" / "variables", ours)
    with pytest.raises(UserError, match=r"damaged \(prompt/target: not what was saved\)"):
        read_all(tmp_path / "ours", 1, state)


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{}", b"null", b'{"score": "high"}', b"\xff\xfe", b"[" * 10**5, b"NaN"]
)
def test_a_note_of_other_contents_is_refused(model, variables, tmp_path, note):
    saved(model, variables, tmp_path, 1)
    (tmp_path / "1" / "note" / "metadata").write_bytes(note)
    with pytest.raises(UserError, match="/1 is damaged .its note: [^\n]*restore it") as caught:
        Checkpoints(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_a_killed_process_left_is_removed(model, variables, tmp_path):
    saved(model, variables, tmp_path, 1)
    for name in ("2.orbax-checkpoint-tmp", ".removed-0"):
        (tmp_path / name / "variables").mkdir(parents=True)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        assert checkpoints.steps() == [1] and [x.name for x in tmp_path.iterdir()] == ["1"]


def test_a_checkpoint_that_cannot_be_written_is_an_error(model, variables, tmp_path):
    """And it does not count, and the ones before stay."""
    state = saved(model, variables, tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(Exception, match="(?i)file too large|error writing"):
            checkpoints.save(at(state, 2), {}, {}, 0.9)
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.steps() == [1]
    with contextlib.suppress(OSError):  # once more
        checkpoints.close()
    read_all(tmp_path, 1, state)


@pytest.mark.parametrize("kind", ["int32", "uint32", "bool", "bfloat16", "float16", "uint8"])
def test_sums_see_one_bit_of_every_type(kind):
    array = jax.numpy.arange(6).reshape(2, 3).astype(kind)
    raw = bytearray(np.asarray(array).tobytes())
    raw[-1] ^= 1
    other = np.frombuffer(bytes(raw), array.dtype).reshape(2, 3)
    one, two = (sums({"x": jax.numpy.asarray(x)})["x"] for x in (array, other))
    assert one != two and one.startswith(f"{kind}[2,3] ")
    assert parsed(one) == jax.ShapeDtypeStruct((2, 3), array.dtype)


def test_sums_see_types_shapes_signs_and_order():
    x = jax.numpy.arange(1.0, 7.0)
    others = [x, -x, x[::-1], x.reshape(2, 3), x.reshape(2, 3).T, x.view("int32"), x[:1], x[0]]
    assert len({sums({"x": other})["x"] for other in others}) == len(others)
    assert sums({"x": x[0]})["x"].startswith("float32[] ")

"""Checkpoints in a bucket, whose directories have their names before they are whole."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from tiny_training import Trainer, prompt_tuning

from promot_jax.errors import UserError
from promot_jax.paths import as_path
from promot_jax.training import Checkpoints
from promot_jax.training.checkpoints import COMMITTED


@pytest.fixture
def directory(bucket):
    """Names as people give them."""
    return as_path(bucket[1]) / "lr=1e-3 [ü] %41+b" / ("long" * 60) / "checkpoints"


def test_checkpoints(model, variables, directory, bucket):
    trainer = Trainer(model, variables, prompt_tuning())
    with contextlib.closing(Checkpoints(directory)) as stage:
        for step, score in ((1, 0.7), (2, 0.2), (3, 0.1)):
            state = dataclasses.replace(trainer.state, step=jax.numpy.int32(step))
            stage.save(state, {}, {}, score)
            stage.wait()
        assert (stage.steps(), stage.latest(), stage.best()) == ([1, 3], 3, 1)
    assert {path.name for path in directory.iterdir()} == {"1", "3"}
    (directory / "4" / "note" / "metadata").write_bytes(b"what a kill left")
    with contextlib.closing(Checkpoints(directory, read_only=True)) as stage:
        assert stage.steps() == [1, 3] and (directory / "4").is_dir()
        found = stage.variables(3, stage.shapes(3))
        assert found.keys() == trainer.state.trained.keys()
        for path, x in found.items():
            np.testing.assert_array_equal(x, trainer.state.trained[path])
        bucket[0].fault = lambda method, name: 403 if "/variables/" in name else None
        with pytest.raises(OSError, match="no permission") as error:  # which is no damage
            stage.variables(3, stage.shapes(3))
        assert error.value.filename.startswith(str(directory / "3"))
        bucket[0].fault = lambda method, name: 403 if "/note/" in name else None
        with pytest.raises(OSError, match="no permission"):
            Checkpoints(directory, read_only=True)
        bucket[0].fault = lambda method, name: None
    with contextlib.closing(Checkpoints(directory)) as stage:
        assert not (directory / "4").exists()
    (directory / "1" / COMMITTED).unlink()
    with pytest.raises(UserError, match="1 is damaged .it was the best one, and is gone"):
        Checkpoints(directory)

"""One update of a model made of a formula, against numbers written down once."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import VOCAB, Trainer, fine_tuning, tiny

from promot_jax.models import abstract

GOLDEN = {
    "loss": 4.7117205,
    "z_loss": 0.0031191632,
    "gradient_norm": 9.4212704,
    "tokens": 8.0,
    "embedding[70, 3]": -0.96740365,
    "encoder wo[5, 7]": 0.021746073,
    "decoder query[2, 9]": 0.18585904,
    "decoder position[1, 2]": 0.37656525,
    "head[0, 71]": 0.16613960,
    "norm[4]": 1.0057130,
}
HELP = """
{name} is {ours!r} and was {golden!r}.
One step of training no longer computes what it did. Which of the two it is:
  - other tests of models and training fail too: something is broken; begin with those of models;
  - only this one fails: a number changed on purpose (a default of the optimizer, the loss, an
    initial scale). Then write down what the test says now, and say in the commit why;
  - the difference is below 1e-4 and a library was updated: the same, and name the library.
"""


def formula(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that no library's random generator can change: a sine of the position."""
    count = int(np.prod(shape))
    wave = np.sin(np.arange(count, dtype=np.float64) * 0.7 + len(path))
    scale = {"scale": 0.1, "embedding": 1.0, "rel_embedding": 0.5}.get(path.split("/")[-1], 0.2)
    offset = 1.0 if path.endswith("scale") else 0.0
    return (offset + scale * wave).reshape(shape).astype(np.float32)


def batch() -> dict[str, np.ndarray]:
    """Two rows with the prompt, one without; the last target is shorter."""
    inputs = np.array(
        [
            [264, 265, 266, 267, 70, 71, 72, 1],
            [264, 265, 266, 267, 80, 1, 0, 0],
            [90, 91, 92, 1, 0, 0, 0, 0],
        ]
    )
    targets = np.array([[70, 71, 1], [80, 81, 1], [90, 1, 0]])
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1] * (targets > 0)
    batch = {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": inputs > 0,
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
    }
    batch = {name: x.astype(np.int32) for name, x in batch.items()}
    return batch | {"decoder_loss_weights": (targets > 0).astype(np.float32)}


@pytest.fixture(scope="module")
def measured():
    model = tiny()
    assert model.config.vocab_size == VOCAB == 264
    variables = {path: jnp.asarray(formula(path, x.shape)) for path, x in abstract(model).items()}
    trainer = Trainer(model, variables, fine_tuning(0.1))
    metrics = trainer.step(batch())
    after = trainer.state.trained
    watched = {
        "embedding[70, 3]": after["params/token_embedder/embedding"][70, 3],
        "encoder wo[5, 7]": after["params/encoder/layers_0/mlp/wo/kernel"][5, 7],
        "decoder query[2, 9]": after["params/decoder/layers_0/self_attention/query/kernel"][2, 9],
        "decoder position[1, 2]": after["params/decoder/relpos_bias/rel_embedding"][1, 2],
        "head[0, 71]": after["params/decoder/logits_dense/kernel"][0, 71],
        "norm[4]": after["params/decoder/decoder_norm/scale"][4],
    }
    numbers = {name: metrics[name] for name in ("loss", "z_loss", "gradient_norm", "tokens")}
    return numbers | {name: float(x) for name, x in watched.items()}


def test_one_step(measured):
    assert measured.keys() == GOLDEN.keys(), measured
    for name, golden in GOLDEN.items():
        ours = measured[name]
        message = HELP.format(name=name, ours=ours, golden=golden)
        assert ours == pytest.approx(golden, rel=1e-5, abs=1e-5), message

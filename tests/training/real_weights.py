"""One batch on SmolLM2's real weights in several ways, on 8 virtual devices: what differs, as JSON.

Started by `test_real_weights.py` with the work directory of the imported model. Every way is
compared with one device, layers scanned, one gradient for the batch: by how much its gradient is
off, as a share of each array's largest number (the worst array counts), and its loss.
"""

import functools
import json
import sys

import jax
import numpy as np
from test_equal_batches import once_each
from tiny_training import Trainer, inputs_of

from promot_jax import models
from promot_jax.data import Batches, TrainData
from promot_jax.models import Prompt, build, prompt_ids, unstack_layers
from promot_jax.run import base_model, base_vocabulary
from promot_jax.training import Part, adamw, gradients, make_mesh, place_batch, use
from promot_jax.training.variables import Layout, add_prompts, origin
from tasks import real_nli  # noqa: F401  registers the task

BASE = sys.argv[1]
PROMPT = Prompt("target", 20)
EIGHT = {"fsdp": 4, "tensor": 2}
STEPS = 3


def layout(shape=None, scan=True) -> Layout:
    """Of the model with a prompt; without a shape on one device."""
    devices = jax.devices() if shape else jax.devices()[:1]
    model = build(base_model(BASE, scan_layers=scan), [(PROMPT.name, PROMPT.length)])
    return Layout(model, make_mesh(shape, devices))


def variables(layout: Layout) -> dict[str, jax.Array]:
    """The real weights, and a prompt that is read from them."""
    return add_prompts(origin(BASE, 0, layout), [PROMPT], layout, 0)


def batches(rows: int, **changes) -> Batches:
    """Of the target task of `make real`, with the prompt in front."""
    settings = {"input_length": 56, "target_length": 4, "batch_size": 8, "prompts": "target"}
    config, vocabulary = base_model(BASE), base_vocabulary(BASE)
    ids = prompt_ids([PROMPT], config.vocab_size)
    data = TrainData("real_nli", max_rows=rows, **settings | changes)
    return Batches(data, vocabulary, config.vocab_size, ids, config.kind)


def gradient(layout: Layout, batch, accumulate=1):
    """Of prompt and parameters, by path of an unrolled model; and the loss."""
    run = functools.partial(gradients, functools.partial(models.loss, layout.model))
    trained = variables(layout)
    with use(layout.mesh):
        placed = place_batch(layout.mesh, batch, len(inputs_of(batch)))
        found, sums = jax.jit(run, static_argnums=4)(
            trained, {}, placed, jax.random.key(0), accumulate
        )
    found = {path: np.asarray(x) for path, x in unstack_layers(found).items()}
    return found, float(sums["loss"])


def off(found, expected) -> dict[str, float]:
    """By how much, as a share."""
    (ours, our_loss), (theirs, their_loss) = found, expected
    assert ours.keys() == theirs.keys()
    worst = max(np.abs(ours[p] - x).max() / np.abs(x).max() for p, x in theirs.items())
    return {"gradient": float(worst), "loss": abs(our_loss / their_loss - 1)}


def losses(layout: Layout, parts: list[Part]) -> list[float]:
    """Of the first steps of a stage."""
    trainer = Trainer(layout.model, variables(layout), parts, layout.mesh)
    made = batches(64)
    return [trainer.step(made(step))["loss"] for step in range(STEPS)]


def main() -> None:
    batch = batches(8)(0)
    assert layout().abstract().keys() != layout(scan=False).abstract().keys()
    expected = gradient(layout(), batch)
    found = {
        "unrolled": off(gradient(layout(scan=False), batch), expected),
        "accumulated": off(gradient(layout(), batch, accumulate=4), expected),
        "eight devices": off(gradient(layout(EIGHT), batch), expected),
    }
    one, packed = (
        once_each(batches(16, batch_size=1, input_length=n, target_length=m, packing=n > 56))
        for n, m in ((56, 4), (160, 12))
    )
    found["rows"] = [len(inputs_of(packed)), len(inputs_of(one))]
    found["packed"] = off(gradient(layout(), packed), gradient(layout(), one))
    for name, part in {
        "prompt": Part("prompt", 0.01, adamw),
        "model": Part("params", 5e-5, adamw),
    }.items():
        found[name] = [losses(layout(shape), [part]) for shape in (None, EIGHT)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()

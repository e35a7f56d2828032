"""A tiny model of either kind, its loss, batches from a real task, and stages of a few steps."""

import functools
import itertools

import jax
import numpy as np
import optax
import pytest

from promot_jax import data, models
from promot_jax.models import (
    DecoderConfig,
    Model,
    Prompt,
    T5Config,
    abstract,
    build,
    prompt_ids,
    stack_layers,
)
from promot_jax.models.layout import canonical
from promot_jax.training import Part, assign, begin, make_mesh, place_batch, thaw, train_step, use

VOCAB = 264  # bytes, and a few rows that no text uses
T5, DECODER = KINDS = "encoder_decoder", "decoder_only"
SIZES = {"vocab_size": VOCAB, "emb_dim": 32, "mlp_dim": 64}
SIZES_OF = {
    T5: {"num_heads": 2, "head_dim": 16, "num_encoder_layers": 1, "num_decoder_layers": 1},
    # A Gemma, the family with most to get wrong: a window of less than a row, one kv head.
    DECODER: {
        "num_heads": 4, "num_kv_heads": 1, "head_dim": 8, "num_layers": 2, "norm_offset": True,
        "norm_placement": "both", "qk_norm": "head", "scale_embeddings": True,
        "layer_types": ("local", "global"), "sliding_window": 8, "max_position_embeddings": 128,
    },
}  # fmt: skip
DEFAULTS = {T5: {"dropout_rate": 0.0}, DECODER: {}}
CONFIGS = {T5: T5Config, DECODER: DecoderConfig}
both_kinds = pytest.mark.parametrize("kind", KINDS, indirect=True)
PROMPTS = (Prompt("target", 4),)
IDS = prompt_ids(PROMPTS, VOCAB)
numbers = itertools.count()


def tiny(kind: str = T5, **changes) -> Model:
    """A T5 1.1 without dropout, or a Gemma; `changes` are fields of its config."""
    config = CONFIGS[kind](**(SIZES | SIZES_OF[kind] | DEFAULTS[kind] | changes))
    return build(config, [(p.name, p.length) for p in PROMPTS])


def variables_of(model: Model, seed: int = 0) -> dict[str, jax.Array]:
    """Random variables as arrays of numpy's: no program is compiled to draw them.

    Those of scanned layers are the unrolled ones stacked.
    """
    rng, drawn = np.random.default_rng(seed), {}
    for path, leaf in sorted(abstract(canonical(model)).items()):
        spread = (
            1.0 if leaf.ndim < 2 or "embed" in path or "prompt" in path else leaf.shape[0] ** -0.5
        )
        one = path.endswith("scale") and not getattr(model.config, "norm_offset", False)
        value = rng.normal(float(one), 0.5 * spread, leaf.shape)
        drawn[path] = jax.device_put(value.astype(leaf.dtype))
    return stack_layers(drawn) if model.config.scan_layers else drawn


def loss_of(model: Model):
    """The loss as stages use it."""
    return functools.partial(models.loss, model, label_smoothing=0.1, z_loss=1e-4)


def write_tsv(directory) -> str:
    """A file of rows of very unequal lengths; returns the name of its task."""
    rows = [
        f"say {a * (1 + i % 3)} now\t{a * (1 + i % 7)}" for i, a in enumerate("abcdefghijklmnop")
    ]
    path = directory / "rows.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return data.file_task(f"training_{next(numbers)}", str(path), str(path))


def batches_of(task: str, batch_size=8, kind: str = T5, **changes) -> data.Batches:
    """Global batches of a task, each input with the prompt in front."""
    settings = {"input_length": 24, "target_length": 10, "prompts": "target"} | changes
    train_data = data.TrainData(task, batch_size=batch_size, **settings)
    return data.Batches(train_data, data.byte(), VOCAB, IDS, kind)


def inputs_of(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The ids that have the prompts among them."""
    return batch.get("encoder_input_tokens", batch["decoder_input_tokens"])


@functools.lru_cache
def jitted_step(model: Model, parts: tuple[Part, ...], accumulate: int):
    """The step, compiled once for all tests that take the same."""
    return jax.jit(
        functools.partial(
            train_step,
            loss=loss_of(model),
            parts=parts,
            owner=assign(parts, abstract(model)),
            accumulate=accumulate,
        )
    )


class Trainer:
    """State and frozen variables of a stage, and steps on them, jitted as the loop does it."""

    def __init__(self, model, variables, parts, mesh=None, accumulate=1, seed=0):
        self.mesh = mesh or make_mesh(devices=jax.devices()[:1])
        owner = assign(parts, variables)
        self.state, self.frozen = thaw(begin(self.mesh, seed), variables, parts, owner)
        self.jitted = jitted_step(model, tuple(parts), accumulate)

    def step(self, batch) -> dict[str, float]:
        """One update; returns the metrics."""
        with use(self.mesh):
            placed = place_batch(self.mesh, batch, len(inputs_of(batch)))
            self.state, metrics = self.jitted(self.state, self.frozen, placed)
        return {name: float(value) for name, value in metrics.items()}

    def flops(self, batch) -> float:
        """Floating point operations of the compiled step."""
        with use(self.mesh):
            placed = place_batch(self.mesh, batch, len(inputs_of(batch)))
            return (
                self.jitted.lower(self.state, self.frozen, placed)
                .compile()
                .cost_analysis()["flops"]
            )


def copies(variables) -> dict[str, np.ndarray]:
    """On the host, safe from donation."""
    return {path: np.array(x) for path, x in variables.items()}


def descent(rate):
    """Plain gradient descent: next to nothing to compile."""
    return optax.sgd(rate)


def fine_tuning(rate=0.01, **changes) -> list[Part]:
    return [Part("params", rate, **changes)]


def prompt_tuning(rate=0.3, **changes) -> list[Part]:
    return [Part("prompt", rate, **changes)]

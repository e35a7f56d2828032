"""A tiny model, its loss, batches from a real task, and stages of a few steps on them."""

import functools
import itertools

import jax
import numpy as np

from promot_jax import data, models
from promot_jax.models import T5, Prompt, T5Config, init, init_prompts, prompt_ids, random_uniform
from promot_jax.training import Part, assign, begin, make_mesh, place_batch, thaw, train_step, use

VOCAB = 264  # bytes, and a few rows that no text uses
SIZES = {
    "vocab_size": VOCAB,
    "emb_dim": 32,
    "num_heads": 2,
    "head_dim": 16,
    "mlp_dim": 64,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}
PROMPTS = (Prompt("target", 4, random_uniform()),)
IDS = prompt_ids(PROMPTS, VOCAB)
numbers = itertools.count()


def tiny(**changes) -> T5:
    """A T5 1.1 without dropout."""
    config = T5Config(**(SIZES | {"dropout_rate": 0.0} | changes))
    return T5(config, tuple((p.name, p.length) for p in PROMPTS))


def variables_of(model: T5, seed: int = 0) -> dict[str, jax.Array]:
    """Random variables, the prompt included."""
    variables = init(model, jax.random.key(seed))
    embedding = variables["params/token_embedder/embedding"]
    drawn = init_prompts(jax.random.key(seed + 1), embedding, PROMPTS)
    return variables | {f"prompt/{name}": value for name, value in drawn.items()}


def loss_of(model: T5):
    """The loss as stages use it."""
    return functools.partial(models.loss, model, label_smoothing=0.1, z_loss=1e-4)


def write_tsv(directory) -> str:
    """A file of rows of very unequal lengths; returns the name of its task."""
    rows = [f"say {a * (1 + i % 3)} now\t{a * (1 + i % 7)}" for i, a in enumerate("abcdefghijklmnop")]
    path = directory / "rows.tsv"
    path.write_text("\n".join(rows) + "\n")
    return data.file_task(f"training_{next(numbers)}", str(path), str(path))


def batches_of(task: str, batch_size=8, **changes) -> data.Batches:
    """Global batches of a task, each input with the prompt in front."""
    settings = {"input_length": 24, "target_length": 10, "prompts": "target"} | changes
    train_data = data.TrainData(task, batch_size=batch_size, **settings)
    return data.Batches(train_data, data.byte(), VOCAB, IDS)


class Trainer:
    """State and frozen variables of a stage, and steps on them, jitted as the loop does it."""

    def __init__(self, model, variables, parts, mesh=None, accumulate=1, seed=0):
        self.parts, self.mesh = parts, mesh or make_mesh(devices=jax.devices()[:1])
        self.owner = assign(parts, variables)
        self.accumulate, self.loss = accumulate, loss_of(model)
        self.state, self.frozen = begin(self.mesh, seed), variables
        self.thaw()

    def thaw(self):
        self.state, self.frozen = thaw(self.state, self.frozen, self.parts, self.owner)
        step = functools.partial(
            train_step,
            loss=self.loss,
            parts=self.parts,
            owner=self.owner,
            accumulate=self.accumulate,
        )
        self.jitted = jax.jit(step)

    def step(self, batch) -> dict[str, float]:
        """One update; returns the metrics."""
        with use(self.mesh):
            placed = place_batch(self.mesh, batch)
            self.state, metrics = self.jitted(self.state, self.frozen, placed)
        return {name: float(value) for name, value in metrics.items()}

    def flops(self, batch) -> float:
        """Floating point operations of the compiled step."""
        with use(self.mesh):
            placed = place_batch(self.mesh, batch)
            return self.jitted.lower(self.state, self.frozen, placed).compile().cost_analysis()["flops"]


def copies(variables) -> dict[str, np.ndarray]:
    """On the host, safe from donation."""
    return {path: np.array(x) for path, x in variables.items()}


def fine_tuning(rate=0.01, **changes) -> list[Part]:
    return [Part("params", rate, **changes)]


def prompt_tuning(rate=0.3, **changes) -> list[Part]:
    return [Part("prompt", rate, **changes)]

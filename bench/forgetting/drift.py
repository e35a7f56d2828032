"""How far a tuned model is from the base, measured on what a run leaves.

distance         |theta - theta0| / |theta0| over all parameters, with LoRA merged
changed          share of the parameters that are not what they were
kl               mean over target tokens of KL(p0 || p), nats; p0 the base's distribution behind
                 the right answer's tokens so far, p the tuned model's
  target           on the target's test rows, asked as in training: with prompt or tag
  plain            on the same rows without a prompt; the base never has one
  held_out         on rows of all held-out tasks
rate_sqrt_loss   sum over the last training's updates of learning rate * sqrt(loss), which
                 bounds what they can forget (FINCH, arXiv 2605.20005), with the loss of the log
plain_score      share of the target's test rows that are answered rightly without prompt or tag:
                 what is in the weights
updates, seconds of the last training, by its log
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bench.forgetting.analysis import HELD_OUT
from promot_jax.data import eval_set
from promot_jax.models import Batch, Model, Variables
from promot_jax.models.layers import logits_of
from promot_jax.models.layout import nested
from promot_jax.models.lora import merged
from promot_jax.run import LanguageModel

ROWS = 60  # of each task
SCORED = 200  # of the target, where answers are scored
MOST = 512  # tokens
FEW = 10  # updates
Pairs = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]


def measure(
    stage: Path, base: str, target: str, scored: str, attached: bool = True
) -> dict[str, Any]:
    """All of it, of a stage's last checkpoint.

    Args:
      stage: the last training's directory.
      base: work directory of the model that it all began with.
      target: the target's task.
      scored: the same, or the variant of it that was tuned on.
      attached: whether LoRA is left on for all but the target.
    """
    tuned, first = LanguageModel(str(stage)), LanguageModel(base)
    # With the prompt's vectors, which the base does not look up, and without LoRA.
    before = without_lora(tuned.variables) | first.variables
    after = tuned.variables if attached else without_lora(tuned.variables)
    plain = _pairs(tuned, [target], None)
    asked = {
        "target": _pairs(tuned, [scored], next(iter(tuned.prompts), None)),
        "plain": plain,
        "held_out": _pairs(tuned, HELD_OUT, None),
    }
    kl = {
        name: divergence(
            tuned, before, tuned.variables if name == "target" else after,
            plain if name == "target" else pairs, pairs,
        )
        for name, pairs in asked.items()
    }  # fmt: skip
    found = {"kl": kl, "plain_score": plain_score(tuned, after, target)}
    return distances(first.variables, _merged(tuned, after)) | found | of_log(stage)


def last_training(workdir: Path) -> Path | None:
    """The directory of the last stage that made updates; None where none did."""
    logs = sorted(workdir.glob("*/metrics.jsonl"), key=lambda p: int(p.parent.name.split("-")[0]))
    return next((log.parent for log in reversed(logs) if log.stat().st_size), None)


def without_lora(variables: Variables) -> Variables:
    """Variables in which it adds nothing."""
    return {
        path: jnp.zeros_like(x) if path.startswith("lora/") else x for path, x in variables.items()
    }


def _merged(model: LanguageModel, variables: Variables) -> Variables:
    lora = model.description.model.lora
    return variables if lora is None else merged(variables, lora)


def distances(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, float]:
    """Of parameters that both have."""
    paths = [path for path in before if path.startswith("params/")]
    moved = sum(float(jnp.sum((after[p] - before[p]) ** 2)) for p in paths)
    size = sum(float(jnp.sum(before[p] ** 2)) for p in paths)
    changed = sum(int(jnp.sum(after[p] != before[p])) for p in paths)
    return {
        "distance": (moved / size) ** 0.5,
        "changed": changed / sum(before[p].size for p in paths),
    }


def plain_score(model: LanguageModel, variables: Variables, target: str) -> float:
    """See above."""
    about = model.description, model.vocabulary
    plain = LanguageModel.of(*about, variables, model.generator)
    pairs = _pairs(model, [target], None, SCORED)
    return float(np.mean([found.greedy for found in plain.score_ids(*pairs, SCORED)]))


def _pairs(
    model: LanguageModel, tasks: Sequence[str], prompt: str | None, rows: int = ROWS
) -> Pairs:
    """Inputs and right answers as ids, of test rows."""
    ids = model.prompt_ids[prompt] if prompt else None
    config, inputs, targets = model.description.model, [], []
    for task in tasks:
        found = eval_set(
            task, "test", 0, model.vocabulary, config.vocab_size, ids, MOST, rows, kind=config.kind
        )
        inputs += found.tokens
        targets += [model.encode_target(row.inputs, row.targets) for row in found.examples]
    return inputs, targets


def divergence(
    model: LanguageModel, before: Variables, after: Variables, bare: Pairs, asked: Pairs
) -> float:
    """Mean over target tokens of KL(before || after), asked `bare` and as it was `asked`."""
    size = len(asked[0])
    batches = [_batch(model, pairs, size) for pairs in (bare, asked)]
    network = model.description.module()
    return float(_divergence(network, before, after, *batches))


def _batch(model: LanguageModel, pairs: Pairs, size: int) -> Batch:
    longest = [max(map(len, rows)) for rows in pairs]
    batch = model.layout.empty(size, *longest)
    for row, pair in enumerate(zip(*pairs, strict=True)):
        model.layout.write(batch, row, [pair])
    return batch


@functools.partial(jax.jit, static_argnums=0)
def _divergence(
    model: Model, before: Variables, after: Variables, bare: Batch, asked: Batch
) -> Float[Array, ""]:
    """All logits at once: for vocabularies as small as the lab's."""

    def log_p(variables, batch):
        parts = lambda module: (module.hidden(batch), module.head())  # noqa: E731
        hidden, head = model.apply(nested(variables), method=parts)
        return jax.nn.log_softmax(logits_of(hidden, head, model.soft_cap))

    old, new = log_p(before, bare), log_p(after, asked)
    real = asked["decoder_loss_weights"] > 0
    divergences = jnp.sum(jnp.exp(old) * (old - new), axis=-1)
    return jnp.sum(jnp.where(real, divergences, 0.0)) / jnp.sum(real)


def of_log(stage: Path) -> dict[str, float]:
    """From metrics.jsonl, which has a line for each of so many updates and goes on with a run."""
    lines = (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line) for line in lines]
    steps = np.diff([0, *(line["step"] for line in logged)])
    rates = [line["learning_rate"] for line in logged]
    losses = [max(line["loss"], 0.0) for line in logged]
    return {
        "rate_sqrt_loss": float(np.sum(steps * rates * np.sqrt(losses))),
        "first_loss": float(np.mean(losses[:FEW])),
        "last_loss": float(np.mean(losses[-FEW:])),
        "updates": logged[-1]["step"],
        "seconds": logged[-1]["seconds"],
    }

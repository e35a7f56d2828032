"""Do true and shuffled labels pull alike? The paper's Figure 3 (arXiv 2211.00635), with controls.

    python -m bench.forgetting.alignment              NLI, three bases: minutes

While fine-tuning learns a format, labels that are shuffled give nearly the gradient that the true
ones give; once the task is learned they do not. After so many updates on true labels, the gradient
of a batch is compared with that of the same inputs with the batch's labels in another order, for
each kernel of the last decoder layer: cosines, and for controls, since those inputs are shared,

    other     of a batch with shuffled labels and the next one with true labels
    true      of the same two with true labels: what the labels cost is what `other` is less
    norms     norm with shuffled over norm with true labels, which shrinks as the task is fitted

For fine-tuning, and for ProMoT's second stage behind the prompt that the benchmark tuned. Updates
are AdamW's at the benchmark's rate; gradients are of validation rows, which none of them has seen.
"""

import argparse
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.forgetting.explain import LADDER
from bench.forgetting.plan import NAMED, SHIPPED, runs_of
from bench.forgetting.table import TARGETS
from bench.starting import start
from promot_jax.console import say
from promot_jax.data import Batches, TrainData
from promot_jax.errors import UserError
from promot_jax.models import Batch, Model, Variables, loss
from promot_jax.run import LanguageModel
from tasks import lab  # noqa: F401  (registers its tasks)

FILE = Path("bench/forgetting/alignment.json")
RATE, STEPS, EVERY, BATCH, MEASURED = 3e-4, 400, 25, 32, 8
TARGET = TARGETS[0]


def shuffled(batch: Batch, seed: int) -> Batch:
    """The same inputs, each with the target of a row of the batch drawn at random."""
    order = np.random.default_rng(seed).permutation(len(batch["decoder_target_tokens"]))
    return {name: x[order] if name.startswith("decoder") else x for name, x in batch.items()}


def cosines(a: Mapping[str, jax.Array], b: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Of each array of one tree with that of the other."""
    norm = jnp.linalg.norm
    return {path: jnp.vdot(a[path], b[path]) / (norm(a[path]) * norm(b[path])) for path in a}


def of_last_layer(paths: Sequence[str]) -> list[str]:
    """The kernels of the last layer of the decoder."""
    layers = sorted(
        {path.split("/")[2] for path in paths if path.startswith("params/decoder/layers_")}
    )
    return [p for p in paths if p.startswith(f"params/decoder/{layers[-1]}/") and "kernel" in p]


@functools.partial(jax.jit, static_argnums=0)
def gradient(model: Model, trained: Variables, frozen: Variables, batch: Batch) -> Variables:
    """Of the mean loss over target tokens."""

    def mean(trained):
        total, sums = loss(model, trained | frozen, batch)
        return total / sums["tokens"]

    return jax.grad(mean)(trained)


def curve(language_model: LanguageModel, seed: int) -> Iterator[dict[str, float]]:
    """The comparison after 0, `EVERY`, ... updates; means over kernels and batches."""
    prompt = next(iter(language_model.prompts), None)
    model, config = language_model.description.module(), language_model.description.model
    batches = {
        split: Batches(
            TrainData(TARGET, 48, 8, BATCH, split, prompt, seed=seed),
            language_model.vocabulary, config.vocab_size, language_model.prompt_ids, config.kind,
        )
        for split in ("train", "validation")
    }  # fmt: skip
    variables = language_model.variables
    trained = {path: x for path, x in variables.items() if path.startswith("params/")}
    frozen = {path: x for path, x in variables.items() if path not in trained}
    optimizer = optax.adamw(optax.linear_schedule(RATE, 0.0, STEPS), weight_decay=0.0)
    state = optimizer.init(trained)
    update = jax.jit(lambda grads, state, trained: _update(optimizer, grads, state, trained))
    asked = [batches["validation"](step) for step in range(MEASURED)]
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            yield {"step": step} | compared(model, trained, frozen, asked, seed)
        grads = gradient(model, trained, frozen, batches["train"](step))
        trained, state = update(grads, state, trained)


def _update(optimizer, grads, state, trained):
    updates, state = optimizer.update(grads, state, trained)
    return optax.apply_updates(trained, updates), state


def compared(
    model: Model, trained: Variables, frozen: Variables, batches: Sequence[Batch], seed: int
) -> dict[str, float]:
    """Cosines of true with shuffled labels, and of both with the next batch's true ones; norms."""
    kernels = of_last_layer(list(trained))
    kept = lambda grads: {path: grads[path] for path in kernels}  # noqa: E731
    true = [kept(gradient(model, trained, frozen, batch)) for batch in batches]
    mixed = [
        kept(gradient(model, trained, frozen, shuffled(batch, seed + i)))
        for i, batch in enumerate(batches)
    ]
    mean = lambda found: float(np.mean([list(each.values()) for each in found]))  # noqa: E731
    norm = lambda grads: {path: jnp.linalg.norm(x) for path, x in grads.items()}  # noqa: E731
    following = [*true[1:], true[0]]
    return {
        "shuffled": mean(map(cosines, true, mixed)),
        "other": mean(map(cosines, mixed, following)),
        "true": mean(map(cosines, true, following)),
        "norms": mean(map(norm, mixed)) / mean(map(norm, true)),
    }


def read() -> list[dict]:
    """What was written; nothing where there is no file."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes every curve's points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/forgetting", help="where the prompts were tuned")
    args = parser.parse_args(argv)
    found = []
    for base, seed in LADDER:
        prompt = next(runs_of(NAMED["prompt tuning"], TARGET, base, seed)).name
        plain = SHIPPED.get(base, f"{args.workdir}/base{base}")
        starts = {"fine-tuning": Path(plain), "ProMoT": Path(args.workdir) / prompt}
        if not (starts["ProMoT"] / "run.json").exists():
            raise UserError(
                f"{starts['ProMoT']} is not there: first python -m bench.forgetting"
                f" --only '{prompt}$'"
            )
        for method, place in starts.items():
            points = list(curve(LanguageModel(str(place)), seed))
            found.append({"method": method, "base": base, "seed": seed, "points": points})
            say(f"{method}, base {base}: {points[0]} ... {points[-1]}")
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    start(main, "bench.forgetting.alignment")

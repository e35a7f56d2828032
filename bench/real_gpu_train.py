"""The half of `bench.real_gpu` that trains, on a machine without TensorFlow and SeqIO.

    python -m bench.real_gpu_train DATA OUT --learning_rates 2e-5 5e-5 1e-4 --seeds 0 1 2

DATA is what `prepare` made: token arrays of every batch and every evaluation, `plan.json`, and the
weights, quantised as they came (`weights.*.npz`, each small enough to be sent alone). Here are only
the model, its loss, generation and the product's own training step. OUT gets the output ids of
every evaluation (`<run>.<step>.npz`), the losses (`<run>.json`), and nothing is decoded.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from promot_jax import models, training

PROMPT = "target"
EMBEDDING = "params/token_embedder/embedding"


def main(argv: Sequence[str] | None = None) -> None:
    """Trains and evaluates every run, and says how long each took."""
    args = parser().parse_args(argv)
    jax.config.update("jax_default_matmul_precision", "highest")  # or GPUs round to 10 bits
    data = Data(Path(args.data))
    base = weights(Path(args.data))
    trials = Trials(data, base, Path(args.out), args)
    trials.evaluate("base", 0, trials.start(None), prompted=False)
    for seed in args.seeds:
        tuned = trials.prompt(seed)
        for rate in args.learning_rates:
            trials.model("finetune", seed, rate, None)
            trials.model("promot", seed, rate, tuned)


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[2e-5, 5e-5, 1e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--prompt_steps", type=int, default=80)
    parser.add_argument("--prompt_learning_rate", type=float, default=1e-2)
    parser.add_argument("--dtype", default="float32", help="of activations")
    return parser


class Data:
    """What `prepare` made.

    Attributes:
      plan: names, lengths, stop ids.
      config: of the model.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self.plan: dict[str, Any] = json.loads((directory / "plan.json").read_text("utf-8"))
        self.config = models.config_from_json(self.plan["model"])

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a file."""
        with np.load(self._directory / f"{name}.npz") as file:
            return dict(file)

    def batches(self, seed: int, prompted: bool) -> Iterator[dict[str, np.ndarray]]:
        """The batches of training, in order."""
        arrays = self.arrays(f"train.{seed}.{'prompt' if prompted else 'plain'}")
        for step in range(len(next(iter(arrays.values())))):
            yield {name: values[step] for name, values in arrays.items()}


def weights(directory: Path) -> dict[str, np.ndarray]:
    """The parameters by path, in float32. A name is the path, how it is stored, and how it lies."""
    found = {}
    for part in sorted(directory.glob("weights.*.npz")):
        with np.load(part) as file:
            for name in file.files:
                path, kind, lies = name.split("|")
                array = DECODE[kind](file[name])
                found[path] = np.ascontiguousarray(array.T if lies == "transposed" else array)
    return found


def q4_1(raw: np.ndarray) -> np.ndarray:
    """GGUF's Q4_1: blocks of 32 numbers of 4 bits, with a factor and an offset in float16."""
    blocks = raw.reshape(len(raw), -1, 20)
    factor, offset = (blocks[..., i : i + 2].copy().view("<f2").astype(np.float32) for i in (0, 2))
    bits = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1)
    return (factor * bits.astype(np.float32) + offset).reshape(len(raw), -1)


def q8_0(raw: np.ndarray) -> np.ndarray:
    """GGUF's Q8_0: blocks of 32 numbers of 8 bits, with a factor in float16."""
    blocks = raw.reshape(len(raw), -1, 34)
    factor = blocks[..., :2].copy().view("<f2").astype(np.float32)
    return (blocks[..., 2:].copy().view(np.int8).astype(np.float32) * factor).reshape(len(raw), -1)


DECODE = {"Q4_1": q4_1, "Q8_0": q8_0, "F32": lambda array: array}


class Trials:
    """The runs of one experiment on one model."""

    def __init__(
        self, data: Data, base: Mapping[str, np.ndarray], out: Path, args: argparse.Namespace
    ):
        self._data, self._out, self._args = data, out, args
        config = dataclasses.replace(data.config, dtype=args.dtype, scan_layers=True)
        # Every run has the prompt's variable, also those without it: fewer programs to compile.
        self._model = models.build(config, ((PROMPT, data.plan["prompt_length"]),))
        self._base = models.stack_layers(base, np.stack)
        self._mesh = training.make_mesh(devices=jax.devices()[:1])
        self._steps: dict[str, Any] = {}
        self._measured: dict[str, dict] = {}
        out.mkdir(parents=True, exist_ok=True)

    def start(self, prompt: jax.Array | None) -> models.Variables:
        """The base's variables and the prompt; None: one that nothing reads."""
        shape = (self._data.plan["prompt_length"], self._data.config.emb_dim)
        prompt = jnp.zeros(shape) if prompt is None else prompt
        variables = dict(self._base) | {f"prompt/{PROMPT}": prompt}
        copied = {path: jnp.array(x) for path, x in variables.items()}  # steps donate them
        return jax.device_put(copied, training.replicated(self._mesh))

    def prompt(self, seed: int) -> jax.Array:
        """The prompt tuned with the model frozen, [length, embed]."""
        args, prompt = self._args, models.Prompt(PROMPT, self._data.plan["prompt_length"])
        key = jax.random.fold_in(jax.random.key(seed), 1)
        table = jnp.asarray(self._base[EMBEDDING]) * self._model.embedding_scale
        first = models.init_prompts(key, table, [prompt])[PROMPT]
        run, steps, rate = f"prompt_tuning-seed{seed}", args.prompt_steps, args.prompt_learning_rate
        variables = self._train(run, first, "prompt", rate, 0, seed, True, steps, steps)
        return variables[f"prompt/{PROMPT}"]

    def model(self, method: str, seed: int, rate: float, prompt: jax.Array | None) -> None:
        """The whole model, with the prompt attached and frozen, or without one."""
        run, args = f"{method}-lr{rate:g}-seed{seed}", self._args
        steps, prompted = args.steps, prompt is not None
        self._train(run, prompt, "params", rate, 5, seed, prompted, steps, args.every)

    def _step(self, pattern: str, warmup: int):
        """The product's step; the learning rate is an argument, so that all rates share it."""
        loss = functools.partial(models.loss, self._model)

        def step(state, frozen, batch, rate):
            part = _part(pattern, rate, warmup)
            owner = training.assign([part], state.trained)
            return training.train_step(
                state, frozen, batch, loss=loss, parts=[part], owner=owner, accumulate=1
            )

        return self._steps.setdefault(pattern, jax.jit(step, donate_argnums=0))

    def _train(self, run, prompt, pattern, rate, warmup, seed, prompted, steps, every):
        """The variables after `steps` updates; evaluates every so often and at the end."""
        variables = self.start(prompt)
        part = _part(pattern, rate, warmup)
        owner = training.assign([part], variables)
        step, begun = self._step(pattern, warmup), time.monotonic()
        with training.use(self._mesh):
            state, frozen = training.thaw(
                training.begin(self._mesh, seed), variables, [part], owner
            )
            for n, batch in enumerate(self._data.batches(seed, prompted)):
                if n >= steps:
                    break
                if n % every == 0 and n:
                    self.evaluate(run, n, state.trained | frozen, prompted)
                state, metrics = step(state, frozen, batch, jnp.float32(rate))
            variables = state.trained | frozen
        self.evaluate(run, steps, variables, prompted)
        seconds, loss = time.monotonic() - begun, float(metrics["loss"])
        print(f"{run}: {steps} steps, last loss {loss:.3f}, {seconds:.0f} s", flush=True)
        return variables

    def evaluate(self, run: str, step: int, variables, prompted: bool) -> None:
        """Writes what the model answers, and its losses, at a step."""
        ask, score = _compiled(
            self._model, self._data.plan["max_output"], tuple(self._data.plan["stop_ids"])
        )
        outputs, scores = {}, {}
        for group in ("plain", "prompt") if prompted else ("plain",):
            arrays = self._data.arrays(f"asked.{group}")
            outputs[group] = np.asarray(ask(variables, arrays["tokens"], arrays["segments"]))
        for name in self._data.plan["scored"]:
            scores[name] = np.asarray(
                score(variables, self._data.arrays(f"scored.{name}"))
            ).tolist()
        np.savez_compressed(self._out / f"{run}.{step}.npz", **outputs)
        self._measured.setdefault(run, {})[step] = scores
        text = json.dumps(self._measured[run])
        (self._out / f"{run}.json").write_text(text, encoding="utf-8")


@functools.cache
def _compiled(model: models.Model, length: int, stop_ids: tuple[int, ...]):
    """Generation and scoring; the batch's shape is that of a whole set."""
    decoding = models.Decoding(max_length=length)
    ask = jax.jit(
        lambda variables, tokens, segments: models.generate(
            model, variables, tokens, segments, decoding, stop_ids
        )[0]
    )
    return ask, jax.jit(lambda variables, batch: models.score(model, variables, batch)[0])


def _part(pattern: str, rate: float | jax.Array, warmup: int) -> training.Part:
    """As gin/runs/real.gin trains."""
    shape = optax.warmup_constant_schedule(0.0, 1.0, warmup) if warmup else lambda step: 1.0
    return training.Part(pattern, lambda step: rate * shape(step), training.adamw, clip_norm=1.0)


if __name__ == "__main__":
    main()

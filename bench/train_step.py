"""Time, memory and arithmetic of one training step, as one JSON line.

    python -m bench.train_step --method finetune
    python -m bench.train_step --method prompt_tuning

Model: T5 1.1 with d_model 512, 6 heads of 64, d_ff 1024, 8 + 8 layers, vocabulary 32128, float32.
Batch 8, inputs 128, targets 32, Adafactor; prompt tuning has 100 prompt tokens in addition. Random
weights and tokens. What is timed is the trainer's own step, as a stage compiles it.
"""

import argparse
import functools
import json
import resource
import statistics
import time
from collections.abc import Sequence

import jax
import numpy as np

from promot_jax import models, training
from promot_jax.process import restart_as_wished
from promot_jax.training.loop import Plan, compile_step

CONFIG = models.T5Config(
    vocab_size=32128,
    emb_dim=512,
    num_heads=6,
    num_encoder_layers=8,
    num_decoder_layers=8,
    head_dim=64,
    mlp_dim=1024,
)
BATCH, INPUTS, TARGETS, PROMPT = 8, 128, 32, 100


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measures, prints the line and returns it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", choices=("finetune", "prompt_tuning"), default="finetune")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=CONFIG.dropout_rate)
    args = parser.parse_args(argv)
    result = measure(args.method, args.steps, args.dropout)
    print(json.dumps(result))
    return result


def setup(method: str, dropout: float):
    """The mesh, the compiled-to-be step's plan, its state and frozen variables."""
    tuned = method == "prompt_tuning"
    config = CONFIG.__class__(**(CONFIG.__dict__ | {"dropout_rate": dropout}))
    model = models.T5(config, (("target", PROMPT),) if tuned else ())
    adafactor = functools.partial(
        training.adafactor, multiply_by_parameter_scale=not tuned, factored=not tuned
    )
    pattern, rate = ("prompt", 0.2) if tuned else ("params", 1e-3)
    part = training.Part(pattern, rate, adafactor)
    mesh = training.make_mesh()
    places = training.shardings(mesh, models.abstract(model), models.logical_axes(model))
    init = jax.jit(lambda key: models.init(model, key), out_shardings=places)
    variables = init.lower(jax.random.key(0)).compile()(jax.random.key(0))
    owner = training.assign([part], variables)
    loss = functools.partial(models.loss, model, z_loss=1e-4)
    plan = Plan(
        method,
        0,
        loss,
        [part],
        owner,
        lambda step: {},
        BATCH,
        1,
        1,
        bool,
        lambda *_: None,
        lambda *_: None,
    )
    state, frozen = training.thaw(training.begin(mesh, 0), variables, [part], owner)
    return mesh, plan, state, frozen


def batch(method: str) -> dict[str, np.ndarray]:
    """Random tokens without padding, the prompt in front."""
    draw = np.random.default_rng(0).integers
    inputs = draw(2, 32000, (BATCH, INPUTS), np.int32)
    if method == "prompt_tuning":
        prompt = np.arange(CONFIG.vocab_size, CONFIG.vocab_size + PROMPT, dtype=np.int32)
        inputs = np.concatenate([np.tile(prompt, (BATCH, 1)), inputs], axis=1)
    targets = draw(2, 32000, (BATCH, TARGETS), np.int32)
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": np.ones_like(inputs),
        "decoder_input_tokens": np.concatenate(
            [np.zeros((BATCH, 1), np.int32), targets[:, :-1]], axis=1
        ),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones((BATCH, TARGETS), np.float32),
    }


def measure(method: str, steps: int, dropout: float) -> dict[str, float]:
    """The measured figures of one method."""
    mesh, plan, state, frozen = setup(method, dropout)
    tokens = training.place_batch(mesh, batch(method), BATCH)
    with training.use(mesh):
        begun = time.perf_counter()
        step = compile_step(plan, state, frozen, tokens)
        compiled = time.perf_counter() - begun
        seconds = []
        for _ in range(steps + 2):
            begun = time.perf_counter()
            state, metrics = step(state, frozen, tokens)
            jax.block_until_ready((state, metrics))
            seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[2:])
    cost = step.cost_analysis()
    return {
        "method": method,
        "ms_per_step": round(1000 * median, 1),
        "tokens_per_second": round(
            tokens["encoder_input_tokens"].size / median + BATCH * TARGETS / median
        ),
        "compile_seconds": round(compiled, 2),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "gflop": round(cost["flops"] / 1e9, 1),
        "gflop_per_second": round(cost["flops"] / 1e9 / median, 1),
        "dropout": dropout,
        "device": jax.devices()[0].device_kind,
    }


if __name__ == "__main__":
    restart_as_wished()  # as the console script does
    main()

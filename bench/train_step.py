"""Time, memory and arithmetic of one training step, as one JSON line.

    python -m bench.train_step --method finetune
    python -m bench.train_step --method prompt_tuning
    python -m bench.train_step --model smollm2_135m --method finetune --beside

t5            T5 1.1 with d_model 512, 6 heads of 64, d_ff 1024, 8 + 8 layers, vocabulary 32128;
              inputs 128, targets 32, Adafactor; prompt tuning has 100 prompt tokens in addition
smollm2_135m  30 layers of 576, 9 heads, 3 key heads, vocabulary 49152; rows of 128 tokens, of which
              the last 32 are the target, AdamW; prompt tuning has 20 prompt tokens in addition

Batch 8, float32, random weights and tokens. What is timed is the trainer's own step, as a stage
compiles it. `--beside`: Transformers (and PEFT) train on the same rows, in turns with ours, each
time in a process of its own; a last line compares them.
"""

import argparse
import dataclasses
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from promot_jax import models, training
from promot_jax.data.layouts import make_layout
from promot_jax.process import restart_as_wished
from promot_jax.training.loop import Plan, compile_step

CONFIGS = {
    "t5": models.T5Config(
        vocab_size=32128,
        emb_dim=512,
        num_heads=6,
        num_encoder_layers=8,
        num_decoder_layers=8,
        head_dim=64,
        mlp_dim=1024,
    ),
    "smollm2_135m": models.DecoderConfig(
        vocab_size=49152,
        emb_dim=576,
        num_heads=9,
        num_kv_heads=3,
        num_layers=30,
        head_dim=64,
        mlp_dim=1536,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=1e5,
    ),
}
# (tokens of an input, of a target, of a prompt)
LENGTHS = {"t5": (128, 32, 100), "smollm2_135m": (96, 32, 20)}
BATCH, ROUNDS = 8, 2


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measures, prints the line and returns it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=CONFIGS, default="t5")
    parser.add_argument("--method", choices=("finetune", "prompt_tuning"), default="finetune")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dropout", type=float, help="of T5 (0.1)")
    parser.add_argument("--beside", action="store_true", help="Transformers; smollm2_135m only")
    args = parser.parse_args(argv)
    if args.beside:
        if args.model != "smollm2_135m":
            parser.error("--beside needs --model=smollm2_135m")
        return beside(args.method, args.steps)
    result = measure(args.model, args.method, args.steps, args.dropout)
    print(json.dumps(result))
    return result


def beside(method: str, steps: int) -> dict[str, float]:
    """Ours and Transformers' steps in turns; the medians of their rounds, and the ratios."""
    modules = {"ours": ["bench.train_step", "--model", "smollm2_135m"]}
    modules["transformers"] = ["bench.transformers_step"]
    found = {name: [] for name in modules}
    for _ in range(ROUNDS):
        for name, module in modules.items():
            command = [sys.executable, "-m", *module, "--method", method, "--steps", str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
            if done.returncode:
                sys.exit(done.stderr)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps({"who": name} | found[name][-1]), flush=True)
    of = lambda who, what: statistics.median(line[what] for line in found[who])  # noqa: E731
    ratios = {
        f"{what}_ratio": round(of("ours", what) / of("transformers", what), 3)
        for what in ("ms_per_step", "peak_rss_gib")
    }
    print(json.dumps({"method": method} | ratios))
    return ratios


def setup(name: str, method: str, dropout: float | None):
    """The mesh, the compiled-to-be step's plan, its state and frozen variables."""
    tuned, config = method == "prompt_tuning", CONFIGS[name]
    if dropout is not None:
        config = dataclasses.replace(config, dropout_rate=dropout)
    model = models.build(config, [("target", LENGTHS[name][2])] if tuned else ())
    optimizer = training.adamw
    if name == "t5":
        optimizer = functools.partial(
            training.adafactor, multiply_by_parameter_scale=not tuned, factored=not tuned
        )
    pattern, rate = ("prompt", 0.2) if tuned else ("params", 1e-3)
    part = training.Part(pattern, rate, optimizer)
    mesh = training.make_mesh()
    places = training.shardings(mesh, models.abstract(model), models.logical_axes(model))
    init = jax.jit(lambda key: models.init(model, key), out_shardings=places)
    variables = init.lower(jax.random.key(0)).compile()(jax.random.key(0))
    owner = training.assign([part], variables)
    loss = functools.partial(models.loss, model, z_loss=1e-4 if name == "t5" else 0.0)
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


def batch(name: str, method: str) -> dict[str, np.ndarray]:
    """Random tokens without padding, the prompt in front."""
    inputs, targets, prompt = LENGTHS[name]
    config, tuned = CONFIGS[name], method == "prompt_tuning"
    layout = make_layout(config.kind, None)
    arrays = layout.empty(BATCH, inputs + tuned * prompt, targets)
    soft = np.arange(config.vocab_size, config.vocab_size + prompt if tuned else config.vocab_size)
    for row, ids in enumerate(rows(name)):
        pair = np.concatenate([soft, ids[:inputs]]).astype(np.int32), ids[inputs:]
        layout.write(arrays, row, [pair])
    return arrays


def rows(name: str) -> np.ndarray:
    """The tokens of every row, input and target."""
    inputs, targets, _ = LENGTHS[name]
    return np.random.default_rng(0).integers(2, 32000, (BATCH, inputs + targets), np.int32)


def measure(name: str, method: str, steps: int, dropout: float | None) -> dict[str, float]:
    """The measured figures of one method."""
    mesh, plan, state, frozen = setup(name, method, dropout)
    tokens = training.place_batch(mesh, batch(name, method), BATCH)
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
    read = [x.size for path, x in tokens.items() if path.endswith("input_tokens")]
    return {
        "model": name,
        "method": method,
        "ms_per_step": round(1000 * median, 1),
        "tokens_per_second": round(sum(read) / median),
        "compile_seconds": round(compiled, 2),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "gflop": round(cost["flops"] / 1e9, 1),
        "gflop_per_second": round(cost["flops"] / 1e9 / median, 1),
        "device": jax.devices()[0].device_kind,
    }


if __name__ == "__main__":
    restart_as_wished()  # as the console script does
    main()

"""Time, memory and arithmetic of one training step, as one JSON line.

    python -m bench.train_step --method finetune
    python -m bench.train_step --method prompt_tuning
    python -m bench.train_step --model smollm2_135m

Sizes are `bench.sizes`'; random weights and tokens; Adafactor for T5, AdamW for a decoder. What is
timed is the trainer's own step, as a stage compiles it. `mfu` is the share of the chips' peak in
bfloat16, where that is what is computed in and the chip is known.
"""

import argparse
import dataclasses
import functools
import json
import resource
import statistics
import time
from collections.abc import Sequence

import jax
import numpy as np

from bench.sizes import SIZES, Size, flops
from bench.starting import start
from promot_jax import models, training
from promot_jax.data.layouts import make_layout
from promot_jax.plan.chips import chip_of
from promot_jax.training.loop import Plan, compile_step


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measures, prints the line and returns it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=SIZES, default="t5")
    parser.add_argument("--method", choices=("finetune", "prompt_tuning"), default="finetune")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dropout", type=float, help="of T5 (0.1)")
    parser.add_argument("--packed", type=int, default=1, help="examples in each row (1)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args(argv)
    fields = {"dtype": args.dtype}
    if args.dropout is not None:
        fields["dropout_rate"] = args.dropout
    size = SIZES[args.model]
    size = dataclasses.replace(size, config=dataclasses.replace(size.config, **fields))
    result = {"model": args.model, "method": args.method, "packed": args.packed}
    result |= measure(size, args.method == "prompt_tuning", args.steps, args.packed)
    print(json.dumps(result))
    return result


def setup(size: Size, tuned: bool):
    """The mesh, the compiled-to-be step's plan, its state and frozen variables."""
    model = models.build(size.config, [("target", size.prompt)] if tuned else ())
    of_t5 = size.config.kind == "encoder_decoder"
    optimizer = training.adamw
    if of_t5:
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
    loss = functools.partial(models.loss, model, z_loss=1e-4 if of_t5 else 0.0)
    plan = Plan(
        "bench",
        0,
        loss,
        [part],
        owner,
        lambda step: {},
        size.batch,
        1,
        1,
        bool,
        lambda *_: None,
        lambda *_: None,
    )
    state, frozen = training.thaw(training.begin(mesh, 0), variables, [part], owner)
    return mesh, plan, state, frozen


def batch(size: Size, tuned: bool, packed: int = 1) -> dict[str, np.ndarray]:
    """Random tokens, the prompt in front; so many examples fill a row."""
    layout, length = make_layout(size.config.kind, None), size.inputs + tuned * size.prompt
    arrays = layout.empty(size.batch, length, size.targets, packed > 1)
    soft = size.config.vocab_size + np.arange(size.prompt if tuned else 0)
    inputs, targets = length // packed - len(soft), size.targets // packed
    for row, ids in enumerate(size.rows()):
        parts = np.split(ids[: packed * (inputs + targets)].astype(np.int32), packed)
        pairs = [(np.concatenate([soft, part[:inputs]]), part[inputs:]) for part in parts]
        layout.write(arrays, row, pairs)
    return arrays


def measure(size: Size, tuned: bool, steps: int, packed: int = 1) -> dict[str, float]:
    """The measured figures of one method."""
    mesh, plan, state, frozen = setup(size, tuned)
    tokens = training.place_batch(mesh, batch(size, tuned, packed), size.batch)
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
    read = [x.size for path, x in tokens.items() if path.endswith("input_tokens")]
    gflop, device = flops(size, tuned) / 1e9, jax.devices()[0]
    on_device = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    chip = chip_of(device.device_kind) if size.config.dtype == "bfloat16" else None
    peak = None if chip is None else chip.flops * mesh.size / 1e9
    return {
        "ms_per_step": round(1000 * median, 1),
        "tokens_per_second": round(sum(read) / median),
        "examples_per_second": round(size.batch * packed / median, 2),
        "compile_seconds": round(compiled, 2),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "peak_device_gib": round(on_device / 2**30, 3),
        "gflop": round(gflop, 1),
        "gflop_per_second": round(gflop / median, 1),
        "mfu": None if peak is None else round(gflop / median / peak, 3),
        "device": device.device_kind,
    }


if __name__ == "__main__":
    start(main, "bench.train_step")

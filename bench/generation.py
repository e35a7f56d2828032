"""Time of greedy generation, as one JSON line.

    python -m bench.generation --model t5

256 inputs of random tokens, a third to all of the size's length, 32 tokens each, batches of 64, by
the generator that `promot infer` and evaluations use. Compiling is apart.
"""

import argparse
import json
import resource
import time
import types
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from bench.sizes import SIZES, Size
from bench.starting import start
from promot_jax import models, training
from promot_jax.models import Decoding
from promot_jax.run.generation import Generator

INPUTS, OUTPUTS, BATCH = 256, 32, 64


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measures, prints the line and returns it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=SIZES, default="t5")
    args = parser.parse_args(argv)
    size = SIZES[args.model]
    model, mesh = models.build(size.config, ()), training.make_mesh()
    variables = jax.jit(lambda: models.init(model, jax.random.key(0)))()
    endless = types.SimpleNamespace(stop_ids=())
    generate = Generator(model, mesh, endless)
    seconds = []
    for _ in range(2):  # the first compiles
        begun = time.perf_counter()
        for tokens, segments in batches(size):
            outputs = generate(variables, tokens, segments, Decoding(OUTPUTS))
            assert outputs.shape == (BATCH, OUTPUTS)
        seconds.append(time.perf_counter() - begun)
    result = {
        "model": args.model,
        "seconds": round(seconds[1], 2),
        "tokens_per_second": round(INPUTS * OUTPUTS / seconds[1], 1),
        "compile_seconds": round(seconds[0] - seconds[1], 2),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(result))
    return result


def batches(size: Size, left: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and segments, 0 for padding, on the right or the left; longest inputs first."""
    rows = size.asked(INPUTS)
    for first in range(0, INPUTS, BATCH):
        part = rows[first : first + BATCH]
        tokens = np.zeros((BATCH, len(part[0])), np.int32)
        for row, ids in zip(tokens, part, strict=True):
            place = slice(len(row) - len(ids), None) if left else slice(len(ids))
            row[place] = ids
        yield tokens, (tokens > 0).astype(np.int32)


if __name__ == "__main__":
    start(main, "bench.generation")

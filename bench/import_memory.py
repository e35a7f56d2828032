"""Peak memory of `promot import` on a random bfloat16 checkpoint in shards, of a T5 1.1's size.

    python -m bench.import_memory --size=xl --directory=/some/disk

A process of its own imports the checkpoint; what it needs before it begins (Python, JAX) is told
apart. The bytes to keep are those of the parameters. Fails where the peak above the beginning is
not below 1.5 times these. XL takes 6 GB of memory and 12 GB of disk.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from promot_jax.convert.huggingface import config_json, names
from promot_jax.convert.weights import write_weights
from promot_jax.models import T5, T5Config, abstract
from promot_jax.vocabularies import Byte

SIZES = {"small": (512, 1024, 8, 6), "base": (768, 2048, 12, 12), "xl": (2048, 5120, 24, 32)}
LIMIT = 1.5
CHILD = """
import json, re, sys
from pathlib import Path
import jax
from promot_jax.convert import import_checkpoint
jax.device_put(0.0).block_until_ready()
# not getrusage, whose peak a process inherits from the one that starts it
status = Path("/proc/self/status")
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text("utf-8"))[1])
before = peak()
import_checkpoint(sys.argv[1], sys.argv[2], vocabulary="byte")
print(json.dumps([before, peak()]))
"""


def write_random(directory: Path, size: str, shard_size: int) -> int:
    """A random checkpoint as Transformers save it; returns the bytes of its parameters."""
    embed, mlp, layers, heads = SIZES[size]
    config = T5Config(32128, embed, heads, layers, layers, 64, mlp, param_dtype="bfloat16")
    paths = {theirs: ours for ours, theirs in names(config).items()}
    shapes = abstract(T5(config))
    rng = np.random.default_rng(0)

    def read(theirs: str) -> np.ndarray:
        shape = shapes[paths[theirs]].shape
        shape = shape if theirs == "shared.weight" else shape[::-1]
        return rng.random(shape, np.float32).astype(ml_dtypes.bfloat16)

    directory.mkdir()
    values = config_json(config, Byte(125), "bfloat16")
    (directory / "config.json").write_text(json.dumps(values), encoding="utf-8")
    sizes = {theirs: shapes[ours].shape for theirs, ours in paths.items()}
    for _ in write_weights(directory, sizes, read, "bfloat16", shard_size):
        pass
    return sum(2 * leaf.size for leaf in shapes.values())


def measure(size: str, root: Path, shard_size: int) -> dict[str, float]:
    """Bytes to keep, memory before and at the peak (bytes), and the ratio."""
    kept = write_random(root / "checkpoint", size, shard_size)
    command = [sys.executable, "-c", CHILD, str(root / "checkpoint"), str(root / "workdir")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return {"kept": kept, "before": before, "peak": peak, "ratio": (peak - before) / kept}


def main() -> int:
    """Prints the figures; 1 where the limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--directory", help="where to write; default: a temporary one")
    parser.add_argument("--shard_mb", type=int, default=0, help="default: a third of the model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory) as root:
        embed, _, layers, _ = SIZES[args.size]
        shard = args.shard_mb * 10**6 or embed * 32128 + layers * embed**2 * 20
        figures = measure(args.size, Path(root), shard)
    gb = {name: figures[name] / 1e9 for name in ("kept", "before", "peak")}
    print(
        f"T5 1.1 {args.size}: keeps {gb['kept']:.2f} GB, peak {gb['peak']:.2f} GB of which"
        f" {gb['before']:.2f} GB before it begins: {figures['ratio']:.2f} x (limit {LIMIT})"
    )
    return int(figures["ratio"] >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())

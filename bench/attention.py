"""Attention's implementations on this device: forward and backward time, and error, as JSON lines.

    python -m bench.attention

The error is the largest difference to XLA's result in float32, over its largest number.
"""

import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp

from promot_jax.errors import UserError
from promot_jax.models.attention import attend

# name: rows, heads, key heads, length, head_dim, window
SHAPES = {
    "smollm2, short": (8, 9, 3, 128, 64, None),
    "smollm2": (8, 9, 3, 1024, 64, None),
    "llama 3.2 1b": (4, 32, 8, 2048, 64, None),
    "qwen 3": (4, 16, 8, 2048, 128, None),
    "gemma 3, local": (4, 4, 1, 2048, 256, 512),
    "gemma 3, global": (4, 4, 1, 2048, 256, None),
}
TIMES = 10


def main() -> None:
    """Measures every shape with every implementation that can do it."""
    for name, shape in SHAPES.items():
        exact = _run(shape, "xla", jnp.float32)[1]
        for implementation in ("xla", "cudnn", "splash"):
            line = {"shape": name, "implementation": implementation}
            try:
                milliseconds, found = _run(shape, implementation, jnp.bfloat16)
            except UserError as error:
                print(json.dumps(line | {"left out": str(error)}))
                continue
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
            error = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
            line |= {"ms": round(milliseconds, 3), "error": round(error, 4)}
            print(json.dumps(line | {"device": jax.devices()[0].device_kind}), flush=True)


def _run(shape, implementation: str, dtype):
    """Median milliseconds, and the output with its three gradients."""
    rows, heads, kv_heads, length, width, window = shape
    keys = jax.random.split(jax.random.key(0), 4)
    counts = (heads, heads, kv_heads, kv_heads)
    query, weights, key, value = (
        jax.random.normal(key, (rows, count, length, width)).astype(jnp.bfloat16).astype(dtype)
        for key, count in zip(keys, counts, strict=True)
    )
    places = jnp.arange(length)
    distance = places[:, None] - places
    mask = (distance >= 0) & (distance < (window or length))
    attention = functools.partial(
        attend, scale=width**-0.5, mask=mask[None, None], causal=True, windows=(window,),
        implementation=implementation,
    )  # fmt: skip

    @jax.jit
    def both(query, key, value):
        result, backward = jax.vjp(attention, query, key, value)
        return result, backward(weights)

    found = jax.block_until_ready(both(query, key, value))
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        jax.block_until_ready(both(query, key, value))
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds), found


if __name__ == "__main__":
    main()

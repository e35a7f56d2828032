"""Writes checkpoints as the old writers of T5X did, from variables of ours.

Norms and relative positions lie in the msgpack file, the rest in zarr arrays of several chunks,
with specs of another file system's.
"""

from pathlib import Path

import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

MINIMAL, SCALABLE, SCANNED = "minimal", "scalable", "scanned"
ZARR_TYPES = {"float32": "<f4", "bfloat16": "bfloat16"}


def t5x_arrays(variables, layout: str, heads: int) -> dict[str, np.ndarray]:
    """Variables under T5X's names, in one of its layouts."""
    arrays = {path.removeprefix("params/"): np.asarray(x) for path, x in variables.items()}
    if "prompt/prompt" in arrays:
        arrays["encoder/prompt/prompt/prompt"] = arrays.pop("prompt/prompt")
    if layout == MINIMAL:
        return arrays
    arrays = {name: apart(name, x, heads) for name, x in arrays.items()}
    if layout == SCALABLE:
        return arrays
    for name in [name for name in arrays if "/layers_0/" in name]:
        stack = name.split("/")[0]
        layers = [arrays.pop(name.replace("layers_0", f"layers_{i}")) for i in range(2)]
        arrays[name.replace("layers_0", stack)] = np.stack(layers, axis=1)
    return arrays


def apart(name: str, array: np.ndarray, heads: int) -> np.ndarray:
    """A kernel with its heads apart."""
    if "attention/" not in name or not name.endswith("kernel"):
        return array
    if "/out/" in name:
        return array.reshape(heads, -1, array.shape[1])
    return array.reshape(array.shape[0], heads, -1)


def write_checkpoint(root: Path, arrays, step: int) -> Path:
    """Writes checkpoint_<step> into a model directory."""
    directory = root / f"checkpoint_{step}"
    directory.mkdir(parents=True)
    leaves = {"state/step": np.int32(step), "state/param_states/untouched": None}
    for name, array in arrays.items():
        small = name.endswith(("scale", "rel_embedding"))
        path = f"target/{name}"
        leaves[path] = array if small else _written(directory, path.replace("/", "."), array)
        leaves[f"state/param_states/{name}/m"] = np.zeros(1, np.float32)
    tree = {"version": 3, "optimizer": traverse_util.unflatten_dict(leaves, sep="/")}
    (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    return directory


def _written(directory: Path, key: str, array: np.ndarray) -> dict:
    """Writes a zarr array; the spec that stands for it in the msgpack file."""
    metadata = {
        "shape": list(array.shape),
        "chunks": [max(1, size // 2) for size in array.shape],
        "compressor": {"id": "gzip", "level": 1},
        "dtype": ZARR_TYPES[array.dtype.name],
    }
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{directory}/{key}/"}}
    store = ts.open(spec | {"metadata": metadata}, create=True, open=True).result()
    store.write(array).result()
    return {"driver": "zarr", "kvstore": {"driver": "gfile", "path": key}, "metadata": metadata}

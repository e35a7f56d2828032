"""What T5X leaves on a disk or in a bucket: directories of arrays, opened and not yet read.

T5X has written checkpoints in three ways, and all of them are met:
- legacy: a msgpack file `checkpoint` that names arrays and holds the small ones itself; the others
  are zarr directories beside it. Old writers hold norms and biases inline, later ones nothing.
- early Orbax: the same in `state/`, with placeholders in the msgpack file, or without that file.
- Orbax: one OCDBT database in `state/`, with a zarr array for every name.
TensorStore reads all of them, at a local path or gs://, and no more of an array than is asked for.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

from promot_jax.errors import UserError
from promot_jax.paths import is_url

Stored = ts.TensorStore | np.ndarray  # both have a shape, and slices that np.asarray reads
CONTEXT = ts.Context(  # left alone, TensorStore tries to reach a bucket for ten minutes
    {"gcs_request_retries": {"max_retries": 6, "initial_delay": "500ms", "max_delay": "4s"}}
)
STEP = "state/step"
STEPS = re.compile(rb"checkpoint_(\d+)/(?:checkpoint|state/.*)")


@dataclasses.dataclass(frozen=True)
class Files:
    """One checkpoint of T5X.

    Attributes:
      url: its directory.
      format: "legacy" or "orbax".
      step: training steps behind it.
      arrays: the weights, by T5X's path, such as "target/token_embedder/embedding".
      ignored: how many other arrays there are, mostly of the optimizer's state.
    """

    url: str
    format: str
    step: int | None
    arrays: Mapping[str, Stored]
    ignored: int


def find(path: str) -> str | None:
    """The URL of the T5X checkpoint that a path means, or None.

    The path is a checkpoint's directory, the `checkpoint` file in one, or a model directory, of
    which the newest checkpoint is meant.

    Raises:
      UserError: the bucket cannot be read.
    """
    if Path(path).is_file() and Path(path).name != "checkpoint":
        return None
    url = (path if is_url(path) else f"file://{Path(path).absolute()}").rstrip("/")
    url = url.removesuffix("/checkpoint")
    try:
        if _keys(url, "checkpoint", "checkpoint\0") or _keys(url, "state/", "state0"):
            return url
        children = [STEPS.fullmatch(key) for key in _keys(url, "checkpoint_", "checkpoint_a")]
    except ValueError as error:
        raise _unreadable(path, error) from error
    steps = [int(child[1]) for child in children if child]
    return f"{url}/checkpoint_{max(steps)}" if steps else None


def open_files(path: str) -> Files:
    """Opens every array of the checkpoint at `path`; reads none but the step.

    Raises:
      UserError: there is no T5X checkpoint, or it is damaged.
    """
    url = find(path)
    if url is None:
        raise UserError(
            f"{path!r} is no T5X checkpoint: give the directory checkpoint_<step> with the file"
            " 'checkpoint' or the directory 'state'"
        )
    try:
        legacy = bool(_keys(url, "checkpoint", "checkpoint\0"))
        root = _store(f"{url}/" if legacy else f"{url}/state/")
        if root.read("manifest.ocdbt").result().state == "value":
            root = _store({"driver": "ocdbt", "base": root.spec().to_json()})
        tree = _tree(root)
        needed = {p: x for p, x in tree.items() if p.startswith("target/") or p == STEP}
        arrays = _opened(root, needed)
        step = int(np.asarray(arrays.pop(STEP)).item()) if STEP in arrays else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return Files(url, "legacy" if legacy else "orbax", step, arrays, len(tree) - len(needed))


def _keys(url: str, first: str, end: str) -> list[bytes]:
    """The keys from `first` to before `end` in a directory."""
    return _store(f"{url}/").list(ts.KvStore.KeyRange(first, end)).result()


def _store(spec: str | dict[str, Any]) -> ts.KvStore:
    return ts.KvStore.open(spec, context=CONTEXT).result()


def _tree(root: ts.KvStore) -> dict[str, np.ndarray | str]:
    """All that lies in a directory: an array that the msgpack file holds, or a zarr array's key."""
    listed = root.read("checkpoint").result()
    if listed.state != "value":
        found = [key.decode() for key in root.list().result() if key.endswith(b"/.zarray")]
        names = [key.removesuffix("/.zarray") for key in found]
        return {name.replace(".", "/"): name for name in names}
    tree = serialization.msgpack_restore(bytes(listed.value))
    spec = lambda _, node: {"driver", "kvstore"} <= node.keys()  # noqa: E731
    leaves = traverse_util.flatten_dict(tree.get("optimizer", tree), sep="/", is_leaf=spec)
    # None is what no optimizer touched.
    return {path: _leaf(leaf) for path, leaf in leaves.items() if leaf is not None}


def _leaf(leaf: Any) -> np.ndarray | str:
    """A leaf of the msgpack tree. A spec's driver and bucket are the writer's; its key is ours."""
    if isinstance(leaf, dict):
        return _inside(leaf["kvstore"].get("path", leaf.get("path")))
    if isinstance(leaf, str):
        return _inside(leaf.removeprefix("PLACEHOLDER://"))
    return np.asarray(leaf)


def _inside(key: str) -> str:
    """The key, of an array that lies in the checkpoint."""
    if key.startswith("/") or ".." in key.split("/") or "\0" in key:
        raise ValueError(f"it names an array outside of itself, {key!r}")
    return key


def _opened(root: ts.KvStore, tree: Mapping[str, np.ndarray | str]) -> dict[str, Stored]:
    """Opens zarr arrays, all at once: over a network each takes its time."""
    base = root.spec().to_json()
    start = lambda key: ts.open(  # noqa: E731
        {
            "driver": "zarr",
            "kvstore": base | {"path": f"{base.get('path', '')}{key.rstrip('/')}/"},
            "fill_missing_data_reads": False,  # a chunk whose file was lost would read as zeros
        },
        read=True,
        context=CONTEXT,
    )
    opening = {path: start(x) if isinstance(x, str) else x for path, x in tree.items()}
    return {p: x.result() if isinstance(x, ts.Future) else x for p, x in opening.items()}


def dtype_of(array: Stored) -> np.dtype:
    """The NumPy type of an array's elements."""
    return np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))


def _unreadable(path: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return UserError(f"the T5X checkpoint {path!r} cannot be read ({reason}): restore it")

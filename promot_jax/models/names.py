"""Paths of arrays, such as params/decoder/layers_0/mlp/wo/kernel, and patterns that cover them.

The layers of a scanned stack lie in one array, params/decoder/layers/mlp/wo/kernel, along its first
axis.
"""

import fnmatch
import re
from collections.abc import Iterable

from promot_jax.errors import near

LAYER = re.compile(r"/layers_(\d+)/")
STACK = "/layers/"


def stacked(path: str) -> str:
    """The path that a layer's array has where layers are scanned."""
    return LAYER.sub(STACK, path)


def layers_of(path: str, shape: tuple[int, ...]) -> list[str]:
    """The paths that an array's layers have where they are not scanned; its own, of no stack."""
    if STACK not in path:
        return [path]
    return [path.replace(STACK, f"/layers_{i}/") for i in range(shape[0])]


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern covers an array's path: it is what that begins with, or has `*`."""
    return path.startswith(pattern + "/") or fnmatch.fnmatchcase(path, pattern)


def hint(pattern: str, paths: Iterable[str]) -> str:
    """What resembles a pattern without match: paths, or what they begin with; "" if nothing."""
    prefixes = {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 2)}
    return near(pattern, sorted(prefixes))

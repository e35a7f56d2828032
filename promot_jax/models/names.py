"""Patterns that name arrays by their paths, such as params/decoder/layers_0/mlp/wo/kernel."""

import fnmatch
from collections.abc import Iterable

from promot_jax.errors import near


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern covers an array's path: it is what that begins with, or has `*`."""
    return path.startswith(pattern + "/") or fnmatch.fnmatchcase(path, pattern)


def hint(pattern: str, paths: Iterable[str]) -> str:
    """What resembles a pattern without match: paths, or what they begin with; "" if nothing."""
    prefixes = {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 2)}
    return near(pattern, sorted(prefixes))

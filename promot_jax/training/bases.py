"""Where the base of a work directory lies, also after directories were moved.

A checkpoint of a prompt holds the prompt alone and refers to the run's base for the rest; that base
may be such a checkpoint too. In this order, at each link of such a chain:

1. the places that the user names (`--base`), which may be those of any link;
2. the path in run.json, as it was when the run began;
3. the way that then led from the work directory to its base: both may have been moved together.

The first of them that holds the very arrays that were trained on is the base: digests decide.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.paths import expand, resolve
from promot_jax.training.description import Description

Found = TypeVar("Found")


def places(workdir: str, about: Description, named: Sequence[str] = ()) -> list[str]:
    """Where the base of a work directory may lie, the likeliest first, each directory once."""
    candidates = [*map(expand, named), about.base]
    if about.base_beside is not None:
        home = os.path.abspath(resolve(workdir))
        candidates.append(os.path.normpath(os.path.join(home, about.base_beside)))
    unique: dict[str, str] = {}
    for path in candidates:
        unique.setdefault(os.path.realpath(resolve(path)), path)
    return list(unique.values())


def place(workdir: str, about: Description) -> str:
    """The first of these places that exists, without a look at what it holds."""
    candidates = places(workdir, about)
    return next((path for path in candidates if Path(resolve(path)).exists()), candidates[0])


def first_that_fits(
    workdir: str, about: Description, named: Sequence[str], take: Callable[[str], Found]
) -> Found:
    """What `take` gives for the first place of the base for which it raises no UserError.

    Raises:
      UserError: it raises one for all of them; each is named.
    """
    failed: list[tuple[str, UserError]] = []
    for path in places(workdir, about, named):
        try:
            found = take(path)
        except UserError as error:
            failed.append((path, error))
            continue
        if failed:
            say(f"the base of {workdir!r} is {path!r}, not {', '.join(repr(p) for p, _ in failed)}")
        return found
    tried = "; ".join(f"{path!r}: {error}" for path, error in failed)
    raise UserError(
        f"the base of {workdir!r} is in none of the places tried ({tried}): put it back, or name"
        " its place by --base (promot run: --gin.BASE_PLACES='[\"...\"]')"
    ) from failed[0][1]

"""Where the base of a work directory lies, also after directories were moved.

A checkpoint of a prompt holds the prompt alone and refers to the run's base for the rest; that base
may be such a checkpoint too. In this order, at each link of such a chain:

1. the places that the user names (`--base`), which may be those of any link;
2. the path in run.json, as it was when the run began;
3. the way that then led from the work directory to its base: both may have been moved together.

The first of them that holds the very arrays that were trained on is the base: digests decide.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import TypeVar

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.paths import along, as_path, expand, real, resolve
from promot_jax.training.description import Description

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Bases:
    """Where bases are looked for.

    Attributes:
      named: the places that the user names.
      passed: the work directories whose bases led here. None is its own base, even where it took
        the place of that.
    """

    named: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    def places(self, workdir: str, about: Description) -> list[str]:
        """Where the base of a work directory may lie, the likeliest first, each place once."""
        candidates = [*map(expand, self.named), about.base]
        if about.base_beside is not None:
            candidates.append(along(resolve(workdir), about.base_beside))
        unique: dict[str, str] = {}
        for path in candidates:
            unique.setdefault(_real(path), path)
        passed = {*self.passed, _real(workdir)}
        return [
            path
            for place, path in unique.items()
            if not passed & {place, os.path.dirname(place)}  # it, or a stage in it
        ]

    def first_that_fits(
        self, workdir: str, about: Description, take: Callable[[str, "Bases"], Found]
    ) -> Found:
        """What `take` gives for the first place of the base for which it raises no UserError.

        `take` also gets where to look for what that place itself refers to.

        Raises:
          UserError: it raises one for all of them; each is named.
        """
        failed: list[tuple[str, UserError]] = []
        further = dataclasses.replace(self, passed=(*self.passed, _real(workdir)))
        for path in self.places(workdir, about):
            try:
                found = take(path, further)
            except UserError as error:
                failed.append((path, error))
                continue
            if failed:
                others = ", ".join(repr(other) for other, _ in failed)
                say(f"the base of {workdir!r} is {path!r}, not {others}")
            return found
        tried = "; ".join(f"{path!r}: {error}" for path, error in failed) or repr(about.base)
        raise UserError(
            f"the base of {workdir!r} is in none of the places tried ({tried}): put it back, or"
            " name its place by --base (promot run: --gin.BASE_PLACES='[\"...\"]')"
        )


def place(workdir: str, about: Description) -> str | None:
    """The first of these places that exists, without a look at what it holds; else what it was."""
    there = (path for path in Bases().places(workdir, about) if as_path(resolve(path)).exists())
    return next(there, about.base)


def _real(path: str) -> str:
    return real(resolve(path))

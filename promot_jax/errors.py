"""What every floor needs to speak to its user: one error type, checks of types, near matches."""

import collections.abc
import difflib
import functools
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import typeguard


class UserError(ValueError):
    """Bad input: the message is one line that names the setting, its value and the fix.

    The command line prints it without a stack trace and exits with code 2. A long message, as
    values may make it, is cut in the middle: the fix stands at its end. What cannot be printed is
    escaped.
    """

    def __init__(self, message: str):
        shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)
        super().__init__(f"{shown[:800]} ... {shown[-300:]}" if len(shown) > 1200 else shown)


def check_types(settings: object) -> None:
    """Raises UserError for a field of a dataclass whose value is not of the type it declares.

    What comes from a gin file no type checker has seen. Numbers must be finite, seeds 32 bits.
    """
    kind = type(settings)
    check_values(kind, {name: getattr(settings, name) for name in _types(kind)})


def check_values(owner: Any, values: Mapping[str, Any]) -> None:
    """The same for arguments of a function, or fields of a class, given by name."""
    every = typeguard.CollectionCheckStrategy.ALL_ITEMS
    for argument, value in values.items():
        wanted, name = _types(owner)[argument], f"{owner.__name__}.{argument}"
        try:
            typeguard.check_type(value, wanted, collection_check_strategy=every)
        except typeguard.TypeCheckError as error:
            raise UserError(f"{name} = {value!r:.200}: set {_in_words(wanted)}") from error
        if isinstance(value, bool) and not {bool, Any, object} & {wanted, *typing.get_args(wanted)}:
            raise UserError(f"{name} = {value!r}: set {_in_words(wanted)}")  # True is 1 in Python
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} = {value!r}: set a finite number")
        if argument == "seed" and not 0 <= value < 2**32:
            raise UserError(f"{name} = {value!r}: set a whole number from 0 to {2**32 - 1}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise UserError(f"{name} = {str(value):.40}...: set a number below 2**63")


@functools.cache
def _types(owner: Any) -> dict[str, Any]:
    return typing.get_type_hints(owner)


def _in_words(wanted: Any) -> str:
    """A type for people."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, parts))
    if origin is collections.abc.Callable:
        return "a function (called, if it makes one)"
    if origin is collections.abc.Mapping:
        return f"a mapping to {_in_words(parts[1])}"
    if origin in (collections.abc.Sequence, tuple):
        return f"a list, each {_in_words(parts[0])}"
    return "None" if wanted is type(None) else words.get(wanted, f"a {wanted.__name__}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises UserError unless low <= value <= high."""
    if not low <= value <= high:
        raise UserError(f"{name} = {value!r:.80}: set {low} to {high}")


def check_positive(name: str, value: float, high: float) -> None:
    """Raises UserError unless 0 < value <= high."""
    if not 0 < value <= high:
        raise UserError(f"{name} = {value!r:.80}: set more than 0, up to {high:g}")


def check_memory(needed: int, what: str) -> None:
    """Raises UserError where `what` needs more bytes than this machine has: it cannot be meant."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"{what} needs {needed / 1e9:,.0f} GB of memory, and this machine has"
            f" {there / 1e9:,.0f} GB: set less"
        )


def near(name: str, candidates: Iterable[str]) -> str:
    """`" (did you mean 'a', 'b'?)"` for the candidates that resemble `name`, or `""`."""
    matches = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(map(repr, matches))}?)" if matches else ""

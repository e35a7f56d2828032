"""What every floor needs to speak to its user: one error type, near matches, one rule for paths."""

import difflib
from collections.abc import Iterable
from pathlib import Path

INSTALLED_AT = Path(__file__).resolve().parent


class UserError(ValueError):
    """Bad input: the message is one line that names the setting, its value and the fix.

    The command line prints it without a stack trace and exits with code 2.
    """


def near(name: str, candidates: Iterable[str]) -> str:
    """`" (did you mean 'a', 'b'?)"` for the candidates that resemble `name`, or `""`."""
    matches = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(map(repr, matches))}?)" if matches else ""


def resolve(path: str) -> str:
    """A path as given; where nothing lies there, the same path beside or in the installed package.

    So `gin/recipes/promot.gin` and `promot_jax/assets/lab/base` work from every directory. URLs
    pass through. Returns `path` unchanged where neither exists, for the caller's message to name.
    """
    if "://" in path or Path(path).exists():
        return path
    for root in (INSTALLED_AT.parent, INSTALLED_AT):
        if (root / path).exists():
            return str(root / path)
    return path

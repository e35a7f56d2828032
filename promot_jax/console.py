"""The terminal. What is printed is text as it is, brackets included: much of it is the user's."""

from rich.console import Console, RenderableType

# Both without markup, so that `[/URL]` in a row, or `runs/lr[1e-3]`, is printed and not obeyed.
AS_IT_IS = {"highlight": False, "markup": False, "emoji": False}
console = Console(stderr=True, **AS_IT_IS)
output = Console(**AS_IT_IS)


def say(text: str) -> None:
    """One line on stderr, never broken: a path can be copied from it."""
    console.print(text, soft_wrap=True)


def show(table: RenderableType, least: int = 0) -> None:
    """A table on stderr, at least so many characters wide."""
    wide = max(console.width, least)
    Console(stderr=True, quiet=console.quiet, width=wide, **AS_IT_IS).print(table)

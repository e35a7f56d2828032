"""The terminal. What is printed is text as it is, brackets included: much of it is the user's."""

from rich.console import Console, RenderableType

# Both without markup, so that `[/URL]` in a row, or `runs/lr[1e-3]`, is printed and not obeyed.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
output = Console(highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """One line on stderr, never broken: a path can be copied from it."""
    console.print(text, soft_wrap=True)


def show(table: RenderableType, least: int = 0) -> None:
    """A table on stderr, at least so many characters wide."""
    console.print(table, width=max(console.width, least))

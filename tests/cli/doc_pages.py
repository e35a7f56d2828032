"""The project's pages: their blocks, and the commands in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEREDOC = re.compile(r"<<'(\w+)'")


class Block(NamedTuple):
    """A fenced block: its language and what is in it."""

    language: str
    text: str


def read(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found.groups()) for found in FENCE.finditer(read(page))]


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", read(page))


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block; one that goes on over lines, or reads them, is one."""
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        command = line
        while command.endswith("\\\n"):
            command = command[:-2] + " " + next(lines).lstrip()
        if found := HEREDOC.search(command):
            for more in lines:
                command += more
                if more.strip() == found[1]:
                    break
        if command.strip():
            yield command.strip()


def anchors(page: str) -> set[str]:
    """What a link may name behind '#': the headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}

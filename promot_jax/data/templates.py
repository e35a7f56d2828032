"""Templates: text with columns of a row in braces, `"{premise} question: {hypothesis}"`.

A column has any name that its file gives it (`0`, `answer.1`, `question text`); nothing else stands
in the braces, neither format nor attribute. `{{` and `}}` are braces themselves.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from promot_jax.errors import UserError, near

PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """A template, read once: `template.fill(row)`.

    Attributes:
      columns: the names in it, each once, in order.
    """

    def __init__(
        self,
        text: str,
        setting: str = "template",
        known: Iterable[str] | None = None,
        may_be_empty: bool = False,
    ):
        """Args:
          text: the template.
          setting: what it is called in messages.
          known: the names that it may have; None: any.
          may_be_empty: no text at all, for what has none, is a template too.

        Raises:
          UserError: a single brace, no column at all, or one that is not known.
        """
        self._text, self._parts, end = text, [], 0  # (text, column behind it)
        for found in PIECES.finditer(text):
            before, piece = text[end : found.start()], found[0]
            if piece in "{}" or found[1] == "":
                raise UserError(
                    f"{setting} {text!r:.200}: write {{name of a column}}; {{{{ is a brace"
                )
            whole = found[1] is not None
            self._parts.append((before + ("" if whole else piece[0]), found[1]))
            end = found.end()
        self._parts.append((text[end:], None))
        self.columns = list(dict.fromkeys(name for _, name in self._parts if name is not None))
        if not self.columns and not (may_be_empty and not text):
            raise UserError(
                f"{setting} {text!r:.200} must name columns, such as 'question: {{question}}'"
            )
        if known is not None and (other := sorted(set(self.columns) - set(known))):
            raise UserError(
                f"{setting} {text!r:.200} names {other[0]!r}{near(other[0], known)}: it may name"
                f" {' and '.join(f'{{{name}}}' for name in known)}"
            )

    @property
    def pieces(self) -> list[tuple[str, str | None]]:
        """(text, the column behind it); behind the last text there is None."""
        pieces, text = [], ""
        for more, name in self._parts:
            text += more
            if name is not None:
                pieces.append((text, name))
                text = ""
        return [*pieces, (text, None)]

    def fill(self, row: Mapping[str, Any]) -> str:
        """The template's text with a row's values in it."""
        return "".join(
            [text if name is None else f"{text}{row[name]}" for text, name in self._parts]
        )

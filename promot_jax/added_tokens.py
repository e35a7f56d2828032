"""Tokens that somebody added to a tokenizer: texts with ids of their own, beside the pieces.

A text is cut at them first, at the longest that begins leftmost, and the pieces are made of what is
between, each part for itself. So Hugging Face's `tokenizers` does it, whose fields and rules these
are; T5's pieces drop the spaces around a token and begin anew behind it: "a <b>c" is read as
"a", "<b>", " c". Tokens that are `normalized` are looked for in normalised text, under their
normalised form: a newline added so is every space, since that is what T5 makes of a newline.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentencepiece import SentencePieceNormalizer

from promot_jax.errors import UserError, check_types


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """One of them.

    Attributes:
      content: its text.
      id: its row of the embedding table.
      special: it marks something and is no text; Transformers leave it out of answers on demand.
      normalized: it is looked for in normalised text.
      single_word: only where no letter or digit touches it.
      lstrip: it swallows the white space on its left.
      rstrip: and on its right.
    """

    content: str
    id: int
    special: bool = False
    normalized: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False

    def __post_init__(self):
        check_types(self)
        half = self.content.encode(errors="replace").decode() != self.content
        if not self.content or half or self.id < 0:
            raise UserError(
                f"added token {self.content!r:.80} with id {self.id}: give it a text that UTF-8 can"
                " write, and an id from 0 on"
            )


def from_json(values: Any) -> tuple[AddedToken, ...]:
    """Tokens from a list of their fields.

    Raises:
      UserError, TypeError: it is none.
    """
    return tuple(AddedToken(**fields) for fields in values)


def to_json(tokens: Sequence[AddedToken]) -> list[dict[str, Any]]:
    """The inverse."""
    return [dataclasses.asdict(token) for token in tokens]


def normalizer(model: bytes) -> Callable[[str], str]:
    """What a SentencePiece model does to a text before it cuts it, white space left alone."""
    spaces = ("add_dummy_prefix", "escape_whitespaces", "remove_extra_whitespaces")
    return SentencePieceNormalizer(model_proto=model, **dict.fromkeys(spaces, False)).Normalize


class Splitter:
    """Cuts texts at added tokens."""

    def __init__(self, tokens: Sequence[AddedToken], normalize: Callable[[str], str]):
        """Args:
        tokens: all of them.
        normalize: what the pieces do to a text, white space left alone.
        """
        self._normalize = normalize
        self._forms = {t: normalize(t.content) if t.normalized else t.content for t in tokens}
        self._plain = _Finder({self._forms[t]: t for t in tokens if not t.normalized})
        self._normal = _Finder({self._forms[t]: t for t in tokens if t.normalized})

    def form(self, token: AddedToken) -> str:
        """What a token is looked for as, and what it is in an answer."""
        return self._forms[token]

    def split(self, text: str) -> Iterator[str | AddedToken]:
        """The parts of a text in their order: tokens, and text that is still to be made pieces."""
        for part in self._plain.split(text):
            if self._normal and isinstance(part, str):
                yield from self._normal.split(self._normalize(part))
            else:
                yield part


def _in_word(letter: str) -> bool:
    """Whether it is a letter, a mark, a digit or the like: what Rust's regular expressions call so,
    without fractions and raised digits, which Python's have."""
    kind = unicodedata.category(letter) if letter else ""
    return kind[:1] in ("L", "M") or kind in ("Nd", "Nl", "Pc")


class _Finder:
    """Tokens by what they are looked for as."""

    def __init__(self, tokens: dict[str, AddedToken]):
        self._tokens = {text: token for text, token in tokens.items() if text}
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def split(self, text: str) -> Iterator[str | AddedToken]:
        done = 0
        for match in self._pattern.finditer(text) if self else ():
            token, start, end = self._tokens[match[0]], match.start(), match.end()
            if token.single_word and any(map(_in_word, (text[:start][-1:], text[end:][:1]))):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip()))
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip())
            if done < start:
                yield text[done:start]
            if start < end:  # else it is white space that the one before has swallowed
                yield token
            done = end
        if done < len(text):
            yield text[done:]

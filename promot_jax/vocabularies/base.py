"""What every vocabulary is."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from promot_jax.errors import UserError
from promot_jax.files import fingerprint


class Vocabulary(abc.ABC):
    """How a model reads and writes text. It never changes, and compares by content.

    Attributes:
      kind: its name in run.json.
      vocab_size: ids are below it.
      pad_id: fills rows up. It may be a word's or EOS: never tell padding by it.
      bos_id: stands in front of what a decoder reads, once; `encode` never adds it. None: nothing.
      eos_id: ends a target.
      stop_ids: each of them ends an output, `eos_id` too.
      unk_id: stands for what the vocabulary has no piece for; None where there is nothing such.
      chat: whether `render` and `turn` write texts as a conversation.
    """

    kind: ClassVar[str]
    vocab_size: int
    pad_id: int
    bos_id: int | None
    eos_id: int
    stop_ids: tuple[int, ...]
    unk_id: int | None
    chat: bool = False

    @property
    def least_rows(self) -> int:
        """How many embeddings a model of this vocabulary has at least."""
        return self.vocab_size

    @property
    def prefix_id(self) -> int:
        """What a text is conditioned on that has nothing in front of it."""
        return self.eos_id

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS."""

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each of many texts; other threads go on meanwhile, where the library can."""
        return [self.encode(text) for text in texts]

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, all of them; see `decode` for that of an output."""

    def decode_all(self, rows: Sequence[list[int]]) -> list[str]:
        """`decode` of many."""
        return [self.decode(ids) for ids in rows]

    def render(self, text: str) -> str:
        """An input as the model wants it to be written, up to its answer: of chat models, a user's
        turn, and what begins the assistant's."""
        return text

    def turn(self, text: str, target: str) -> tuple[str, str]:
        """An input as `render` writes it, and its target; `eos_id` is to stand behind that."""
        return text, target

    def converse(self, messages: Sequence[Mapping[str, str]], ask: bool) -> str:
        """A conversation of {"role", "content"} as text; `ask`: and the beginning of an answer.

        Raises:
          UserError: there is no chat template.
        """
        raise UserError(f"a vocabulary of {self.kind}s has no chat template: ask it without")

    def with_chat(self, chat: bool) -> Self:
        """The same ids, and texts written as a chat, or not.

        Raises:
          UserError: it has no chat template.
        """
        if chat:
            raise UserError(f"chat = True, but a vocabulary of {self.kind}s has no chat template")
        return self

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """All of it but its files, in values that JSON can hold."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """Name -> content of the files that it consists of."""

    @classmethod
    @abc.abstractmethod
    def parse(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What `settings` say, as arguments to make it of, beside those of its files.

        Raises:
          UserError, TypeError, KeyError: they say nothing of the kind.
        """

    @classmethod
    @abc.abstractmethod
    def build(cls, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> Self:
        """The inverse of `settings` and `files`; raises as `parse`."""

    def __deepcopy__(self, memo: dict) -> Self:  # gin copies its arguments
        return self

    def __reduce__(self):  # without what is cached
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __str__(self) -> str:
        about = [f"{self.vocab_size} ids", *(fingerprint(x) for x in self.files().values())]
        return f"{self.kind} ({', '.join(about)})"


def decode(vocabulary: Vocabulary, ids: Iterable[int]) -> str:
    """An output's text: up to the first stop id."""
    return decode_all(vocabulary, [[*map(int, ids)]])[0]


def decode_all(vocabulary: Vocabulary, rows: Sequence[list[int]]) -> list[str]:
    """`decode` of many, in little more time than the vocabulary's own."""
    stops, size, cut = vocabulary.stop_ids, vocabulary.vocab_size, []
    for ids in rows:
        ends = [ids.index(stop) for stop in stops if stop in ids]
        cut.append(_text_ids(vocabulary, ids[: min(ends, default=None)], size))
    return vocabulary.decode_all(cut)


def text_of(vocabulary: Vocabulary, ids: Iterable[int]) -> str:
    """The text of all ids, of an input's too, which may begin with a stop id and have turns;
    padding, and ids that the vocabulary lacks (soft prompts), have none."""
    return vocabulary.decode(_text_ids(vocabulary, [*map(int, ids)], vocabulary.vocab_size))


def _text_ids(vocabulary: Vocabulary, ids: list[int], size: int) -> list[int]:
    pad = vocabulary.pad_id
    if ids and (pad in ids or min(ids) < 0 or max(ids) >= size):  # else nothing is left out
        return [i for i in ids if 0 <= i < size and i != pad]
    return ids

"""Hugging Face's tokenizer.json, read by the package `tokenizers`."""

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import tokenizers

from promot_jax.errors import UserError, check_types
from promot_jax.vocabularies import chat as chats
from promot_jax.vocabularies.base import Vocabulary
from promot_jax.vocabularies.special import SpecialIds, special_ids
from promot_jax.vocabularies.tokenizer_file import TOKENIZER, open_directory, open_tokenizer


@dataclasses.dataclass(frozen=True)
class Tokenizer(Vocabulary):
    """A tokenizer.json: byte-level BPE, SentencePiece's BPE and others, all as the file says.

    Texts are encoded without the tokens that the file puts around them; they are settings. Two of
    them are equal that give the same ids of a text, whether or not they write it as a chat.

    Attributes:
      file: the content of tokenizer.json.
      special: the special ids.
      template: the model's chat template.
      chat: whether an input is a user's turn and its target the assistant's, as the template
        writes them. Then BOS is the template's own, and what ends a turn is EOS.
      day: of a chat whose template writes it; None: the day on which the vocabulary is made. It
        stays the same in a work directory, where the same texts must be the same rows.

    Raises:
      UserError: no tokenizer.json, an EOS or BOS that it lacks, `chat` without a template, or with
        one that fails.
    """

    file: bytes = dataclasses.field(repr=False)
    special: SpecialIds
    template: str | None = dataclasses.field(default=None, repr=False, compare=False)
    chat: bool = dataclasses.field(default=False, compare=False)
    day: str | None = dataclasses.field(default=None, compare=False)

    kind: ClassVar[str] = "tokenizer"

    def __post_init__(self):
        check_types(self)
        for name in ("eos_id", "bos_id"):
            found = getattr(self.special, name)
            if found is not None and self._tokenizer.id_to_token(found) is None:
                raise UserError(
                    f"vocabulary: {name} = {found}, but the tokenizer has {self.vocab_size} ids and"
                    f" no token of this one: set data.tokenizer.{name}"
                )
        if self.chat:
            if self.day is None and chats.tells_the_day(self.template or ""):
                object.__setattr__(self, "day", datetime.date.today().isoformat())
            self._ending  # noqa: B018  it asks the template

    @functools.cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        return open_tokenizer(self.file)

    @functools.cached_property
    def _chat(self) -> chats.Template:
        if self.template is None:
            raise UserError(
                "chat = True, but the vocabulary has no chat template (chat_template.jinja, or"
                " chat_template in tokenizer_config.json): give a directory with one, or set False"
            )
        return chats.Template(self.template, self.special.tokens, self.day)

    @functools.cached_property
    def _ending(self) -> tuple[str, int] | None:
        """The special token that ends an assistant's turn, text and id; None: there is none."""
        _, answer = self._chat.turn("a", "b")
        ids = self._tokenizer.encode(answer.rstrip(), add_special_tokens=False).ids
        token = self._tokenizer.get_added_tokens_decoder().get(ids[-1]) if ids else None
        return (token.content, ids[-1]) if token is not None and token.special else None

    @functools.cached_property
    def vocab_size(self) -> int:
        added = self._tokenizer.get_added_tokens_decoder()
        return max(self._tokenizer.get_vocab_size(), 1 + max(added, default=-1))

    @property
    def least_rows(self) -> int:
        """Without special tokens that only other models need, as Gemma 3's for images, which lies
        behind all rows of the models without a tower of vision."""
        added = self._tokenizer.get_added_tokens_decoder().items()
        needed = [i for i, token in added if not token.special]
        pieces = self._tokenizer.get_vocab_size(with_added_tokens=False)
        return max(pieces, 1 + max([*needed, *self.stop_ids, self.pad_id, self.bos_id or 0]))

    @property
    def pad_id(self) -> int:
        return self.special.pad_id

    @property
    def bos_id(self) -> int | None:
        return None if self.chat else self.special.bos_id

    @property
    def prefix_id(self) -> int:
        """BOS where there is one by name, whether or not it is put in front of texts."""
        bos = self._tokenizer.token_to_id(self.special.tokens.get("bos_token", ""))
        return self.eos_id if bos is None else bos

    @property
    def eos_id(self) -> int:
        return self._ending[1] if self.chat and self._ending else self.special.eos_id

    @functools.cached_property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((self.eos_id, *self.special.stop_ids)))

    @functools.cached_property
    def unk_id(self) -> int | None:
        name = getattr(self._tokenizer.model, "unk_token", None)
        name = name or self.special.tokens.get("unk_token")
        found = None if name is None else self._tokenizer.token_to_id(name)
        return None if found in self.stop_ids else found  # GPT-2's, which knows all bytes

    def encode(self, text: str) -> list[int]:
        text.encode()  # what is no text raises here as it does for the other kinds
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            text.encode()
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in found]

    def decode(self, ids: Iterable[int]) -> str:
        inside = range(self.vocab_size)
        return self._tokenizer.decode([int(i) for i in ids if i in inside])

    def decode_all(self, rows: Sequence[list[int]]) -> list[str]:
        return self._tokenizer.decode_batch(list(rows))

    def render(self, text: str) -> str:
        return self._chat.render(text) if self.chat else text

    def turn(self, text: str, target: str) -> tuple[str, str]:
        if not self.chat:
            return text, target
        before, answer = self._chat.turn(text, target)
        ending = self._ending[0] if self._ending else ""
        if ending and answer.rstrip().endswith(ending):
            answer = answer.rstrip().removesuffix(ending)
        return before, answer

    def converse(self, messages: Sequence[Mapping[str, str]], ask: bool) -> str:
        return self._chat.converse(messages, ask)

    def with_chat(self, chat: bool) -> Self:
        return self if chat == self.chat else dataclasses.replace(self, chat=chat, day=None)

    def settings(self) -> dict[str, Any]:
        day = {} if self.day is None else {"day": self.day}
        return {"kind": self.kind, "chat": self.chat} | day | self.special.to_json()

    def files(self) -> dict[str, bytes]:
        template = {} if self.template is None else {chats.FILE: self.template.encode()}
        return {TOKENIZER: self.file} | template

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        if type(settings["chat"]) is not bool:
            raise UserError(f"vocabulary: chat = {settings['chat']!r:.80}: set True or False")
        found = {"chat": settings["chat"], "day": settings.get("day")}
        return found | {"special": SpecialIds.from_json(settings)}

    @classmethod
    def build(cls, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> Self:
        template = files[chats.FILE].decode() if chats.FILE in files else None
        return cls(files[TOKENIZER], template=template, **cls.parse(settings))

    @classmethod
    def read(cls, path: Path, chat: bool = False, **given: Any) -> Self:
        """The tokenizer of a directory of Transformers.

        Args:
          path: the directory, or the tokenizer.json in it.
          chat: see the class.
          given: fields of `SpecialIds` to take in the place of what the files tell.

        Raises:
          UserError: no tokenizer.json, a malformed file, or as the class.
        """
        content, tokenizer = open_directory(path)
        directory = path if path.is_dir() else path.parent
        special = special_ids(directory, tokenizer, **given)
        return cls(content, special, chats.read_template(directory), chat)

"""SentencePiece models, with T5's sentinels and added tokens.

T5's rule holds for them: id 0 is padding, and text ends in EOS, which is 1.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from promot_jax.added_tokens import AddedToken, Splitter, from_json, normalizer, to_json
from promot_jax.errors import UserError, check_values
from promot_jax.vocabularies.base import Vocabulary
from promot_jax.vocabularies.byte import check_extra_ids

FILE = "sentencepiece.model"


@dataclasses.dataclass(frozen=True)
class SentencePiece(Vocabulary):
    """A SentencePiece model with sentinels `<extra_id_0>` ... put at its end, the first one last.

    Attributes:
      model: the model, as spm_train writes it.
      extra_ids: how many sentinels there are.
      added_tokens: what somebody added, at given ids, which may be those of pieces, or behind them;
        then it reads and writes as Transformers' T5 tokenizers with the same tokens do.

    Raises:
      UserError: no SentencePiece model, or one without padding id 0 and EOS 1.
    """

    model: bytes = dataclasses.field(repr=False)
    extra_ids: int = 0
    added_tokens: Sequence[AddedToken] = ()

    kind: ClassVar[str] = "sentencepiece"
    pad_id: ClassVar[int] = 0
    eos_id: ClassVar[int] = 1
    stop_ids: ClassVar[tuple[int, ...]] = (1,)

    def __post_init__(self):
        check_extra_ids(self.extra_ids)
        check_values(type(self), {"added_tokens": self.added_tokens})
        object.__setattr__(self, "added_tokens", tuple(self.added_tokens))
        found = self._pieces.pad_id(), self._pieces.eos_id()
        if found != (self.pad_id, self.eos_id):
            raise UserError(
                f"vocabulary: the SentencePiece model has pad id {found[0]} and EOS id {found[1]};"
                " they must be 0 and 1 (spm_train --pad_id=0 --eos_id=1 --unk_id=2)"
            )

    @functools.cached_property
    def with_sentinels(self) -> bytes:
        """The model, with the sentinels among its pieces: what is read and written with."""
        try:
            proto = sentencepiece_model_pb2.ModelProto.FromString(self.model)
        except DecodeError as error:
            raise _no_model() from error
        for i in reversed(range(self.extra_ids)):
            kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
            proto.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=kind)
        return proto.SerializeToString()

    @functools.cached_property
    def _pieces(self) -> SentencePieceProcessor:
        pieces = SentencePieceProcessor()
        try:
            pieces.LoadFromSerializedProto(self.with_sentinels)
        except RuntimeError as error:
            raise _no_model() from error
        return pieces

    @functools.cached_property
    def _splitter(self) -> Splitter:
        last = self._pieces.get_piece_size() - 1
        sentinels = [AddedToken(f"<extra_id_{i}>", last - i, True) for i in range(self.extra_ids)]
        return Splitter([*self.added_tokens, *sentinels], normalizer(self.with_sentinels))

    @functools.cached_property
    def _by_id(self) -> dict[int, AddedToken]:
        return {token.id: token for token in self.added_tokens}

    @functools.cached_property
    def vocab_size(self) -> int:
        return max(self._pieces.get_piece_size(), 1 + max(self._by_id, default=0))

    @functools.cached_property
    def bos_id(self) -> int | None:
        found = self._pieces.bos_id()
        return found if found >= 0 else None

    @functools.cached_property
    def unk_id(self) -> int:
        return self._pieces.unk_id()

    def encode(self, text: str) -> list[int]:
        if not self.added_tokens:
            return self._pieces.EncodeAsIds(text)
        ids = []
        for part in self._splitter.split(text):
            added = isinstance(part, AddedToken)
            ids += [part.id] if added else self._pieces.EncodeAsIds(part)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        if self.added_tokens or not texts:
            return super().encode_all(texts)
        return self._pieces.Encode(list(texts), num_threads=1)

    def decode_all(self, rows: Sequence[list[int]]) -> list[str]:
        if self.added_tokens or not rows:
            return super().decode_all(rows)
        return self._pieces.Decode(rows, num_threads=1)

    def decode(self, ids: Iterable[int]) -> str:
        if not self.added_tokens:
            return self._text(ids)
        text, unknown = "", self._text([self.unk_id])
        for added, part in itertools.groupby(ids, self._by_id.__contains__):
            if added:
                text += "".join(self._splitter.form(self._by_id[i]) for i in part)
            elif text:  # a piece in front keeps the spaces that begin the part
                text += self._text([self.unk_id, *part])[len(unknown) :]
            else:
                text += self._text(part)
        return text

    def _text(self, ids: Iterable[int]) -> str:
        ids, size = [*map(int, ids)], self._pieces.get_piece_size()
        if max(ids, default=0) >= size:
            ids = [i if i < size else self.unk_id for i in ids]
        return self._pieces.DecodeIds(ids)

    def settings(self) -> dict[str, Any]:
        added = {"added_tokens": to_json(self.added_tokens)} if self.added_tokens else {}
        return {"kind": self.kind, "extra_ids": self.extra_ids} | added

    def files(self) -> dict[str, bytes]:
        return {FILE: self.model}

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        check_extra_ids(settings["extra_ids"])
        added = from_json(settings.get("added_tokens", ()))
        return {"extra_ids": settings["extra_ids"], "added_tokens": added}

    @classmethod
    def build(cls, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> Self:
        return cls(files[FILE], **cls.parse(settings))


def _no_model() -> UserError:
    return UserError("vocabulary: it is not a SentencePiece model (a .model file of spm_train)")

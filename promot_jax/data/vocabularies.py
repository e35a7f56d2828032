"""Vocabularies: how a model reads text. They belong to the model, so a model's settings name one.

Both follow T5's rule that the rest of the project relies on: id 0 is padding, and text ends in
EOS, which is 1.
"""

import itertools
from collections.abc import Iterable, Sequence

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from promot_jax.added_tokens import AddedToken, Splitter, normalizer
from promot_jax.errors import UserError
from promot_jax.paths import resolve


class WithAddedTokens(seqio.SentencePieceVocabulary):
    """SentencePiece with tokens added at given ids, which may be those of pieces, or behind them.

    It reads and writes as Transformers' T5 tokenizers with the same tokens do.
    """

    def __init__(self, path: str, extra_ids: int, added_tokens: Sequence[AddedToken]):
        super().__init__(path, extra_ids=extra_ids)
        self.added_tokens = tuple(added_tokens)
        self._cutter: Splitter | None = None

    def __getstate__(self):  # gin copies its arguments
        return super().__getstate__() | {"_cutter": None}

    @property
    def _base_vocab_size(self) -> int:
        return max(super()._base_vocab_size, 1 + max(token.id for token in self.added_tokens))

    def _splitter(self) -> Splitter:
        if self._cutter is None:
            tokens = [*self.added_tokens, *self._sentinels()]
            self._cutter = Splitter(tokens, normalizer(self.sp_model))
        return self._cutter

    def _sentinels(self) -> list[AddedToken]:
        """Those behind the pieces: they are cut out like all others, whatever touches them."""
        last = super()._base_vocab_size - 1
        return [AddedToken(f"<extra_id_{i}>", last - i, True) for i in range(self.extra_ids)]

    def _encode(self, s: str) -> list[int]:
        ids = []
        for part in self._splitter().split(s):
            ids += [part.id] if isinstance(part, AddedToken) else super()._encode(part)
        return ids

    def _decode(self, ids: Iterable[int]) -> str:
        tokens = {token.id: token for token in self.added_tokens}
        text, unknown = "", self.tokenizer.decode([self.unk_id])
        for added, part in itertools.groupby(ids, tokens.__contains__):
            if added:
                text += "".join(self._splitter().form(tokens[i]) for i in part)
            elif text:  # a piece in front keeps the spaces that begin the part
                text += super()._decode([self.unk_id, *part])[len(unknown) :]
            else:
                text += super()._decode(part)
        return text

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        encode = lambda x: tf.constant(self._encode(x.numpy().decode()), tf.int32)  # noqa: E731
        return tf.ensure_shape(tf.py_function(encode, [s], tf.int32), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda x: self._decode(x.numpy().tolist()), [ids], tf.string)


def added_tokens(vocabulary: seqio.Vocabulary) -> tuple[AddedToken, ...]:
    """What somebody added to a vocabulary."""
    return getattr(vocabulary, "added_tokens", ())


def sentencepiece(
    path: str, extra_ids: int = 0, added_tokens: Sequence[AddedToken] = ()
) -> seqio.SentencePieceVocabulary:
    """The SentencePiece model at `path`, with T5's sentinels `<extra_id_0>` ... put at its end.

    T5 and mT5 need `extra_ids=100`. `path` is relative to the working directory or the package.
    `added_tokens` are what somebody added to the tokenizer, as a work directory's run.json has it.

    Raises:
      UserError: no file there, not a SentencePiece model, or one without padding id 0 and EOS.
    """
    found = resolve(path)
    try:
        there = tf.io.gfile.exists(found) and not tf.io.gfile.isdir(found)
    except tf.errors.OpError as error:  # a bucket that cannot be reached
        reason = str(error).splitlines()[0][:100]
        raise UserError(
            f"vocabulary: {path!r} cannot be read ({reason}); set VOCABULARY_FILE to a local copy"
        ) from error
    if not there:
        raise UserError(f"vocabulary: there is no SentencePiece model at {path!r}; check the path")
    vocabulary = seqio.SentencePieceVocabulary(found, extra_ids=extra_ids)
    if added_tokens:
        vocabulary = WithAddedTokens(found, extra_ids, added_tokens)
    try:
        tokenizer = vocabulary.tokenizer
    except (DecodeError, RuntimeError) as error:
        raise UserError(
            f"vocabulary: {path!r} is not a SentencePiece model (a .model file of spm_train)"
        ) from error
    if (tokenizer.pad_id(), tokenizer.eos_id()) != (0, 1):
        raise UserError(
            f"vocabulary: {path!r} has pad id {tokenizer.pad_id()} and EOS id {tokenizer.eos_id()};"
            " they must be 0 and 1 (spm_train --pad_id=0 --eos_id=1 --unk_id=2)"
        )
    return vocabulary


def byte(extra_ids: int = 0) -> seqio.ByteVocabulary:
    """UTF-8 bytes + 3 (0 padding, 1 EOS, 2 unknown), as in ByT5, whose models have 384 ids."""
    return seqio.ByteVocabulary(extra_ids=extra_ids)


def decode(vocabulary: seqio.Vocabulary, ids: Iterable[int]) -> str:
    """The text up to EOS; ids that the vocabulary lacks (soft prompts, padding) have none."""
    before_eos = itertools.takewhile(lambda i: i != vocabulary.eos_id, map(int, ids))
    return str(vocabulary.decode([i for i in before_eos if 0 < i < vocabulary.vocab_size]))


def same_vocabulary(a: seqio.Vocabulary, b: seqio.Vocabulary) -> bool:
    """Whether both give the same ids: SentencePiece models compare by content, not by path."""
    if a == b:
        return True
    kind = seqio.SentencePieceVocabulary
    if not (isinstance(a, kind) and isinstance(b, kind)):
        return False
    return a.sp_model == b.sp_model and added_tokens(a) == added_tokens(b)

"""Vocabularies: how a model reads text. They belong to the model, so a model's settings name one.

Both follow T5's rule that the rest of the project relies on: id 0 is padding, and text ends in
EOS, which is 1.
"""

import itertools
from collections.abc import Iterable

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from promot_jax.errors import UserError
from promot_jax.paths import resolve


def sentencepiece(path: str, extra_ids: int = 0) -> seqio.SentencePieceVocabulary:
    """The SentencePiece model at `path`, with T5's sentinels `<extra_id_0>` ... put at its end.

    T5 and mT5 need `extra_ids=100`. `path` is relative to the working directory or the package.

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
    return isinstance(a, kind) and isinstance(b, kind) and a.sp_model == b.sp_model

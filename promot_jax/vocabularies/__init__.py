"""Vocabularies: how a model reads and writes text. They belong to the model.

    SentencePiece   T5 and its like: a SentencePiece model, sentinels, added tokens
    Byte            ByT5: UTF-8 bytes
    Tokenizer       decoder-only models: Hugging Face's tokenizer.json; chat turns

Special ids are each vocabulary's own, and not only T5's 0 for padding and 1 for EOS: in most
decoder-only vocabularies id 0 is a word, and padding may be the id of EOS. Free of TensorFlow;
`promot_jax.data` makes vocabularies of SeqIO of them for tasks that want one.
"""

from collections.abc import Mapping
from typing import Any

from promot_jax.vocabularies import chat, sentencepiece, tokenizer_file
from promot_jax.vocabularies.base import Vocabulary, decode, decode_all, text_of
from promot_jax.vocabularies.byte import Byte
from promot_jax.vocabularies.sentencepiece import SentencePiece
from promot_jax.vocabularies.special import SpecialIds, special_ids
from promot_jax.vocabularies.tokenizer import Tokenizer

KINDS = {kind.kind: kind for kind in (SentencePiece, Byte, Tokenizer)}
FILES = (sentencepiece.FILE, tokenizer_file.TOKENIZER, chat.FILE)


def check(settings: Mapping[str, Any]) -> None:
    """Raises UserError, KeyError or TypeError unless these are the `settings()` of a vocabulary."""
    KINDS[settings["kind"]].parse(settings)


def build(settings: Mapping[str, Any], files: Mapping[str, bytes]) -> Vocabulary:
    """The vocabulary of `settings()` and `files()`, as a work directory keeps them.

    Raises:
      UserError, TypeError, KeyError: they are none's.
    """
    return KINDS[settings["kind"]].build(settings, files)


__all__ = [
    "FILES",
    "Byte",
    "SentencePiece",
    "SpecialIds",
    "Tokenizer",
    "Vocabulary",
    "build",
    "check",
    "decode",
    "decode_all",
    "special_ids",
    "text_of",
]

"""Vocabularies for gin files, by their paths, and for SeqIO, which has classes of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promot_jax.added_tokens import AddedToken
from promot_jax.errors import UserError, check_values
from promot_jax.paths import as_path, resolve
from promot_jax.vocabularies import Byte, SentencePiece, Tokenizer, Vocabulary

if TYPE_CHECKING:
    import seqio


def sentencepiece(
    path: str, extra_ids: int = 0, added_tokens: Sequence[AddedToken] = ()
) -> SentencePiece:
    """The SentencePiece model at `path`, with T5's sentinels `<extra_id_0>` ... put at its end.

    T5 and mT5 need `extra_ids=100`. `path` is relative to the working directory or the package.
    `added_tokens` are what somebody added to the tokenizer, as a work directory's run.json has it.

    Raises:
      UserError: no file there, not a SentencePiece model, or one without padding id 0 and EOS.
    """
    model = _read(path)
    if model is None:
        raise UserError(f"vocabulary: there is no SentencePiece model at {path!r}; check the path")
    try:
        return SentencePiece(model, extra_ids, added_tokens)
    except UserError as error:
        raise UserError(str(error).replace("vocabulary:", f"vocabulary: {path!r}:", 1)) from error


def _read(path: str) -> bytes | None:
    try:
        return as_path(resolve(path)).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"vocabulary: {path!r} cannot be read ({error.strerror}); set VOCABULARY_FILE to a"
            " local copy"
        ) from error


def byte(extra_ids: int = 0) -> Byte:
    """UTF-8 bytes + 3 (0 padding, 1 EOS, 2 unknown), as in ByT5, whose models have 384 ids."""
    return Byte(extra_ids)


def tokenizer(
    path: str,
    bos_id: int | None = None,
    eos_id: int | None = None,
    pad_id: int | None = None,
    stop_ids: Sequence[int] | None = None,
    chat: bool = False,
) -> Tokenizer:
    """The Hugging Face tokenizer at `path`: a tokenizer.json, or a directory with one.

    Ids that are None are what the files beside it tell: `vocabularies.special_ids` says how.

    Args:
      path: relative to the working directory or the package.
      bos_id: what is put in front of every text.
      eos_id: ends a target.
      pad_id: fills rows up.
      stop_ids: end an output, besides EOS.
      chat: whether an input is a user's turn and its target the assistant's, written as the model's
        chat template says.

    Raises:
      UserError: no tokenizer there, no EOS, or `chat` without a template.
    """
    check_values(tokenizer, locals())
    given = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": pad_id, "stop_ids": stop_ids}
    return Tokenizer.read(as_path(resolve(path)), chat, **given)


def as_seqio(vocabulary: Vocabulary) -> "seqio.Vocabulary":
    """A vocabulary as SeqIO's own tasks take it, which make ids of texts by themselves."""
    from promot_jax.data.seqio_vocabulary import OfSeqIO

    return OfSeqIO(vocabulary)


def same_vocabulary(own: "seqio.Vocabulary", vocabulary: Vocabulary) -> bool:
    """Whether a SeqIO task's own vocabulary gives a model's ids: compared by content, not path."""
    from promot_jax.data.quiet import seqio
    from promot_jax.data.seqio_vocabulary import OfSeqIO

    if isinstance(own, OfSeqIO):
        return own.vocabulary == vocabulary
    if isinstance(own, seqio.ByteVocabulary):
        return vocabulary == Byte(own.extra_ids)
    if isinstance(own, seqio.SentencePieceVocabulary) and isinstance(vocabulary, SentencePiece):
        return own.sp_model == vocabulary.with_sentinels and not vocabulary.added_tokens
    return False

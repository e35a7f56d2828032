"""Tokenizer files of Transformers and the vocabulary they come from.

T5's tokenizer is a SentencePiece model (`spiece.model`) with sentinels behind it. Transformers 5
saves a translation of it alone, `tokenizer.json`, and reads that where both are there; both are
written, since umT5's is opened from the translation alone. Tokens that somebody added come on top
of the pieces; `added` finds them.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from promot_jax.added_tokens import AddedToken, Splitter, normalizer
from promot_jax.console import say
from promot_jax.convert import added, tokenizer_json
from promot_jax.convert.source import check_downloaded, first_few, read_json
from promot_jax.errors import UserError
from promot_jax.vocabularies import Byte, SentencePiece

SENTINEL = re.compile(r"▁?<extra_id_\d+>")
BYTES = 259  # padding, EOS, unknown and 256 bytes
T5_CLASSES = ("T5Tokenizer", "MT5Tokenizer")
ANY_CLASSES = ("TokenizersBackend", "PreTrainedTokenizer")
Json = Mapping[str, Any]


def read_vocabulary(directory: Path, config: Json) -> Byte | SentencePiece | None:
    """The vocabulary of a directory of Transformers; None where it holds no tokenizer.

    Args:
      directory: with spiece.model, tokenizer.json or a tokenizer_config.json of ByT5.
      config: what its config.json says.

    Raises:
      UserError: a tokenizer that is no SentencePiece model, of more ids than the model has, or with
        added tokens that cannot be honoured.
    """
    rows = config["vocab_size"]
    told = added.read_json_if_any(directory / "tokenizer_config.json")
    kind = str(told.get("tokenizer_class") or config.get("tokenizer_class") or T5_CLASSES[0])
    kind = kind.removesuffix("Fast")
    if kind == "ByT5Tokenizer":
        return _bytes_alone(directory, told, rows)
    if kind not in T5_CLASSES + ANY_CLASSES:
        raise UserError(
            f"{str(directory)!r}: tokenizer_class = {kind!r:.80}: only T5Tokenizer, ByT5Tokenizer"
            " and their tokenizer.json can be imported"
        )
    model, translated = _model(directory)
    if model is None:
        return _bytes_alone(directory, told, rows) if rows == 384 else None
    is_t5 = kind in T5_CLASSES and config.get("model_type") != "umt5"
    plain = sentencepiece_vocabulary(model, rows, 0, str(directory))
    processor = SentencePieceProcessor(model_proto=model)
    if _holds_sentinels(processor):
        told = {"extra_ids": 0} | told
    pieces = _pieces(directory, processor, translated, told)
    tokens = added.resolved(directory, told, translated, pieces, is_t5)
    _check_end(directory, told, tokens)
    return _with_tokens(directory, plain, pieces, tokens, rows)


def _model(directory: Path) -> tuple[bytes | None, Json]:
    """The SentencePiece model that Transformers read, and what tokenizer.json says."""
    spiece, path = directory / "spiece.model", directory / "tokenizer.json"
    model = None
    if spiece.exists():
        check_downloaded(spiece)
        model = spiece.read_bytes()
        sentencepiece_vocabulary(model, 1 << 31, 0, str(directory))  # so that it can be compared
    if not path.exists():
        return model, {}
    translated = read_json(path)
    made = tokenizer_json.to_sentencepiece(path, translated)
    if model is None or tokenizer_json.alike(model, made):
        return model or made, translated
    say(f"{path} is read, as Transformers do; {spiece.name} has other pieces and is not")
    return made, translated


def _pieces(
    directory: Path, model: SentencePieceProcessor, translated: Json, told: Json
) -> list[str]:
    """All pieces by their ids, sentinels behind the model's own."""
    if translated:
        path = directory / "tokenizer.json"
        return [piece for piece, _ in tokenizer_json.pieces(path, translated)]
    own = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    return own + [f"<extra_id_{i}>" for i in reversed(range(added.sentinels(told)))]


def _check_end(directory: Path, told: Json, tokens: Sequence[AddedToken]) -> None:
    name = told.get("eos_token") or "</s>"
    name = name.get("content") if isinstance(name, dict) else name
    if wrong := [t.id for t in tokens if t.content == name and t.id != 1]:
        raise UserError(
            f"{str(directory)!r}: eos_token = {name!r} has id {wrong[0]}: only 1, as T5's has, can"
            " be imported"
        )


def _with_tokens(
    directory: Path,
    plain: SentencePiece,
    pieces: Sequence[str],
    tokens: Sequence[AddedToken],
    rows: int,
) -> SentencePiece:
    """The vocabulary with its tokens. Sentinels that lie as SeqIO has them are not among these."""
    model = SentencePieceProcessor(model_proto=plain.model)
    size = model.get_piece_size()
    # padding, EOS, unknown and the model's own control pieces are not written in text
    inside = lambda i: i < size and (model.is_control(i) or model.is_unknown(i))  # noqa: E731
    own = [t for t in tokens if not inside(t.id)]
    known = {t.content for t in own}
    own += [
        AddedToken(piece, i, special=True)
        for i, piece in enumerate(pieces)
        if i >= size and piece not in known
    ]
    marks = {t.content: t.id for t in own if SENTINEL.fullmatch(t.content) and t.id < rows}
    count = len(marks)
    if marks == {f"<extra_id_{i}>": size + count - 1 - i for i in range(count)}:
        own = [t for t in own if t.content not in marks]
    else:
        count = 0
    own = [t for t in own if t.id < rows or not SENTINEL.fullmatch(t.content)]
    if far := [f"{t.content!r:.80} ({t.id})" for t in own if t.id >= rows]:
        raise UserError(
            f"{str(directory)!r}: the model has {rows} embeddings, and none for the added tokens"
            f" {first_few(far, ', ')}: save it again after resize_token_embeddings"
        )
    own = tuple(sorted(own, key=lambda token: token.id))
    _check_forms(directory, own, Splitter(own, normalizer(plain.model)))
    return dataclasses.replace(plain, extra_ids=count, added_tokens=own)


def _check_forms(directory: Path, tokens: Sequence[AddedToken], splitter: Splitter) -> None:
    """Says which tokens are looked for as something else, and refuses two looked for as one."""
    found: dict[tuple[str, bool], AddedToken] = {}
    for token in tokens:
        form = splitter.form(token)
        other = found.setdefault((form, token.normalized), token)
        if other is not token:
            raise UserError(
                f"{str(directory)!r}: the added tokens {other.content!r:.80} ({other.id}) and"
                f" {token.content!r:.80} ({token.id}) both become {form!r:.80} by T5's"
                " normalisation: add them with normalized=False, or one alone"
            )
        if form != token.content:
            say(
                f"{str(directory)!r}: the added token {token.content!r:.80} is {form!r:.80} by T5's"
                f" normalisation: as in Transformers, each {form!r:.80} is read as {token.id}"
            )


def _bytes_alone(directory: Path, told: Json, rows: int) -> Byte:
    """ByT5's vocabulary.

    Raises:
      UserError: it has tokens that ByT5 has not.
    """
    listed = dict(added.listed_ids(directory, told))
    extra = [name for name, i in listed.items() if i > 2 and not SENTINEL.fullmatch(name)]
    if extra:
        raise UserError(
            f"{str(directory)!r}: the tokens {first_few(list(map(repr, extra)), ', ')} were added"
            " to ByT5's bytes: only to SentencePiece's pieces they can be imported"
        )
    return byte_vocabulary(rows)


def byte_vocabulary(rows: int) -> Byte:
    """ByT5's bytes with its 125 sentinels, for a model of so many embeddings."""
    return Byte(max(0, min(125, rows - BYTES)))


def sentencepiece_vocabulary(model: bytes, rows: int, extra_ids: int, where: str) -> SentencePiece:
    """A SentencePiece model as the vocabulary of a model of so many embeddings.

    `extra_ids` sentinels are put behind it, but for those that have no embedding, and none where
    it holds them itself, as mT5's does.

    Raises:
      UserError: it is no SentencePiece model of T5's kind, or has more pieces than there are
        embeddings.
    """
    try:
        pieces = SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"{where!r}: the vocabulary is no SentencePiece model ({reason}): download it again"
        ) from error
    size = pieces.get_piece_size()
    if not size or (pieces.pad_id(), pieces.eos_id()) != (0, 1):
        raise UserError(
            f"{where!r}: the vocabulary has {size} pieces, padding {pieces.pad_id()} and EOS"
            f" {pieces.eos_id()}: give one with padding 0 and EOS 1, as T5's are"
        )
    if type(extra_ids) is not int or extra_ids < 0:
        raise UserError(f"{where!r}: extra_ids = {extra_ids!r}: set a whole number, 0 or more")
    if size > rows:
        raise UserError(
            f"{where!r}: the vocabulary has {size} pieces, but the model only {rows} embeddings:"
            " give the vocabulary that the model was made with"
        )
    inside = _holds_sentinels(pieces)
    return SentencePiece(model, 0 if inside else min(extra_ids, rows - size))


def _holds_sentinels(pieces: SentencePieceProcessor) -> bool:
    size = pieces.get_piece_size()
    tail = (pieces.id_to_piece(i) for i in range(max(0, size - 300), size))
    return any(map(SENTINEL.fullmatch, tail))


def write_vocabulary(directory: Path, vocabulary: Byte | SentencePiece) -> None:
    """Writes what `AutoTokenizer.from_pretrained` opens."""
    sentinels = [f"<extra_id_{i}>" for i in range(vocabulary.extra_ids)]
    added_tokens = () if vocabulary.kind == "byte" else vocabulary.added_tokens
    special = [token.content for token in added_tokens if token.special]
    told = {
        "tokenizer_class": "ByT5Tokenizer" if vocabulary.kind == "byte" else "T5Tokenizer",
        "extra_ids": vocabulary.extra_ids,
        "additional_special_tokens": sentinels + special,
    }
    names = ("<pad>", "</s>", "<unk>")
    if vocabulary.kind == "sentencepiece":
        (directory / "spiece.model").write_bytes(vocabulary.model)
        translated = tokenizer_json.from_sentencepiece(
            vocabulary.model, vocabulary.extra_ids, added_tokens
        )
        _write_json(directory / "tokenizer.json", translated)
        vocab, unknown = translated["model"]["vocab"], translated["model"]["unk_id"]
        names = [vocab[i][0] for i in (0, 1, unknown)]
        if added_tokens:
            told["added_tokens_decoder"] = {
                str(fields["id"]): {name: x for name, x in fields.items() if name != "id"}
                for fields in translated["added_tokens"]
            }
    told |= dict(zip(("pad_token", "eos_token", "unk_token"), names, strict=True))
    _write_json(directory / "tokenizer_config.json", told, indent=1)


def _write_json(path: Path, values: Json, indent: int | None = None) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    path.write_text(text, encoding="utf-8")

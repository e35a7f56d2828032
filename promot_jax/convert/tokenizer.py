"""Tokenizer files of Transformers and the vocabulary they come from.

T5's tokenizer is a SentencePiece model (`spiece.model`) with sentinels behind it. Transformers 5
saves a translation of it alone, `tokenizer.json`, which holds all that makes the ids: the pieces
with their scores, and the table of the Unicode normalisation. So each of the two can be made of the
other; both are written, since umT5's is opened from the translation alone.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from promot_jax.convert.source import Vocabulary, read_json
from promot_jax.errors import UserError

SENTINEL = re.compile(r"▁?<extra_id_\d+>")
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # SentencePiece's types of pieces
SPECIAL = {"<pad>": CONTROL, "</s>": CONTROL, "<unk>": UNKNOWN}
BYTES = 259  # padding, EOS, unknown and 256 bytes


def read_vocabulary(directory: Path, config: Mapping[str, Any]) -> Vocabulary | None:
    """The vocabulary of a directory of Transformers; None where it holds no tokenizer.

    Args:
      directory: with spiece.model, tokenizer.json or a tokenizer_config.json of ByT5.
      config: what its config.json says.

    Raises:
      UserError: a tokenizer that is no SentencePiece model, or of more ids than the model has.
    """
    rows = config["vocab_size"]
    told = _json(directory / "tokenizer_config.json")
    kind = told.get("tokenizer_class") or config.get("tokenizer_class")
    if str(kind).startswith("ByT5"):
        return byte_vocabulary(rows)
    if (directory / "spiece.model").exists():
        model = (directory / "spiece.model").read_bytes()
    elif (directory / "tokenizer.json").exists():
        model = _from_tokenizer_json(directory / "tokenizer.json")
    else:
        return byte_vocabulary(rows) if rows == 384 else None
    extra_ids = told.get("extra_ids")
    if extra_ids is None:  # T5's tokenizer has as many sentinels as it lists, or 100
        listed = re.findall(r"<extra_id_\d+>", json.dumps(told))
        extra_ids = len(set(listed)) or 100
    return sentencepiece_vocabulary(model, rows, extra_ids, str(directory))


def byte_vocabulary(rows: int) -> Vocabulary:
    """ByT5's bytes with its 125 sentinels, for a model of so many embeddings."""
    return Vocabulary("byte", max(0, min(125, rows - BYTES)))


def sentencepiece_vocabulary(model: bytes, rows: int, extra_ids: int, where: str) -> Vocabulary:
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
        raise UserError(f"{where!r}: the vocabulary is no SentencePiece model") from error
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
    tail = (pieces.id_to_piece(i) for i in range(max(0, size - 300), size))
    inside = any(map(SENTINEL.fullmatch, tail))
    return Vocabulary("sentencepiece", 0 if inside else min(extra_ids, rows - size), model)


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _from_tokenizer_json(path: Path) -> bytes:
    """A SentencePiece model that gives the ids of a tokenizer.json.

    Raises:
      UserError: the file is not the translation of one.
    """
    told = _json(path)
    model = told.get("model")
    if not isinstance(model, dict) or (model.get("type"), model.get("unk_id")) != ("Unigram", 2):
        raise UserError(
            f"{path} is not T5's tokenizer (a Unigram model whose unknown is 2): add the"
            " spiece.model that the model was made with"
        )
    proto = sentencepiece_model_pb2.ModelProto()
    trainer = proto.trainer_spec
    trainer.byte_fallback = model.get("byte_fallback") is True
    try:
        for piece, score in model["vocab"]:
            if not re.fullmatch(r"<extra_id_\d+>", piece):  # behind the model, not in it
                proto.pieces.add(piece=piece, score=score, type=_type(piece, trainer.byte_fallback))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its vocab is damaged ({error!r}): download it again") from error
    trainer.model_type, trainer.vocab_size = trainer.UNIGRAM, len(proto.pieces)
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    normalizer = proto.normalizer_spec
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    normalizer.precompiled_charsmap = next(_charsmaps(told.get("normalizer")), b"")
    return proto.SerializeToString()


def _type(piece: str, byte_fallback: bool) -> int:
    if byte_fallback and BYTE_PIECE.fullmatch(piece):
        return BYTE
    return SPECIAL.get(piece, NORMAL)


def _charsmaps(normalizer: Any) -> Iterator[bytes]:
    """Tables of Unicode normalisation, however deep they lie."""
    if isinstance(normalizer, dict):
        if table := normalizer.get("precompiled_charsmap"):
            yield base64.b64decode(table)
        for part in normalizer.get("normalizers", ()):
            yield from _charsmaps(part)


def write_vocabulary(directory: Path, vocabulary: Vocabulary) -> None:
    """Writes what `AutoTokenizer.from_pretrained` opens."""
    sentinels = [f"<extra_id_{i}>" for i in range(vocabulary.extra_ids)]
    told = {
        "tokenizer_class": "ByT5Tokenizer" if vocabulary.kind == "byte" else "T5Tokenizer",
        "extra_ids": vocabulary.extra_ids,
        "additional_special_tokens": sentinels,
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    if vocabulary.model is not None:
        (directory / "spiece.model").write_bytes(vocabulary.model)
        text = json.dumps(_to_tokenizer_json(vocabulary.model, sentinels), ensure_ascii=False)
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")


def _to_tokenizer_json(model: bytes, sentinels: list[str]) -> dict[str, Any]:
    """A SentencePiece model with sentinels behind it as tokenizer.json."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    pieces = [[piece.piece, piece.score] for piece in proto.pieces]
    pieces += [[sentinel, 0.0] for sentinel in reversed(sentinels)]
    size = len(proto.pieces)
    whole = [i for i, piece in enumerate(proto.pieces) if piece.type in (UNKNOWN, CONTROL)]
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": pieces[i][0], **token, "special": True}
        for i in [*whole, *range(size, len(pieces))]
    ]
    eos = proto.trainer_spec.eos_piece
    ends = {"SpecialToken": {"id": eos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    ids = {"id": eos, "ids": [proto.trainer_spec.eos_id], "tokens": [eos]}
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    fallback = proto.trainer_spec.byte_fallback
    decoders = [{"type": "ByteFallback"}, space]
    words = {"type": "WhitespaceSplit"}
    table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": table} if table else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, space]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, ends],
            "pair": [first, ends, second, ends],
            "special_tokens": {eos: ids},
        },
        "decoder": {"type": "Sequence", "decoders": decoders} if fallback else space,
        "model": {
            "type": "Unigram",
            "unk_id": proto.trainer_spec.unk_id,
            "vocab": pieces,
            "byte_fallback": fallback,
        },
    }

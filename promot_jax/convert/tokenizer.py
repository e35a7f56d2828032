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

from promot_jax.convert.source import Vocabulary
from promot_jax.errors import UserError

SENTINEL = re.compile(r"▁?<extra_id_\d+>")
NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # SentencePiece's types of pieces
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
    kind = told.get("tokenizer_class") or config.get("tokenizer_class") or ""
    if kind.startswith("ByT5"):
        return byte_vocabulary(rows)
    if (directory / "spiece.model").exists():
        model = (directory / "spiece.model").read_bytes()
    elif (directory / "tokenizer.json").exists():
        model = _from_tokenizer_json(directory / "tokenizer.json")
    else:
        return byte_vocabulary(rows) if rows == 384 else None
    return sentencepiece_vocabulary(model, rows, told.get("extra_ids", 100), str(directory))


def byte_vocabulary(rows: int) -> Vocabulary:
    """ByT5's bytes with its 125 sentinels, for a model of so many embeddings."""
    return Vocabulary("byte", max(0, min(125, rows - BYTES)))


def sentencepiece_vocabulary(model: bytes, rows: int, extra_ids: int, where: str) -> Vocabulary:
    """A SentencePiece model as the vocabulary of a model of so many embeddings.

    `extra_ids` sentinels are put behind it, but for those that have no embedding, and none where
    it holds them itself, as mT5's does.

    Raises:
      UserError: it is no SentencePiece model, or has more pieces than there are embeddings.
    """
    try:
        pieces = SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise UserError(f"{where!r}: the vocabulary is no SentencePiece model") from error
    size = pieces.get_piece_size()
    if size > rows:
        raise UserError(
            f"{where!r}: the vocabulary has {size} pieces, but the model only {rows} embeddings:"
            " give the vocabulary that the model was made with"
        )
    tail = (pieces.id_to_piece(i) for i in range(max(0, size - 300), size))
    inside = any(map(SENTINEL.fullmatch, tail))
    return Vocabulary("sentencepiece", 0 if inside else min(extra_ids, rows - size), model)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error


def _from_tokenizer_json(path: Path) -> bytes:
    """A SentencePiece model that gives the ids of a tokenizer.json.

    Raises:
      UserError: the file is not the translation of one.
    """
    told = _json(path)
    model = told.get("model") or {}
    if model.get("type") != "Unigram" or model.get("unk_id") != 2:
        raise UserError(
            f"{path} is not T5's tokenizer (a {model.get('type')} model): add the spiece.model that"
            " the model was made with"
        )
    proto = sentencepiece_model_pb2.ModelProto()
    for piece, score in model["vocab"]:
        if not re.fullmatch(r"<extra_id_\d+>", piece):  # behind the model, not in it
            proto.pieces.add(piece=piece, score=score, type=SPECIAL.get(piece, NORMAL))
    trainer = proto.trainer_spec
    trainer.model_type, trainer.vocab_size = trainer.UNIGRAM, len(proto.pieces)
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    normalizer = proto.normalizer_spec
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    normalizer.precompiled_charsmap = next(_charsmaps(told.get("normalizer")), b"")
    return proto.SerializeToString()


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
    (directory / "tokenizer_config.json").write_text(json.dumps(told, indent=1))
    if vocabulary.model is not None:
        (directory / "spiece.model").write_bytes(vocabulary.model)
        text = json.dumps(_to_tokenizer_json(vocabulary.model, sentinels), ensure_ascii=False)
        (directory / "tokenizer.json").write_text(text)


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
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": proto.trainer_spec.unk_id,
            "vocab": pieces,
            "byte_fallback": False,
        },
    }

"""tokenizer.json, Hugging Face's translation of a SentencePiece model, in both directions.

It holds all that makes the ids: the pieces with their scores, and the table of the Unicode
normalisation. T5's sentinels are behind the pieces in it.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from promot_jax.added_tokens import AddedToken
from promot_jax.errors import UserError

SENTINEL = re.compile(r"<extra_id_\d+>")
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # SentencePiece's types of pieces
Json = Mapping[str, Any]


def pieces(path: Path, told: Json) -> list[tuple[str, float]]:
    """The pieces of a tokenizer.json with their scores, by id, sentinels at the end.

    Raises:
      UserError: it is not T5's.
    """
    model = told.get("model")
    if not isinstance(model, dict) or model.get("type") != "Unigram":
        raise UserError(
            f"{path} is not T5's tokenizer (a Unigram model): give the tokenizer that the model was"
            " made with"
        )
    try:
        found = [(piece, float(score)) for piece, score in model["vocab"]]
        if not all(isinstance(piece, str) for piece, _ in found):
            raise ValueError("a piece is no text")
        if type(model["unk_id"]) is not int or not 0 < model["unk_id"] < len(found):
            raise ValueError(f"unk_id = {model['unk_id']!r:.80}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its vocab is damaged ({error!r}): download it again") from error
    marks = [bool(SENTINEL.fullmatch(piece)) for piece, _ in found]
    if marks != sorted(marks):
        raise UserError(f"{path} has sentinels among its pieces: only behind them they convert")
    return found


def to_sentencepiece(path: Path, told: Json) -> bytes:
    """A SentencePiece model that gives the ids of a tokenizer.json, without its sentinels.

    Raises:
      UserError: the file is not the translation of one.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    found = pieces(path, told)
    trainer.byte_fallback = told["model"].get("byte_fallback") is True
    unknown = told["model"]["unk_id"]
    for i, (piece, score) in enumerate(found):
        if not SENTINEL.fullmatch(piece):
            kind = UNKNOWN if i == unknown else _type(i, piece, trainer.byte_fallback)
            proto.pieces.add(piece=piece, score=score, type=kind)
    trainer.model_type, trainer.vocab_size = trainer.UNIGRAM, len(proto.pieces)
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, unknown, -1
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    normalizer.precompiled_charsmap = _charsmap(path, told.get("normalizer"))
    _check_cutting(path, told.get("pre_tokenizer"))
    return proto.SerializeToString()


def _type(i: int, piece: str, byte_fallback: bool) -> int:
    if byte_fallback and BYTE_PIECE.fullmatch(piece):
        return BYTE
    return CONTROL if i < 2 else NORMAL  # padding and EOS


def _charsmap(path: Path, normalizer: Any) -> bytes:
    """The table of Unicode normalisation; what else stands there may only be about spaces."""
    tables = []
    for step in _steps(normalizer, "normalizers"):
        if step.get("type") == "Precompiled":
            try:
                tables.append(base64.b64decode(step["precompiled_charsmap"], validate=True))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path}: its normalizer is damaged ({error!r}): download it again"
                ) from error
        elif not _about_spaces(step):
            raise UserError(
                f"{path} has the normalizer {step.get('type')!r}, which SentencePiece has not: it"
                " cannot be imported"
            )
    if len(tables) > 1:
        raise UserError(f"{path} has {len(tables)} tables of normalisation: one can be imported")
    return next(iter(tables), b"")


def _about_spaces(step: Json) -> bool:
    """Whether a step only does to white space what SentencePiece does to it anyway."""
    if step.get("type") == "Strip":
        return True
    several = step.get("pattern") == {"Regex": " {2,}"}
    return step.get("type") == "Replace" and several and step.get("content") in (" ", "▁")


def _check_cutting(path: Path, pre_tokenizer: Any) -> None:
    for step in _steps(pre_tokenizer, "pretokenizers"):
        as_t5 = {"replacement": "▁", "prepend_scheme": "always", "add_prefix_space": True}
        fits = step.get("type") == "Metaspace" and all(
            step.get(name, value) == value for name, value in as_t5.items()
        )
        if not fits and step.get("type") != "WhitespaceSplit":
            raise UserError(
                f"{path} has the pre-tokenizer {str(step)[:80]}, which T5's has not: it cannot be"
                " imported"
            )


def _steps(node: Any, parts: str) -> Iterator[Json]:
    """The steps of a normalizer or pre-tokenizer, in their order, however deep they lie."""
    if isinstance(node, dict) and node.get("type") == "Sequence":
        for part in node.get(parts) or ():
            yield from _steps(part, parts)
    elif node is not None:
        yield node if isinstance(node, dict) else {"type": node}


def alike(one: bytes, other: bytes) -> bool:
    """Whether two SentencePiece models give the same ids: the same pieces, scores and table."""
    a, b = map(sentencepiece_model_pb2.ModelProto.FromString, (one, other))
    return (
        a.normalizer_spec.precompiled_charsmap == b.normalizer_spec.precompiled_charsmap
        and [piece.piece for piece in a.pieces] == [piece.piece for piece in b.pieces]
        and np.array_equal(*(np.float32([piece.score for piece in x.pieces]) for x in (a, b)))
    )


def from_sentencepiece(
    model: bytes, extra_ids: int, added_tokens: Sequence[AddedToken]
) -> dict[str, Any]:
    """A SentencePiece model with sentinels behind it, and added tokens, as tokenizer.json."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    size, eos = len(proto.pieces), proto.pieces[1].piece
    vocab = [[piece.piece, piece.score] for piece in proto.pieces]
    vocab += [[f"<extra_id_{i}>", 0.0] for i in reversed(range(extra_ids))]
    whole = [i for i, piece in enumerate(proto.pieces) if piece.type in (UNKNOWN, CONTROL)]
    special = [*whole, *range(size, len(vocab))]
    tokens = [AddedToken(vocab[i][0], i, special=True) for i in special] + [*added_tokens]
    ends = {"SpecialToken": {"id": eos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    fallback = proto.trainer_spec.byte_fallback
    decoders = [{"type": "ByteFallback"}, space]
    table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [vars(token) for token in sorted(tokens, key=lambda token: token.id)],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": table} if table else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, space],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, ends],
            "pair": [first, ends, second, ends],
            "special_tokens": {eos: {"id": eos, "ids": [1], "tokens": [eos]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders} if fallback else space,
        "model": {
            "type": "Unigram",
            "unk_id": proto.trainer_spec.unk_id,
            "vocab": vocab,
            "byte_fallback": fallback,
        },
    }

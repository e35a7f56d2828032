"""tokenizer.model of older decoders, a SentencePiece model of BPE, as a tokenizer.json.

A SentencePiece model is a table of pieces with scores; a GGUF file holds the same table, and the
tokenizer is made of it as of that one: the scores imply the merges.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from promot_jax.convert import gguf_tokenizer
from promot_jax.convert.source import check_downloaded
from promot_jax.errors import UserError

FIX = "write a tokenizer.json with AutoTokenizer.from_pretrained(...).save_pretrained(...)"


def read(path: Path, rows: int, gemma: bool, begins: bool) -> bytes:
    """The content of a tokenizer.json that reads text as a SentencePiece model does.

    Args:
      path: of the SentencePiece model.
      rows: of the model's embedding table.
      gemma: whether it is Gemma's, whose merges follow the order of the pieces.
      begins: whether BOS is put in front of a text.

    Raises:
      UserError: no SentencePiece model, one that is no BPE or normalises its text, or of more
        pieces than there are embeddings.
    """
    check_downloaded(path)
    try:
        proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise UserError(f"{path} is no SentencePiece model: download it again") from error
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type != trainer.BPE or not trainer.byte_fallback:
        raise UserError(f"{path} is no BPE with bytes for what it has no piece for: {FIX}")
    if normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces:
        raise UserError(f"{path} normalises its text: {FIX}")
    table: dict[str, Any] = {
        "model": "llama",
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [float(piece.score) for piece in proto.pieces],
        "token_type": [piece.type for piece in proto.pieces],
        "add_space_prefix": normalizer.add_dummy_prefix,
        "add_bos_token": begins and trainer.bos_id >= 0,
    }
    ids = {"bos": trainer.bos_id, "eos": trainer.eos_id, "unknown": trainer.unk_id}
    ids |= {"padding": trainer.pad_id}
    table |= {f"{name}_token_id": i for name, i in ids.items() if i >= 0}
    told = {f"tokenizer.ggml.{name}": value for name, value in table.items()}
    told["general.architecture"] = "gemma" if gemma else "llama"
    return gguf_tokenizer.read_tokenizer(told, rows, str(path)).file

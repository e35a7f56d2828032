"""Tokenizers of decoder-only models: the files of a directory of Transformers, in and out.

What reads text is tokenizer.json, and a work directory keeps it as it was. The files around it say
which ids begin and end a text and how a chat is written; an export gives them back unchanged.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from promot_jax.console import say
from promot_jax.convert import tokenizer_model
from promot_jax.convert.source import check_downloaded, first_few
from promot_jax.errors import UserError
from promot_jax.vocabularies import Tokenizer, chat, special_ids
from promot_jax.vocabularies.tokenizer_file import open_tokenizer, read_any

TOKENIZER, CONFIG, CHAT = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
PIECES = "tokenizer.model"
FILES = (
    CONFIG, CHAT, "chat_template.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", PIECES,
)  # fmt: skip
# Of multimodal tokenizers, which text models share that have no row for it.
PLACEHOLDERS = ("<image_soft_token>",)


def read_vocabulary(directory: Path, rows: int, gemma: bool = False) -> Tokenizer | None:
    """The tokenizer of a directory; None where it has none.

    Args:
      directory: of Transformers.
      rows: of the model's embedding table.
      gemma: whether a SentencePiece model in it is Gemma's.

    Raises:
      UserError: a damaged tokenizer, one of more ids than the model has rows, without an end of
        text, or in files that only Transformers put together.
    """
    path = directory / TOKENIZER
    if path.exists():
        check_downloaded(path)
        return within(Tokenizer.read(path), rows, str(path))
    if (directory / PIECES).exists():
        return _of_pieces(directory, rows, gemma)
    if (directory / "vocab.json").exists():
        raise UserError(
            f"{str(directory)!r} has its tokenizer in vocab.json alone: {tokenizer_model.FIX}"
        )
    return None


def _of_pieces(directory: Path, rows: int, gemma: bool) -> Tokenizer:
    """The tokenizer of a directory that has a SentencePiece model and no tokenizer.json."""
    told = read_any(directory / CONFIG)
    more = {**read_any(directory / "added_tokens.json"), **told.get("added_tokens_decoder", {})}
    path = directory / PIECES
    file = tokenizer_model.read(path, rows, gemma, told.get("add_bos_token", True) is not False)
    opened = open_tokenizer(file)
    texts = [x.get("content") if isinstance(x, dict) else name for name, x in more.items()]
    if unknown := [x for x in texts if opened.token_to_id(str(x)) is None]:
        raise UserError(
            f"{str(directory)!r} adds {unknown[0]!r:.80} to its {PIECES}: {tokenizer_model.FIX}"
        )
    special = special_ids(directory, opened)
    return Tokenizer(file, special, chat.read_template(directory))


def within(vocabulary: Tokenizer, rows: int, where: str) -> Tokenizer:
    """A tokenizer as the vocabulary of a model of so many embeddings.

    Raises:
      UserError: it has ids beyond them.
    """
    if vocabulary.vocab_size <= rows:
        return vocabulary
    added = tokenizers.Tokenizer.from_buffer(vocabulary.file).get_added_tokens_decoder()
    beyond = {i: token.content for i, token in sorted(added.items()) if i >= rows}
    left = [content for content in beyond.values() if content in PLACEHOLDERS]
    if left:
        vocabulary = dataclasses.replace(vocabulary, file=_without(vocabulary.file, left))
    if vocabulary.vocab_size > rows:
        far = [f"{content!r:.80} ({i})" for i, content in beyond.items() if content not in left]
        names = f" ({first_few(far, ', ')})" if far else ""
        raise UserError(
            f"{where} has {vocabulary.vocab_size} ids{names}, but the model only {rows} embeddings:"
            " give the tokenizer that it was made with, or save it again after"
            " resize_token_embeddings"
        )
    say(f"{where}: {', '.join(left)} is left out, for which this model has no embedding")
    return vocabulary


def _without(file: bytes, contents: Sequence[str]) -> bytes:
    """A tokenizer.json without added tokens."""
    told = json.loads(file)
    told["added_tokens"] = [t for t in told["added_tokens"] if t["content"] not in contents]
    return json.dumps(told, ensure_ascii=False).encode()


def read_files(directory: Path) -> dict[str, bytes]:
    """The files that an export gives back as they are, as far as there are such."""
    found = {}
    for name in (TOKENIZER, *FILES):
        if (path := directory / name).is_file():
            check_downloaded(path)
            found[name] = path.read_bytes()
    return found


def write_vocabulary(directory: Path, vocabulary: Tokenizer, files: Mapping[str, bytes]) -> None:
    """Writes what `AutoTokenizer.from_pretrained` opens.

    Args:
      directory: where to.
      vocabulary: the model's tokenizer.
      files: what lay around it where it comes from, and its tokenizer.json if that was another;
        empty where nothing is known.
    """
    own = {TOKENIZER: vocabulary.file}
    if not any(name in files for name in FILES):
        own |= {CONFIG: json.dumps(_told(vocabulary), indent=1).encode()}
        own |= {CHAT: vocabulary.template.encode()} if vocabulary.template is not None else {}
    for name, content in (
        own | {n: x for n, x in files.items() if n in (TOKENIZER, *FILES)}
    ).items():
        (directory / name).write_bytes(content)


def _told(vocabulary: Tokenizer) -> dict[str, Any]:
    """tokenizer_config.json of a tokenizer that came without one."""
    text = tokenizers.Tokenizer.from_buffer(vocabulary.file).id_to_token
    special = vocabulary.special
    ids = {"bos_token": special.bos_id, "eos_token": special.eos_id, "pad_token": special.pad_id}
    told = {name: text(i) for name, i in ids.items() if i is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **special.tokens, **told}

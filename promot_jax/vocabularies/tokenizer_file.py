"""A tokenizer.json, opened, with what the files beside it add to it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from promot_jax.errors import UserError
from promot_jax.files import read_json

TOKENIZER, TOLD = "tokenizer.json", "tokenizer_config.json"
FLAGS = ("single_word", "lstrip", "rstrip")


def open_tokenizer(content: bytes, where: str = "the vocabulary") -> Tokenizer:
    """A tokenizer.json, opened; nothing is cut off from a text, nor filled up.

    Raises:
      UserError: it is none.
    """
    try:
        found = Tokenizer.from_buffer(content)
    except Exception as error:  # of a class of its own for each part of the file
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where} is no tokenizer.json ({reason}): download it again") from error
    found.no_truncation()
    found.no_padding()
    return found


def open_directory(path: Path) -> tuple[bytes, Tokenizer]:
    """A tokenizer.json, or that of a directory, and its content with all tokens.

    Tokens that tokenizer_config.json alone has are added to it, as Transformers do.

    Raises:
      UserError: there is none, or it is malformed.
    """
    directory, file = (path, path / TOKENIZER) if path.is_dir() else (path.parent, path)
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"vocabulary: there is no tokenizer at {str(file)!r}; check the path"
        ) from error
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read ({error.strerror}): check it") from error
    found = open_tokenizer(content, str(file))
    listed = _listed(read_told(directory))
    if missing := [token for token in listed if found.token_to_id(token.content) is None]:
        found.add_tokens(missing)
        content = found.to_str().encode()
    return content, found


def _listed(told: Mapping[str, Any]) -> Iterator[AddedToken]:
    """The tokens that tokenizer_config.json has, by their ids, then those with a name."""
    listed = told.get("added_tokens_decoder") or {}
    try:
        for i in sorted(listed, key=int):
            fields = listed[i]
            special = bool(fields.get("special", False))
            flags = {name: bool(fields.get(name, False)) for name in FLAGS}
            normalized = bool(fields.get("normalized", not special))
            yield AddedToken(fields["content"], special=special, normalized=normalized, **flags)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{TOLD}: added_tokens_decoder is no table of tokens ({error}): download it again"
        ) from error
    for text in named_tokens(told).values():
        yield AddedToken(text, special=True, normalized=False)


def named_tokens(told: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of what tokenizer_config.json calls `<name>_token`."""
    found = {}
    for name, value in told.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def read_told(directory: Path) -> dict[str, Any]:
    """What tokenizer_config.json says, or special_tokens_map.json in its place."""
    told = read_any(directory / TOLD)
    if told.keys() & {"bos_token", "eos_token", "pad_token"}:
        return told
    return read_any(directory / "special_tokens_map.json") | told


def read_any(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    try:
        return read_json(path, fix="download it again")
    except FileNotFoundError:
        return {}

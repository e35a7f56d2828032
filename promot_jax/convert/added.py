"""Which tokens Transformers add to T5's pieces when they open a directory, and at which ids.

A directory says it in up to four files. Transformers 5 put them together in this order: what
tokenizer_config.json has as `added_tokens_decoder`; only without it, added_tokens.json and then the
list of tokenizer.json; then the named tokens (`eos_token` ...), from special_tokens_map.json where
the list is absent; then the other special tokens, which are T5's sentinels where none are told. One
that the pieces have keeps their id; the others are numbered on, whatever id a file gives them. So a
file that gives another is refused: nobody could say what the model was trained with.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promot_jax.added_tokens import AddedToken
from promot_jax.convert.source import read_json
from promot_jax.errors import UserError

NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
T5_NAMED = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
FLAGS = ("special", "normalized", "single_word", "lstrip", "rstrip")
OTHERS = ("extra_special_tokens", "additional_special_tokens")
Fields = dict[str, Any]
Listed = tuple[int, Fields]  # with the id that a file gives it


def resolved(
    directory: Path,
    told: Mapping[str, Any],
    translated: Mapping[str, Any],
    pieces: Sequence[str],
    is_t5: bool,
) -> list[AddedToken]:
    """The tokens that are cut out of a text, with their ids, pieces among them.

    Args:
      directory: where the files lie.
      told: what tokenizer_config.json says; empty where there is none.
      translated: what tokenizer.json says; empty where there is none.
      pieces: the vocabulary they come on top of, by id.
      is_t5: whether T5's own class opens them; else the one for any tokenizer.json.

    Raises:
      UserError: a malformed list, or an id in it that Transformers would not give.
    """
    defaults = T5_NAMED if is_t5 else {}
    own = _of_tokenizer_json(directory, translated)
    told, listed = _listed(directory, defaults | dict(told), own, is_t5)
    listed = sorted(listed, key=lambda token: token[0])
    listed = listed if is_t5 else own + listed
    named = [_fields(value) for value in _named(told)]
    others = [_fields(value) for value in _others(told, is_t5)]
    tokens = _numbered([fields for _, fields in listed] + named + others, pieces)
    for i, fields in listed:
        if (found := tokens.get(fields["content"])) and found.id != i:
            raise UserError(
                f"{str(directory)!r}: added token {found.content!r:.80} is listed with id {i}, but"
                f" Transformers read it as {found.id}: save the tokenizer again, with the ids that"
                " the model was trained with"
            )
    special = {fields["content"] for fields in named}
    return [
        dataclasses.replace(t, special=t.special or t.content in special) for t in tokens.values()
    ]


def listed_ids(directory: Path, told: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The texts and ids that the files give, tokenizer.json's apart."""
    return [(fields["content"], i) for i, fields in _listed(directory, told, [], False)[1]]


def _numbered(listed: Iterable[Fields], pieces: Sequence[str]) -> dict[str, AddedToken]:
    """Tokens by their text: of two alike the first counts."""
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokens: dict[str, AddedToken] = {}
    free = len(pieces)
    for fields in listed:
        content = fields["content"]
        if content and content not in tokens:
            tokens[content] = AddedToken(**fields, id=ids.get(content, free))
            free += content not in ids
    return tokens


def _listed(
    directory: Path, told: Mapping[str, Any], own: list[Listed], is_t5: bool
) -> tuple[Mapping[str, Any], list[Listed]]:
    """What is told of named tokens, and the tokens that the files list."""
    if "added_tokens_decoder" in told:
        where = f"{directory / 'tokenizer_config.json'}: added_tokens_decoder"
        values = told["added_tokens_decoder"]
        if not isinstance(values, dict):
            raise UserError(f"{where} is no table of tokens: download it again")
        return told, [(_id(i, where), _fields(value, where)) for i, value in values.items()]
    mapped = read_json_if_any(directory / "special_tokens_map.json")
    if any(name in told for name in OTHERS):
        mapped.pop("additional_special_tokens", None)
    elif is_t5 and not any("<extra_id_" in str(x) for x in _others(mapped, False)):
        more = [f"<extra_id_{i}>" for i in range(sentinels(told))]
        mapped["additional_special_tokens"] = _others(mapped, False) + more
    told = {**told, **mapped}
    names = {_fields(value)["content"] for value in [*_named(told), *_others(told, False)]}
    where = f"{directory / 'added_tokens.json'}"
    found = {}
    for content, i in read_json_if_any(directory / "added_tokens.json").items():
        special = content in names
        fields = _fields({"content": content, "special": special, "normalized": not special})
        found[_id(i, f"{where}: {content!r}")] = fields
    return told, list((found | dict(own)).items())


def _of_tokenizer_json(directory: Path, translated: Mapping[str, Any]) -> list[Listed]:
    """The tokens of tokenizer.json's own list."""
    where = f"{directory / 'tokenizer.json'}: added_tokens"
    values = translated.get("added_tokens") or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise UserError(f"{where} is no list of tokens: download it again")
    return [(_id(value.get("id"), where), _fields(value, where)) for value in values]


def _id(value: Any, where: str) -> int:
    if re.fullmatch(r"\d{1,9}", str(value), re.ASCII) and type(value) in (int, str):
        return int(value)
    raise UserError(f"{where} has id {value!r:.80}: give a whole number")


def _fields(value: Any, where: str = "tokenizer_config.json: a special token") -> Fields:
    """A token, which is written as its text or its fields; a text alone is a special one."""
    fields = {"content": value, "special": True} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not isinstance(fields.get("content"), str):
        raise UserError(f"{where} is {value!r:.80}: give its text, or its fields")
    flags = {name: fields.get(name, False) for name in FLAGS}
    flags["normalized"] = fields.get("normalized", not flags["special"])
    if wrong := [name for name, flag in flags.items() if not isinstance(flag, bool)]:
        raise UserError(f"{where} has {wrong[0]} = {flags[wrong[0]]!r:.80}: give true or false")
    return {"content": fields["content"], **flags}


def _named(told: Mapping[str, Any]) -> Iterator[Any]:
    """The tokens with a name of their own."""
    usual = [f"{name}_token" for name in NAMED]
    yield from (told[name] for name in usual if told.get(name) is not None)
    for name, value in told.items():
        if name.endswith("_token") and name not in usual and isinstance(value, str):
            yield value


def _others(told: Mapping[str, Any], is_t5: bool) -> list[Any]:
    """The other special tokens; T5's sentinels where none are told."""
    values = next((told[name] for name in OTHERS if told.get(name)), [])
    if not isinstance(values, list | dict):
        raise UserError(f"tokenizer_config.json: {OTHERS[0]} is {values!r:.80}: give a list")
    if is_t5 and not any(name in told for name in OTHERS):
        return [f"<extra_id_{i}>" for i in range(sentinels(told))]
    return list(values.values() if isinstance(values, dict) else values)


def sentinels(told: Mapping[str, Any]) -> int:
    """How many sentinels T5's class makes."""
    count = told.get("extra_ids", 100)
    if type(count) is not int or not 0 <= count < 10**6:
        raise UserError(
            f"tokenizer_config.json: extra_ids = {count!r:.80}: set a whole number, 0 or more"
        )
    return count


def read_json_if_any(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    return read_json(path) if path.exists() else {}

"""The special ids of a directory of Transformers, which its files tell in several places.

bos_id     what tokenizer.json's post-processor puts in front of a text, and nothing else: Qwen
           and SmolLM2 have a `bos_token`, and never write it
eos_id     tokenizer_config.json's `eos_token`, else the first of `stop_ids`
stop_ids   `eos_id`, and `eos_token_id` of generation_config.json, a number or a list, or else of
           config.json
pad_id     tokenizer_config.json's `pad_token`, else `pad_token_id` of the other two, else EOS:
           padding is told by its place, never by its id
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from promot_jax.errors import UserError, check_types
from promot_jax.vocabularies.tokenizer_file import (
    TOKENIZER,
    TOLD,
    named_tokens,
    open_directory,
    read_any,
    read_told,
)

GENERATION, CONFIG = "generation_config.json", "config.json"


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """Special ids of a tokenizer, as `Vocabulary` has them.

    Attributes:
      bos_id: None where nothing is put in front of a text.
      eos_id: ends a target.
      pad_id: fills rows up.
      stop_ids: end an output; `eos_id` is always the first of them.
      tokens: name -> text of the special tokens with a name, "bos_token" ..., for chat templates.

    Raises:
      UserError: a value that is no id.
    """

    bos_id: int | None
    eos_id: int
    pad_id: int
    stop_ids: tuple[int, ...] = ()
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        stops = (self.eos_id, *(i for i in self.stop_ids if i != self.eos_id))
        object.__setattr__(self, "stop_ids", tuple(dict.fromkeys(stops)))
        check_types(self)
        for i in (self.bos_id or 0, self.pad_id, *self.stop_ids):
            if not 0 <= i < 2**31:
                raise UserError(f"vocabulary: a special id {i}: give a whole number from 0 on")

    def to_json(self) -> dict[str, Any]:
        """In values that JSON can hold."""
        return dataclasses.asdict(self) | {"stop_ids": list(self.stop_ids)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse; raises UserError, KeyError or TypeError."""
        names = [field.name for field in dataclasses.fields(cls)]
        found = {name: values[name] for name in names}
        return cls(**found | {"stop_ids": tuple(found["stop_ids"])})


def special_ids(directory: Path, tokenizer: Tokenizer | None = None, **given: Any) -> SpecialIds:
    """The special ids that the files of a directory tell.

    Args:
      directory: where tokenizer_config.json, generation_config.json and config.json lie, or some.
      tokenizer: None: its tokenizer.json.
      given: fields of `SpecialIds` to take in their place; None: what the files tell.

    Raises:
      UserError: a malformed file, or no EOS.
    """
    tokenizer = open_directory(directory)[1] if tokenizer is None else tokenizer
    generation, config = read_any(directory / GENERATION), read_any(directory / CONFIG)
    tokens = named_tokens(read_told(directory))
    ids = {name: tokenizer.token_to_id(text) for name, text in tokens.items()}
    own = {name: value for name, value in given.items() if value is not None}
    wanted = {GENERATION: generation, CONFIG: config, f"{CONFIG}: text_config": _text(config)}
    stops = own.pop("stop_ids", None)
    if stops is None:
        stops = _first(wanted, "eos_token_id")
    eos = own.pop("eos_id", ids.get("eos_token"))
    if eos is None and not stops:
        raise UserError(
            f"{str(directory)!r} does not tell what ends a text (no eos_token in {TOLD}, no"
            f" eos_token_id in {GENERATION} or {CONFIG}): name it there, or set"
            " data.tokenizer.eos_id"
        )
    eos = stops[0] if eos is None else eos
    pad = own.pop("pad_id", ids.get("pad_token"))
    if pad is None:
        pad = next(iter(_first(wanted, "pad_token_id")), eos)
    bos = own.pop("bos_id") if "bos_id" in own else _bos(directory, tokenizer)
    return SpecialIds(bos, eos, pad, tuple(stops), tokens)


def _bos(directory: Path, tokenizer: Tokenizer) -> int | None:
    """What the tokenizer puts in front of a text."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    starts = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
    front = full[: starts[0]] if starts else []
    if len(front) > 1:
        raise UserError(
            f"{str(directory / TOKENIZER)!r} puts {len(front)} tokens in front of a text, and a"
            " decoder has one: set data.tokenizer.bos_id"
        )
    return front[0] if front else None


def _first(wanted: Mapping[str, Mapping[str, Any]], name: str) -> list[int]:
    """The ids that the first file gives that gives any."""
    for file, values in wanted.items():
        value = values.get(name)
        found = value if isinstance(value, list) else [value]
        found = [i for i in found if i not in (None, -1)]
        if bad := [i for i in found if type(i) is not int or i < 0]:
            raise UserError(f"{file}: {name} = {bad[0]!r:.80}: give a whole number, or a list")
        if found:
            return found
    return []


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json of a multimodal model says of its text model."""
    found = config.get("text_config")
    return found if isinstance(found, dict) else {}

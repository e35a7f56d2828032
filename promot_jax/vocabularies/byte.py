"""UTF-8 bytes as ids."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from promot_jax.errors import UserError
from promot_jax.vocabularies.base import Vocabulary

FIRST, BYTES = 3, 256


@dataclasses.dataclass(frozen=True)
class Byte(Vocabulary):
    """UTF-8 bytes + 3 (0 padding, 1 EOS, 2 unknown), as in ByT5, and `extra_ids` behind them."""

    extra_ids: int = 0

    kind: ClassVar[str] = "byte"
    pad_id: ClassVar[int] = 0
    bos_id: ClassVar[None] = None
    eos_id: ClassVar[int] = 1
    stop_ids: ClassVar[tuple[int, ...]] = (1,)
    unk_id: ClassVar[int] = 2

    def __post_init__(self):
        check_extra_ids(self.extra_ids)

    @property
    def vocab_size(self) -> int:
        return FIRST + BYTES + self.extra_ids

    def encode(self, text: str) -> list[int]:
        return [FIRST + byte for byte in text.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        found = bytes(i - FIRST for i in ids if FIRST <= i < FIRST + BYTES)
        return found.decode(errors="ignore")

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "extra_ids": self.extra_ids}

    def files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        check_extra_ids(settings["extra_ids"])
        return {"extra_ids": settings["extra_ids"]}

    @classmethod
    def build(cls, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> Self:
        return cls(**cls.parse(settings))


def check_extra_ids(extra_ids: int) -> None:
    """Raises UserError for a number of sentinels that is none."""
    if type(extra_ids) is not int or not 0 <= extra_ids < 10**6:
        raise UserError(f"vocabulary: extra_ids = {extra_ids!r:.80}: set a whole number, 0 or more")

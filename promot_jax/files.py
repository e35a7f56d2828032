"""Text files that others may have changed: always UTF-8, JSON that is JSON."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax.errors import UserError

KINDS = {dict: "a JSON object", list: "a JSON list"}


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
      ValueError: it is no JSON: NaN and Infinity are none, nor what nests too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_json(path: Path, kind: type = dict, fix: str = "restore it") -> Any:
    """A JSON file that holds a `kind`, dict or list.

    Raises:
      FileNotFoundError: there is none.
      UserError: it cannot be read, or holds something else; `fix` says what to do.
    """
    try:
        found = parse_json(path.read_bytes().decode())
        if not isinstance(found, kind):
            raise ValueError(f"it holds no {KINDS[kind].removeprefix('a ')}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): {fix}") from error
    return found


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a checksum of itself, its last field "check": `unseal` sees any change."""
    open_ = {name: value for name, value in values.items() if name != "check"}
    return open_ | {"check": _checksum(open_)}


def unseal(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed.

    Raises:
      ValueError: it is not what was sealed, or never was.
    """
    found = dict(values)
    if found.pop("check", None) != _checksum(found):
        raise ValueError("its checksum is not that of its content")
    return found


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

"""What a work directory keeps of the directory of Transformers that it was imported from.

WORKDIR/huggingface.json        its model type and its generation_config.json, for an export
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.files import read_json, seal, unseal
from promot_jax.paths import resolve
from promot_jax.training.description import Description
from promot_jax.training.variables import stage_directory

FILE = "huggingface.json"


def write(root: Path, kept: Mapping[str, Any]) -> None:
    """Writes the file; none where there is nothing to keep."""
    if kept:
        (root / FILE).write_text(json.dumps(seal(kept), indent=1), encoding="utf-8")


def read(workdir: str) -> dict[str, Any]:
    """What a work directory, or the base that it comes from, has kept; empty where none has.

    Raises:
      UserError: the file is damaged.
    """
    seen = set()
    while workdir not in seen:
        seen.add(workdir)
        path = Path(resolve(workdir)) / FILE
        if path.exists():
            return _read(path)
        base = Description.read(workdir).base
        if base is None:
            break
        try:
            workdir, _ = stage_directory(base, "BASE")
        except UserError as error:
            say(
                f"what was imported is not known, and its generation settings are left out: {error}"
            )
            break
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return unseal(read_json(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or delete it") from error

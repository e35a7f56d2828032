"""What a work directory keeps of the directory of Transformers that its model was imported from.

WORKDIR/huggingface.json        its model type and its generation_config.json, for an export

A run has a copy of its base's, so that its export needs no base.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax.errors import UserError
from promot_jax.files import read_json, seal, unseal
from promot_jax.paths import resolve
from promot_jax.training.variables import stage_directory

FILE = "huggingface.json"


def write(root: Path, kept: Mapping[str, Any]) -> None:
    """Writes the file; none where there is nothing to keep."""
    if kept:
        (root / FILE).write_text(json.dumps(seal(kept), indent=1), encoding="utf-8")


def inherit(root: Path, base: str | None) -> None:
    """Copies the file of the base into a work directory that begins with its variables."""
    (root / FILE).unlink(missing_ok=True)
    if base is not None:
        write(root, read(stage_directory(base, "BASE")[0]))


def read(workdir: str) -> dict[str, Any]:
    """What a work directory has kept; empty where it has nothing.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(resolve(workdir)) / FILE
    values = read_json(path, fix="restore it, or delete it") if path.exists() else seal({})
    try:
        return unseal(values)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or delete it") from error

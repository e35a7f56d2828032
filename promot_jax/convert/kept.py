"""What a work directory keeps of the directory of Transformers that its model was imported from.

WORKDIR/huggingface.json        its model type and settings, for an export
WORKDIR/huggingface/            files that an export gives back as they were

A run has a copy of its base's, so that its export needs no base.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax.convert.tokenizer_files import TOKENIZER
from promot_jax.errors import UserError
from promot_jax.files import fingerprint, read_json, seal, unseal
from promot_jax.paths import as_path, check_name, remove_tree, resolve
from promot_jax.training.variables import stage_directory
from promot_jax.vocabularies import Vocabulary

FILE, DIRECTORY = "huggingface.json", "huggingface"
NAMES = {FILE, DIRECTORY}
FIX = "restore it, or delete huggingface.json and what is beside it of this name"


def of_vocabulary(
    kept: Mapping[str, Any], files: Mapping[str, bytes], vocabulary: Vocabulary
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What there is to keep with the mark of the vocabulary that the files belong to.

    A tokenizer.json that is the vocabulary's is left out: a work directory holds it anyway.
    """
    own = vocabulary.files().get(TOKENIZER)
    files = {name: x for name, x in files.items() if name != TOKENIZER or x != own}
    return {**kept, "vocabulary": _mark(vocabulary)}, files


def _mark(vocabulary: Vocabulary) -> str:
    return fingerprint(b"".join(vocabulary.files().values()))


def write(root: Path, kept: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes what there is to keep; nothing where there is nothing."""
    if files:
        remove_tree(root / DIRECTORY, ignore_errors=True)
        (root / DIRECTORY).mkdir()
        for name, content in files.items():
            (root / DIRECTORY / name).write_bytes(content)
        kept = {**kept, "files": {name: fingerprint(x) for name, x in files.items()}}
    if kept:
        (root / FILE).write_text(json.dumps(seal(kept), indent=1), encoding="utf-8")


def inherit(root: Path, base: str | None) -> None:
    """Copies what the base has into a work directory that begins with its variables."""
    (root / FILE).unlink(missing_ok=True)
    remove_tree(root / DIRECTORY, ignore_errors=True)
    if base is not None:
        home = stage_directory(base, "BASE")[0]
        write(root, read(home), read_files(home))


def read(workdir: str) -> dict[str, Any]:
    """What a work directory has kept; empty where it has nothing.

    Raises:
      UserError: the file is damaged.
    """
    path = as_path(resolve(workdir)) / FILE
    values = read_json(path, fix="restore it, or delete it") if path.exists() else seal({})
    try:
        return unseal(values)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or delete it") from error


def read_files(workdir: str, vocabulary: Vocabulary | None = None) -> dict[str, bytes]:
    """Name -> content of the files that a work directory has kept.

    Args:
      workdir: the work directory.
      vocabulary: the model's; there are no files where they belong to another.

    Raises:
      UserError: one of them is absent, or not as it was.
    """
    kept = read(workdir)
    if vocabulary is not None and kept.get("vocabulary") != _mark(vocabulary):
        return {}
    root, found = as_path(resolve(workdir)) / DIRECTORY, {}
    for name, mark in kept.get("files", {}).items():
        path = root / check_name(name, f"{FILE}: the file")
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): {FIX}") from error
        if fingerprint(found[name]) != mark:
            raise UserError(f"{path} has been changed since it was written: {FIX}")
    return found

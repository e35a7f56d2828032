"""A checkpoint of any system, opened and not yet read: our paths, their arrays.

Every reader gives a `Source`; what imports and what inspects knows nothing of file formats. Readers
translate names and orientation and nothing more. What one cannot translate stays under its own name
with "?" in front, for import to report.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promot_jax import files
from promot_jax.convert import decoders
from promot_jax.errors import UserError
from promot_jax.models.config import Config
from promot_jax.paths import expand, is_url
from promot_jax.vocabularies import Vocabulary

EMBEDDING, HEAD = "params/token_embedder/embedding", "params/decoder/logits_dense/kernel"
POINTER = b"version https://git-lfs.github.com/spec/"
CHUNK = 1 << 22  # numbers that are checked at once


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that is read when it is asked for.

    Attributes:
      theirs: its name in the checkpoint.
      shape: in our orientation.
      dtype: NumPy's name of the type it is stored in.
      read: reads it, of this shape and type.
    """

    theirs: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint.

    Attributes:
      kind: "huggingface", "peft", "t5x" or "npy".
      family: what the model is called, e.g. "t5 1.1".
      config: the model's settings; None where there is no whole model.
      tensors: by our path, unrolled ("params/encoder/layers_0/...", "prompt/<name>").
      vocabulary: None where the checkpoint has none with it.
      names: our path -> its name there, for what the settings ask for; paths alike are left out.
      about: what else the checkpoint says of itself, e.g. its "step".
      kept: what an export gives back, of a directory of Transformers.
      files: name -> content of the files in it that an export gives back as they are.
    """

    kind: str
    family: str
    config: Config | None
    tensors: Mapping[str, Tensor]
    vocabulary: Vocabulary | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def family_of(config: Config, vocabulary: Mapping[str, Any] | None = None) -> str:
    """The published family that a model's settings are of.

    Of a decoder this is the model type of Transformers; `vocabulary` is a vocabulary's `settings`.

    FLAN-T5 and the LM-adapted T5 are "t5 1.1" in form. mT5 differs from it by its vocabulary alone,
    whose SentencePiece model holds the sentinels itself.
    """
    if config.kind == "decoder_only":
        return decoders.family_of(config).removesuffix("_text")
    vocabulary = vocabulary or {}
    if config.relpos_per_layer:
        return "umt5"
    if config.vocab_size == 384 or vocabulary.get("kind") == "byte":
        return "byt5"
    if len(config.mlp_activations) == 1:
        return "t5 1.0"
    inside = vocabulary.get("extra_ids") == 0 and not config.scale_decoder_outputs
    return "mt5" if config.vocab_size == 250112 or inside else "t5 1.1"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: there is none.
    """
    check_downloaded(path)
    try:
        return files.read_json(path, fix="download it again")
    except FileNotFoundError as error:
        raise UserError(f"{path} is absent: download it again") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object as Transformers do."""
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")


def first_few(texts: Sequence[str], between: str = "; ") -> str:
    """At most four of them, and how many more there are."""
    more = f"{between}and {len(texts) - 4} more" if len(texts) > 4 else ""
    return between.join(texts[:4]) + more


def check_downloaded(path: Path) -> None:
    """Raises UserError for what Git leaves in the place of a large file that it did not fetch."""
    try:
        with path.open("rb") as file:
            pointer = file.read(len(POINTER)) == POINTER
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it") from error
    if pointer:
        raise UserError(
            f"{path} is a Git LFS pointer, not the file itself: run git lfs pull in its directory,"
            " or download the file"
        )


def new_path(path: str, setting: str) -> Path:
    """Where something is to be made.

    Raises:
      UserError: it is no path of this machine.
    """
    if not path or is_url(path):
        raise UserError(f"{setting} = {path!r} is no local path: give one, and copy what it holds")
    return Path(expand(path, setting))


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """The array itself.

    Raises:
      UserError: a number in it is NaN or infinite; it says which.
    """
    order = "C" if array.flags.c_contiguous else "F"  # a transposed one, too, is not copied
    flat = array.reshape(-1, order=order)
    for start in range(0, flat.size, CHUNK):
        wrong = ~np.isfinite(flat[start : start + CHUNK])
        if wrong.any():
            first = start + int(wrong.argmax())
            place = [int(i) for i in np.unravel_index(first, array.shape, order)]
            raise UserError(
                f"{name} has {flat[first]} at {place}: every number of a model must be finite;"
                " give weights that were saved before they overflowed"
            )
    return array

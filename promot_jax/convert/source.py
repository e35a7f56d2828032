"""A checkpoint of any system, opened and not yet read: our paths, their arrays.

Every reader gives a `Source`; what imports and what inspects knows nothing of file formats. Readers
translate names and orientation and nothing more. What one cannot translate stays under its own name
with "?" in front, for import to report.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from promot_jax.errors import UserError
from promot_jax.models import T5Config


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
class Vocabulary:
    """How a checkpoint's model reads text.

    Attributes:
      kind: "sentencepiece" or "byte".
      extra_ids: sentinels behind the pieces or bytes.
      model: the SentencePiece model; None for bytes.
    """

    kind: str
    extra_ids: int
    model: bytes | None = None


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
    """

    kind: str
    family: str
    config: T5Config | None
    tensors: Mapping[str, Tensor]
    vocabulary: Vocabulary | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def family_of(config: T5Config, vocabulary: Vocabulary | None = None) -> str:
    """The published family that a model's settings are of.

    FLAN-T5 and the LM-adapted T5 are "t5 1.1" in form. mT5 differs from it by its vocabulary alone,
    whose SentencePiece model holds the sentinels itself.
    """
    if config.relpos_per_layer:
        return "umt5"
    if config.vocab_size == 384 or (vocabulary and vocabulary.kind == "byte"):
        return "byt5"
    if len(config.mlp_activations) == 1:
        return "t5 1.0"
    inside = vocabulary and not vocabulary.extra_ids and not config.scale_decoder_outputs
    return "mt5" if config.vocab_size == 250112 or inside else "t5 1.1"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: there is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): download it again") from error
    return values

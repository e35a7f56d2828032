"""What a work directory says of its model: enough to load it without gin and without TensorFlow.

WORKDIR/config.gin              the settings in force, or where the weights were imported from
WORKDIR/run.json                model, vocabulary, prompts, stages
WORKDIR/sentencepiece.model     the vocabulary (not for byte vocabularies)
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from promot_jax.added_tokens import AddedToken, from_json
from promot_jax.errors import UserError
from promot_jax.hosts import write_atomically
from promot_jax.models import T5, T5Config
from promot_jax.paths import resolve

RUN, VOCABULARY = "run.json", "sentencepiece.model"


@dataclasses.dataclass(frozen=True)
class Description:
    """What `run.json` says.

    Attributes:
      method: name of the recipe.
      model: architecture.
      prompts: (name, length) of every soft prompt, in the order of their ids.
      stages: names of the stage directories, in order.
      targets: the tasks tuned on.
      modules: Python modules that register the tasks used.
      base: work directory whose variables the first stage starts from.
      seed: of random weights, prompts and dropout.
      vocabulary: "kind" ("sentencepiece" or "byte"), "extra_ids" and, where there are any,
        "added_tokens" with the fields of `AddedToken`.
    """

    method: str
    model: T5Config
    prompts: tuple[tuple[str, int], ...]
    stages: tuple[str, ...]
    targets: tuple[str, ...]
    modules: tuple[str, ...]
    base: str | None
    seed: int
    vocabulary: dict[str, Any]

    @classmethod
    def read(cls, workdir: str) -> "Description":
        """Reads `run.json`.

        Raises:
          UserError: it is absent or damaged.
        """
        path = Path(resolve(workdir)) / RUN
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["model"] = T5Config(**values["model"])
            values["prompts"] = tuple((name, length) for name, length in values["prompts"])
            for name in ("stages", "targets", "modules"):
                values[name] = tuple(values[name])
            from_json(values["vocabulary"].get("added_tokens", ()))
            return cls(**values)
        except FileNotFoundError as error:
            raise UserError(
                f"{workdir!r} is not a work directory (it has no run.json): give one that promot"
                " run made"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UserError(
                f"{path} is damaged ({error}): restore it, or run into another WORKDIR"
            ) from error

    def added_tokens(self) -> tuple[AddedToken, ...]:
        """What somebody added to the tokenizer."""
        return from_json(self.vocabulary.get("added_tokens", ()))

    def sentencepiece(self, workdir: str) -> bytes | None:
        """The SentencePiece model in a work directory; None for a byte vocabulary.

        Raises:
          UserError: it is absent.
        """
        if self.vocabulary["kind"] != "sentencepiece":
            return None
        try:
            return (Path(resolve(workdir)) / VOCABULARY).read_bytes()
        except OSError as error:
            raise UserError(
                f"{workdir!r} lacks its vocabulary {VOCABULARY} ({error.strerror}): restore it"
            ) from error

    def module(self) -> T5:
        """The model with its prompts."""
        return T5(self.model, self.prompts)

    def write(self, root: Path, config: str, sentencepiece: bytes | None) -> None:
        """Makes a work directory.

        Args:
          root: the directory; its parents are made too.
          config: text of `config.gin`.
          sentencepiece: the vocabulary's model; None for a byte vocabulary.

        Raises:
          UserError: it cannot be written.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            # First, since it is what tells a directory of ours that a crash left without run.json.
            (root / "config.gin").write_text(config, encoding="utf-8")
            if sentencepiece is not None:
                (root / VOCABULARY).write_bytes(sentencepiece)
            text = json.dumps(dataclasses.asdict(self), indent=1)
            write_atomically(root / RUN, text)
        except OSError as error:
            raise UserError(
                f"WORKDIR = {str(root)!r} cannot be written ({error.strerror}): choose another"
            ) from error

"""What a work directory says of its model: enough to load it without gin and without TensorFlow.

WORKDIR/config.gin              the settings that it was begun with, or where its weights come from
WORKDIR/run.json                model, vocabulary, prompts, stages
WORKDIR/sentencepiece.model     the vocabulary; or tokenizer.json, chat_template.jinja; or none
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax import vocabularies
from promot_jax.errors import UserError, check_types
from promot_jax.failures import bucket_failure
from promot_jax.files import fingerprint, lock, read_json, seal, unseal
from promot_jax.hosts import write_atomically
from promot_jax.models import Config, Model, build, config_from_json, config_to_json
from promot_jax.paths import as_path, check_name, in_bucket, resolve, way
from promot_jax.vocabularies import Vocabulary

CONFIG, RUN = "config.gin", "run.json"
CLAIM = "claim.json"  # in a bucket, where config.gin cannot be locked
RESTORE = "restore it, or run into another WORKDIR"


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
      vocabulary: its `settings`, of which "kind" says what else there is.
      base_digest: of the base's variables as the run began with them; None where they are only
        referred to by a checkpoint.
      base_beside: the way from the work directory to its base, which holds after both were moved.
      files: name -> digest of the files beside run.json.

    Raises:
      UserError: a value of another type, or a name that could lead out of the work directory.
    """

    method: str
    model: Config
    prompts: tuple[tuple[str, int], ...]
    stages: tuple[str, ...]
    targets: tuple[str, ...]
    modules: tuple[str, ...]
    base: str | None
    seed: int
    vocabulary: dict[str, Any]
    base_digest: str | None = None
    base_beside: str | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_types(self)
        for name, _ in self.prompts:
            check_name(name, "the prompt")
        for k, name in enumerate(self.stages, start=1):
            if not check_name(name, "the stage directory").startswith(f"{k}-"):
                raise UserError(f"the stage directory {name!r} does not begin with {k}-")
        try:
            vocabularies.check(self.vocabulary)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"the vocabulary {self.vocabulary!r:.200} is none") from error

    @classmethod
    def read(cls, workdir: str) -> "Description":
        """Reads `run.json`.

        Raises:
          UserError: it is absent, damaged, or not as it was written.
        """
        path = as_path(resolve(workdir)) / RUN
        try:
            values = read_json(path, fix=RESTORE)
        except FileNotFoundError as error:
            raise UserError(
                f"{workdir!r} is not a work directory (it has no run.json): give one that promot"
                " run made"
            ) from error
        try:
            values = unseal(values)
            values["model"] = config_from_json(values["model"])
            values["prompts"] = tuple((name, length) for name, length in values["prompts"])
            for name in ("stages", "targets", "modules"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}): {RESTORE}") from error

    def vocabulary_files(self, workdir: str) -> dict[str, bytes]:
        """The files in a work directory that its vocabulary consists of.

        Raises:
          UserError: one is absent, or not the one that was put there.
        """
        root = as_path(resolve(workdir))
        return {name: self.file(root, name) for name in self.files if name in vocabularies.FILES}

    def load_vocabulary(self, workdir: str) -> Vocabulary:
        """The vocabulary of a work directory, from the copy in it.

        Raises:
          UserError: as `vocabulary_files`.
        """
        try:
            return vocabularies.build(self.vocabulary, self.vocabulary_files(workdir))
        except KeyError as error:  # a file that the vocabulary needs
            raise UserError(f"{workdir!r} lacks its {error.args[0]}: {RESTORE}") from error

    def file(self, root: Path, name: str) -> bytes:
        """A file beside run.json.

        Raises:
          UserError: it is absent, or not as it was written.
          OSError: it lies in a bucket that fails.
        """
        try:
            found = (root / name).read_bytes()
        except OSError as error:
            if bucket_failure(error):
                raise
            raise UserError(
                f"{str(root)!r} lacks its {name} ({error.strerror}): {RESTORE}"
            ) from error
        if fingerprint(found) != self.files.get(name):
            raise UserError(f"{root / name} has been changed since it was written: {RESTORE}")
        return found

    def module(self) -> Model:
        """The model with its prompts."""
        return build(self.model, self.prompts)

    def write(self, root: Path, config: str, vocabulary: Mapping[str, bytes]) -> None:
        """Makes a work directory.

        Args:
          root: the directory; its parents are made too.
          config: text of `config.gin`.
          vocabulary: name -> content of the files that the vocabulary consists of.

        Raises:
          UserError: it cannot be written.
        """
        files = {CONFIG: config.encode(), **vocabulary}
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Emptied first and written last: what a crash leaves without run.json is known by it.
            (root / CONFIG).write_bytes(b"")
            for name, content in vocabulary.items():
                (root / name).write_bytes(content)
            digests = {name: fingerprint(content) for name, content in files.items()}
            dataclasses.replace(self, files=digests).save(root)
            (root / CONFIG).write_bytes(files[CONFIG])
        except OSError as error:
            raise UserError(
                f"WORKDIR = {str(root)!r} cannot be written ({error.strerror}): choose another"
            ) from error

    def save(self, root: Path) -> None:
        """Writes `run.json`, with the way from here to the base."""
        here = dataclasses.replace(self, base_beside=_beside(self.base, root))
        values = dataclasses.asdict(here) | {"model": config_to_json(self.model)}
        write_atomically(root / RUN, json.dumps(seal(values), indent=1))


def is_running(workdir: str) -> bool:
    """Whether a run goes on in a work directory: it has the claim, or a lock on `config.gin`."""
    root = as_path(resolve(workdir))
    if in_bucket(root):
        return (root / CLAIM).is_file()
    try:
        with (root / CONFIG).open("rb") as file:
            lock(file, shared=True)
    except BlockingIOError:
        return True
    except OSError:  # none there
        pass
    return False


def _beside(base: str | None, root: Path) -> str | None:
    """The way from a work directory to its base; None where that is not a matter of places."""
    absolute = base is not None and as_path(base).is_absolute()
    return way(root, base) if absolute else None

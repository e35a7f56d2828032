"""A work directory: what lies where, whose it is, and its results.

WORKDIR/config.gin              the settings in force
WORKDIR/run.json                model, vocabulary, prompts, stages: enough to load it without gin
WORKDIR/sentencepiece.model     the vocabulary (not for byte vocabularies)
WORKDIR/<k>-<stage>/            checkpoints/ metrics.jsonl tensorboard/ samples/
WORKDIR/results.json            one row a score
"""

import contextlib
import dataclasses
import difflib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import seqio
from etils import epath

from promot_jax import data
from promot_jax.added_tokens import to_json
from promot_jax.errors import UserError
from promot_jax.hosts import of_first, write_atomically
from promot_jax.paths import resolve
from promot_jax.run.stage import Run
from promot_jax.training.description import RUN, VOCABULARY, Description

# May change between two starts of one run.
NOT_IDENTITY = ("WORKDIR", "MESH", "EVAL_BATCH_SIZE")


def describe(run: Run) -> Description:
    """The description of a run."""
    kind = "byte" if isinstance(run.vocabulary, seqio.ByteVocabulary) else "sentencepiece"
    added = data.added_tokens(run.vocabulary)
    return Description(
        method=run.method,
        model=run.model,
        prompts=tuple((p.name, p.length) for p in run.prompts),
        stages=tuple(f"{k}-{stage.name}" for k, stage in enumerate(run.stages, start=1)),
        targets=run.targets,
        modules=tuple(run.modules),
        base=run.base,
        seed=run.seed,
        vocabulary={"kind": kind, "extra_ids": run.vocabulary.extra_ids}
        | ({"added_tokens": to_json(added)} if added else {}),
    )


def load_vocabulary(workdir: str) -> seqio.Vocabulary:
    """The vocabulary of a work directory, from the copy in it."""
    return _vocabulary(Description.read(workdir), resolve(workdir))


def make_vocabulary(description: Description, sentencepiece: bytes | None) -> seqio.Vocabulary:
    """The vocabulary of a model that has no work directory; SeqIO wants a file, for a moment."""
    with tempfile.TemporaryDirectory() as directory:
        if sentencepiece is not None:
            (Path(directory) / VOCABULARY).write_bytes(sentencepiece)
        return _vocabulary(description, directory)


def _vocabulary(description: Description, directory: str) -> seqio.Vocabulary:
    extra_ids = description.vocabulary["extra_ids"]
    if description.vocabulary["kind"] == "byte":
        return data.byte(extra_ids)
    path = str(Path(directory) / VOCABULARY)
    return data.sentencepiece(path, extra_ids, description.added_tokens())


def check(run: Run, config: str | None) -> bool:
    """Whether the work directory has this run's work already; touches nothing.

    A run that left neither scores nor a checkpoint may be replaced by another.

    Raises:
      UserError: it cannot be written, or holds another run's work or other files.
    """
    return of_first(lambda: _check(run, config))


def _check(run: Run, config: str | None) -> bool:
    if not run.workdir:
        raise UserError("WORKDIR = '': name a directory")
    if "://" in run.workdir:
        raise UserError(
            f"WORKDIR = {run.workdir!r} is a URL: mount the bucket and give the directory"
        )
    root = Path(run.workdir)
    try:
        if begun := _begun(root):
            _check_same(root, describe(run), _settings(config))
        elif root.is_dir() and any(root.iterdir()) and not (root / "config.gin").exists():
            raise UserError(
                f"WORKDIR = {run.workdir!r} holds files that are no run's: choose an empty or new"
                " directory"
            )
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
    except OSError as error:
        raise UserError(f"WORKDIR = {run.workdir!r} cannot be read ({error.strerror})") from error
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "is no directory" if not there.is_dir() else "has no permission to write"
        raise UserError(
            f"WORKDIR = {run.workdir!r} cannot be written ({str(there)!r} {reason}): choose another"
        )
    return begun


def _begun(root: Path) -> bool:
    """Whether there is anything to lose."""
    left = (root / "results.json").exists() or any(root.glob("*/checkpoints/[0-9]*"))
    return left and (root / RUN).exists()


@contextlib.contextmanager
def claim(run: Run, config: str | None) -> Iterator[Path]:
    """Makes the work directory, or finds that it is this run's; nobody else may run in it then.

    Raises:
      UserError: as `check`, it cannot be made, or another process runs in it.
    """
    root = Path(run.workdir)
    with contextlib.ExitStack() as held:

        def take() -> bool:
            _check(run, config)
            held.enter_context(_lock(run, root))
            there = _check(run, config)  # again: nobody else can change it any more
            if not there:
                _make(run, root, config)
            return there

        of_first(take)
        yield root


def _make(run: Run, root: Path, config: str | None) -> None:
    if (root / RUN).exists():  # of a run that left nothing
        for stage in Description.read(str(root)).stages:
            shutil.rmtree(root / stage, ignore_errors=True)
    description, model = describe(run), None
    if description.vocabulary["kind"] == "sentencepiece":
        model = epath.Path(resolve(run.vocabulary.sentencepiece_model_file)).read_bytes()
    description.write(root, _settings(config), model)


def _lock(run: Run, root: Path) -> IO:
    """An open file, whose lock ends when it is closed."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / "config.gin").open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"WORKDIR = {run.workdir!r} cannot be written ({error.strerror}): choose another"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(
            f"WORKDIR = {run.workdir!r} is in use by another process: wait for it, or stop it"
        ) from error
    except OSError:  # a file system without locks
        pass
    return file


def changed_settings(root: Path, config: str) -> list[str]:
    """How settings differ from those in force in a work directory: `- ` theirs, `+ ` the others."""
    path = root / "config.gin"
    before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    old, new = (
        # Gin breaks a long value off its name by a backslash and a new line.
        [x for x in text.replace("\\\n", "").splitlines() if not x.startswith(NOT_IDENTITY)]
        for text in (before, config)
    )
    return [line for line in difflib.ndiff(old, new) if line[0] in "-+" and line[2:].strip()]


def _settings(config: str | None) -> str:
    return config if config is not None else "# made from Python; see run.json\n"


def _check_same(root: Path, new: Description, text: str) -> None:
    old = Description.read(str(root))
    fields = [
        f.name for f in dataclasses.fields(new) if getattr(old, f.name) != getattr(new, f.name)
    ]
    changed = changed_settings(root, text)
    if fields or changed:
        if fields:
            theirs, ours = (f"{fields[0]} = {getattr(x, fields[0])!r}" for x in (old, new))
        else:
            theirs, ours = (next((x[2:] for x in changed if x[0] == s), "not set") for s in "-+")
        raise UserError(
            f"WORKDIR = {str(root)!r} holds another run (there: {theirs[:160]}; now: {ours[:160]}):"
            " choose another WORKDIR, or remove it"
        )


class Results:
    """`results.json`: rows of scores; see the package's README for the columns."""

    def __init__(self, root: Path):
        self.path = root / "results.json"
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            try:
                self.rows = json.loads(self.path.read_text(encoding="utf-8"))
                if not all({"stage", "step"} <= row.keys() for row in self.rows):
                    raise ValueError("a row without stage and step")
            except (ValueError, TypeError, AttributeError, OSError) as error:
                raise UserError(
                    f"{self.path} is damaged ({error}): restore it, or run into another WORKDIR"
                ) from error

    def forget(self, stage: str, after: int) -> None:
        """Drops a stage's rows of steps after `after`: they are about to be measured again."""
        self.rows = [row for row in self.rows if row["stage"] != stage or row["step"] <= after]

    def has(self, stage: str, step: int) -> bool:
        """Whether a stage was evaluated at a step."""
        return any(row["stage"] == stage and row["step"] == step for row in self.rows)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows and writes the file."""
        self.rows += rows
        if rows:
            self.write()

    def select(self, stage: str, step: int) -> None:
        """Marks the rows of a stage's best checkpoint."""
        for row in self.rows:
            if row["stage"] == stage:
                row["selected"] = row["step"] == step
        if self.rows:  # a run without evaluations has no results
            self.write()

    def write(self) -> None:
        """Writes the file in one step, a row a line."""
        lines = ",\n".join(json.dumps(row) for row in self.rows)
        write_atomically(self.path, f"[\n{lines}\n]\n")

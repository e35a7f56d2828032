"""A work directory: what lies where, whose it is, and its results.

WORKDIR/config.gin              the settings that it was begun with
WORKDIR/run.json                model, vocabulary, prompts, stages: enough to load it without gin
WORKDIR/data.json               digests of all rows that it trains and is scored on
WORKDIR/sentencepiece.model     the vocabulary; or tokenizer.json, chat_template.jinja; or none
WORKDIR/<k>-<stage>/            checkpoints/ metrics.jsonl tensorboard/ samples/; generated.jsonl
WORKDIR/results.json            one row a score
WORKDIR/claim.json              in a bucket: who runs in it (`promot_jax.lease`)
"""

import contextlib
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from promot_jax.convert import kept
from promot_jax.errors import UserError
from promot_jax.files import lock, read_json, seal, unseal
from promot_jax.hosts import of_first, write_atomically
from promot_jax.lease import Lease
from promot_jax.paths import as_path, in_bucket, remove_tree
from promot_jax.run.stage import Run
from promot_jax.training.checkpoints import check_directory
from promot_jax.training.description import CLAIM, CONFIG, RESTORE, RUN, Description
from promot_jax.vocabularies import FILES

RESULTS, DATA = "results.json", "data.json"
ANSWERS = "answers.jsonl"  # of a stage that generates
PROBE = ".writable"  # is written to a bucket, and removed
KINDS = {  # field of a row of results.json -> types it may have
    "stage": (str,),
    "step": (int,),
    "task": (str,),
    "shots": (int,),
    "value": (float, int, type(None)),
    "scale": (float, int),
    "selected": (bool,),
}

# May change between two starts of one run: where things lie (what lies there is compared), how a
# result is computed, which changes it by rounding (ACCUMULATE also draws other dropout masks), and
# how often it is saved.
NOT_IDENTITY = re.compile(
    "(WORKDIR|BASE|BASE_PLACES|DATA_CACHE|MESH|ACCUMULATE|EVAL_BATCH_SIZE|SAVE_MINUTES"
    r"|run\.Run\.data_cache|(\w+/)?run\.Stage\.(save|keep)_minutes"
    r"|models\.\w+Config\.(remat|attention)|run\.base_model\.(remat|attention)) ="
)


def describe(run: Run) -> Description:
    """The description of a run."""
    return Description(
        method=run.method,
        model=run.model,
        prompts=tuple((p.name, p.length) for p in run.prompts),
        stages=tuple(f"{k}-{stage.name}" for k, stage in enumerate(run.stages, start=1)),
        targets=run.targets,
        modules=tuple(run.modules),
        base=run.base,
        seed=run.seed,
        vocabulary=run.vocabulary.settings(),
    )


def continued(run: Run) -> Run:
    """A run with the vocabulary of its work directory, where that has the same one already: a
    chat's day is that on which it began."""
    if not run.vocabulary.chat:
        return run
    try:
        found = Description.read(run.workdir).load_vocabulary(run.workdir)
    except UserError:  # there is none, or none that is whole, which `check` says
        return run
    same = found == run.vocabulary and found.chat == run.vocabulary.chat
    return dataclasses.replace(run, vocabulary=found) if same else run


def check(run: Run, config: str | None, data: Mapping[str, str]) -> bool:
    """Whether the work directory has this run's work already; touches nothing of it.

    A run that left neither scores nor a checkpoint nor answers may be replaced by another.

    Args:
      run: the settings.
      config: their text, None where they come from Python.
      data: digests of the rows, as `data_digests` makes them.

    Raises:
      UserError: it cannot be written, holds another run's work or other files, or lacks what tells
        whose work it is.
    """
    return of_first(lambda: _check(run, config, data))


def _check(run: Run, config: str | None, data: Mapping[str, str]) -> bool:
    if not run.workdir:
        raise UserError("WORKDIR = '': name a directory")
    root = as_path(run.workdir, "WORKDIR")
    check_directory(run.workdir, "WORKDIR")
    if root.is_symlink() and not root.exists():
        raise UserError(
            f"WORKDIR = {run.workdir!r} cannot be written (it is a link to nothing): choose another"
        )
    try:
        if begun := _begun(root):
            _check_same(root, describe(run), _settings(config))
            _check_data(root, data)
        elif root.is_dir():
            _check_free(root)
        if not in_bucket(root):
            _check_writable(run, root)
    except OSError as error:
        raise UserError(f"WORKDIR = {run.workdir!r} cannot be read ({error.strerror})") from error
    if in_bucket(root):
        with _naming(run):  # only who writes learns that there is no such bucket
            (root / PROBE).write_bytes(b"")
            (root / PROBE).unlink(missing_ok=True)
    return begun


def _check_writable(run: Run, root: Path) -> None:
    """Raises UserError where no directory can be made or written."""
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "is no directory" if not there.is_dir() else "has no permission to write"
        raise UserError(
            f"WORKDIR = {run.workdir!r} cannot be written ({str(there)!r} {reason}): choose another"
        )


def _begun(root: Path) -> bool:
    """Whether there is anything to lose."""
    work = ("*/checkpoints/[0-9]*", f"*/{ANSWERS}")
    return (root / RESULTS).exists() or any(any(root.glob(each)) for each in work)


def _check_free(root: Path) -> None:
    """Raises UserError where there is more than a run leaves that was killed before it began."""
    if (root / RUN).exists():  # of a run that left nothing
        for stage in Description.read(str(root)).stages:
            if (root / stage).is_symlink():
                raise UserError(
                    f"{str(root / stage)!r} is a link: remove it, or choose another WORKDIR"
                )
        return
    names = {path.name for path in root.iterdir()}
    ours = {CONFIG, DATA, CLAIM, PROBE, *FILES, *kept.NAMES, f".{RUN}.tmp", f".{DATA}.tmp"}
    if CONFIG in names and (root / CONFIG).read_bytes():  # ours is empty until there is run.json
        ours = set()
    if foreign := sorted(names - ours):
        raise UserError(
            f"WORKDIR = {str(root)!r} holds files that are no run's ({foreign[0]}): choose an empty"
            " or new directory"
        )


@contextlib.contextmanager
def claim(
    run: Run, config: str | None, data: Mapping[str, str], base_digest: str | None = None
) -> Iterator[Path]:
    """Makes the work directory, or finds that it is this run's; nobody else may run in it then.

    Args:
      run, config, data: as in `check`.
      base_digest: of the base's variables, where they have been read.

    Raises:
      UserError: as `check`, it cannot be made, or another process runs in it.
    """
    root = as_path(run.workdir)
    with contextlib.ExitStack() as held:

        def take() -> bool:
            _check(run, config, data)
            held.enter_context(_alone(run, root))
            there = _check(run, config, data)  # again: nobody else can change it any more
            if not there:
                _make(run, root, config, data, base_digest)
            elif (about := Description.read(str(root))).base != run.base:
                dataclasses.replace(about, base=run.base).save(root)
            return there

        of_first(take)
        yield root


def _make(
    run: Run, root: Path, config: str | None, data: Mapping[str, str], base_digest: str | None
) -> None:
    if (root / RUN).exists():
        for stage in Description.read(str(root)).stages:
            _remove(root / stage)
    description = dataclasses.replace(describe(run), base_digest=base_digest)
    (root / CONFIG).write_bytes(b"")  # so that what a crash leaves from here on is known as ours
    (root / RUN).unlink(missing_ok=True)  # until all that it vouches for is there
    write_atomically(root / DATA, json.dumps(seal(data), indent=1))
    kept.inherit(root, run.base)
    description.write(root, _settings(config), run.vocabulary.files())


def _remove(stage: Path) -> None:
    """Removes a stage directory of a run that left nothing."""
    try:
        remove_tree(stage)
    except OSError as error:
        raise UserError(
            f"{str(stage)!r} cannot be removed ({error.strerror}): remove it, or choose another"
            " WORKDIR"
        ) from error


@contextlib.contextmanager
def _alone(run: Run, root: Path) -> Iterator[None]:
    """A context in which nobody else runs there."""
    with contextlib.ExitStack() as held:
        with _naming(run):
            lease = Lease(root / CLAIM, f"WORKDIR = {run.workdir!r}") if in_bucket(root) else None
            held.enter_context(lease or _lock(run, root))
        yield


@contextlib.contextmanager
def _naming(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"WORKDIR = {run.workdir!r} cannot be written ({error.strerror}): choose another"
        ) from error


def _lock(run: Run, root: Path) -> IO:
    """An open file, whose lock ends when it is closed."""
    root.mkdir(parents=True, exist_ok=True)
    file = (root / CONFIG).open("a", encoding="utf-8")
    try:
        lock(file)
    except BlockingIOError as error:
        file.close()
        raise UserError(
            f"WORKDIR = {run.workdir!r} is in use by another process: wait for it, or stop it"
        ) from error
    return file


def changed_settings(root: Path, config: str) -> list[str]:
    """How settings differ from those in force in a work directory: `- ` theirs, `+ ` the others."""
    path = root / CONFIG
    before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    old, new = (
        # Gin breaks a long value off its name by a backslash and a new line.
        [x for x in text.replace("\\\n", "").splitlines() if not NOT_IDENTITY.match(x)]
        for text in (before, config)
    )
    return [line for line in difflib.ndiff(old, new) if line[0] in "-+" and line[2:].strip()]


def _settings(config: str | None) -> str:
    return config if config is not None else "# made from Python; see run.json\n"


def _check_same(root: Path, new: Description, text: str) -> None:
    """Raises UserError unless the work directory is whole, and of a run of these settings."""
    if not (root / RUN).exists():
        raise UserError(
            f"WORKDIR = {str(root)!r} holds checkpoints or scores, but no {RUN}, which says of what"
            f" run: {RESTORE}"
        )
    old = Description.read(str(root))
    old.file(root, CONFIG)
    old.vocabulary_files(str(root))
    for stage in old.stages:
        for path in (root / stage, root / stage / "checkpoints"):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file, and a directory belongs there: remove it")
    differing, changed = _differing(old, new), changed_settings(root, text)
    if differing or changed:
        if differing:
            theirs, ours = differing[0]
        else:
            theirs, ours = (next((x[2:] for x in changed if x[0] == s), "not set") for s in "-+")
        raise UserError(
            f"WORKDIR = {str(root)!r} holds another run (there: {theirs[:160]}; now: {ours[:160]}):"
            " choose another WORKDIR, or remove it"
        )


def _differing(old: Description, new: Description) -> list[tuple[str, str]]:
    """What differs, theirs and ours; whether a base at another place is the same is seen later."""
    one, other = (
        dataclasses.asdict(about)
        | {"model": dataclasses.replace(about.model, remat=False)}
        | {"base_digest": None, "base_beside": None, "files": {}}
        for about in (old, new)
    )
    if None not in (old.base, new.base):
        one["base"] = new.base
    return [
        (f"{name} = {one[name]!r}", f"{name} = {other[name]!r}")
        for name in one
        if one[name] != other[name]
    ]


def _check_data(root: Path, data: Mapping[str, str]) -> None:
    """Raises UserError unless the rows are those that the run began with."""
    path = root / DATA
    try:
        before = unseal(read_json(path, fix=RESTORE))
    except FileNotFoundError as error:
        raise UserError(f"{str(root)!r} lacks its {DATA}: {RESTORE}") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): {RESTORE}") from error
    names = [*data, *(name for name in before if name not in data)]
    if changed := [name for name in names if data.get(name) != before.get(name)]:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"WORKDIR = {str(root)!r}: {changed[0]}{more} changed since the run began, and its"
            " scores would be of two sets of data: restore the data, or choose another WORKDIR"
        )


class Results:
    """`results.json`: rows of scores; see docs/recipes.md for the columns.

    Each row of the file ends with a checksum of itself, `check`: a digit that was altered is
    noticed when the run goes on.
    """

    def __init__(self, root: Path):
        self.path = root / RESULTS
        self.rows: list[dict[str, Any]] = []
        advice = "restore it, or run into another WORKDIR"
        with contextlib.suppress(FileNotFoundError):
            for number, row in enumerate(read_json(self.path, list, advice), start=1):
                try:
                    self.rows.append(_checked(unseal(row)))
                except (ValueError, TypeError) as error:
                    raise UserError(
                        f"{self.path} is damaged (row {number}: {error}): {advice}"
                    ) from error

    def forget(self, stage: str, after: int) -> None:
        """Drops a stage's rows of steps after `after`: they are about to be measured again."""
        self.rows = [row for row in self.rows if row["stage"] != stage or row["step"] <= after]

    def of(self, stage: str, step: int) -> list[dict[str, Any]]:
        """The rows of a stage at a step."""
        return [row for row in self.rows if row["stage"] == stage and row["step"] == step]

    def has(self, stage: str, step: int) -> bool:
        """Whether a stage was evaluated at a step."""
        return bool(self.of(stage, step))

    def steps(self, stage: str) -> list[int]:
        """The step of each row of a stage."""
        return [row["step"] for row in self.rows if row["stage"] == stage]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows, in the order of the stages, and writes the file."""
        if rows:
            place = lambda row: int(row["stage"].partition("-")[0])  # noqa: E731
            every = sorted(self.rows + rows, key=place)
            self.write(every)
            self.rows = every  # only what is written counts

    def select(self, stage: str, step: int) -> None:
        """Marks the rows of a stage's best checkpoint."""
        for row in self.rows:
            if row["stage"] == stage:
                row["selected"] = row["step"] == step
        if self.rows:  # a run without evaluations has no results
            self.write(self.rows)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Writes the file in one step, a row a line."""
        lines = ",\n".join(json.dumps(seal(row)) for row in rows)
        write_atomically(self.path, f"[\n{lines}\n]\n")


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `results.json`; raises ValueError where a field that is counted with is none."""
    for name, kinds in KINDS.items():
        if type(row.get(name)) not in kinds:
            raise ValueError(f"{name} = {row.get(name)!r:.80}")
    return row

"""Checkpoints of a stage, written by Orbax, and verified whenever they are read.

A checkpoint `<step>/` holds the `variables` that this stage or an earlier one of the run trains,
the `state` of the optimizer, and a `note`: step, clock, score, and the sum of the bits of every
array (`digests`), under a checksum of its own. What is read is compared with it, so a checkpoint is
whole or refused; nothing in it is believed because a file could be decoded. What the run never
touched is only referred to: by the path of the base checkpoint (or the seed it was drawn from) and
a digest. So a stage-one checkpoint is as small as its prompt, and what stage two leaves is whole.

The sums of T5 small (77M parameters, and Adafactor's state) take 0.3 s on two busy CPU cores, where
a save takes 2.2 s (0.2 s of it in the foreground) and reading it again 1.7 s; compiling them takes
a second, once a process.
"""

import dataclasses
import glob
import json
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from etils.epath import gpath

from promot_jax.errors import UserError
from promot_jax.failures import bucket_failure, writing
from promot_jax.files import parse_json, seal, unseal
from promot_jax.hosts import is_first, wait_for_all, write_atomically
from promot_jax.models import Variables, flat, nested
from promot_jax.paths import along, as_path, in_bucket, real, remove_tree
from promot_jax.training.digests import described, parsed, sums
from promot_jax.training.step import State

REMOVED, UNFINISHED = ".removed-", ".orbax-checkpoint-tmp"
COMMITTED = "commit_success.txt"  # what Orbax writes last, where it cannot rename
LONGEST = 3500  # bytes of a path that leave room for the names below it
GROUP = 2**30  # bytes of variables that are read at a time, where they are to be another type


class _Local(gpath.PosixGPath):
    """A path of this file system, whatever its names are.

    Those of etils, which Orbax uses, take brackets, `*` and `?` in the name of a directory for a
    pattern, and `/gs/...` for a bucket.
    """

    _uri_scheme = None

    def glob(self, pattern: str) -> Iterator["_Local"]:
        """The files whose path below this one fits the pattern."""
        return (self / found for found in glob.glob(pattern, root_dir=self))


def check_directory(path: str | Path, setting: str) -> None:
    """Raises UserError where no checkpoint can be written or read; `setting` named the directory.

    TensorStore takes a backslash for a slash and Orbax `gs:/` for a bucket, anywhere in a path.
    """
    if in_bucket(as_path(path)):
        return  # `as_path` knows what can be written there
    whole = f"{os.path.realpath(path)}/"  # Path.resolve has no line for a link to itself
    for found, problem in (
        ("\\" in whole, "has a backslash"),
        ("gs:/" in whole, "has a directory whose name ends with 'gs:'"),
        (whole != whole.encode(errors="replace").decode(), "is no UTF-8"),
        (len(os.fsencode(whole)) > LONGEST, f"has more than {LONGEST} bytes"),
    ):
        if found:
            raise UserError(
                f"{setting} = {str(path)[:200]!r}: its path {problem}, so that checkpoints in it"
                " could not be read: choose another"
            )


@dataclasses.dataclass
class Checkpoints:
    """The checkpoints of one stage: the last, the best, and those whose note says "keep" stay.

    Attributes:
      directory: where they lie.
      read_only: they may be another process's, which is still writing: nothing is tidied up.
      writing_gb: memory that variables being written may take; more than the largest of them, or
        None for a copy of them all.

    Raises:
      UserError: a note is damaged; so do all methods where what they read is.
      OSError: a bucket fails; so do all methods.
    """

    directory: Path
    read_only: bool = False
    writing_gb: float | None = None

    def __post_init__(self):
        check_directory(self.directory, "the directory of checkpoints")
        # As messages name it: behind a link, "delete its parent" would be about somebody else's.
        self.given = as_path(along(self.directory, "."))
        self.directory = as_path(real(self.directory))
        self._notes = self._read_notes()
        self._tidy()
        self.checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                variables=ocp.PyTreeCheckpointHandler(save_concurrent_gb=self.writing_gb),
                state=ocp.PyTreeCheckpointHandler(),
                note=ocp.JsonCheckpointHandler(),
            )
        )

    def save(
        self, state: State, untrained: Variables, note: dict[str, Any], score: float | None
    ) -> None:
        """Saves in the background; `untrained`: frozen variables that belong to it too.

        Raises:
          OSError, ValueError or another of Orbax's: the checkpoint before could not be written.
        """
        self.wait()
        step, variables, rest = int(state.step), state.trained | untrained, _rest(state)
        note = note | {"step": step, "score": score, "written": time.time_ns()}
        self._notes[step] = note | {"variables": sums(variables), "state": sums(_named(rest))}
        self._notes[step]["best"] = self.best()
        self.checkpointer.save(
            self._path(step),
            args=ocp.args.Composite(
                variables=ocp.args.PyTreeSave(nested(variables)),
                state=ocp.args.PyTreeSave(rest),
                note=ocp.args.JsonSave(seal(self._notes[step])),
            ),
        )

    def wait(self) -> None:
        """Waits until everything is written, and removes what is neither the last nor the best.

        Raises:
          OSError, ValueError or another of Orbax's: it could not be written.
        """
        try:
            with writing(self.directory):
                self.checkpointer.wait_until_finished()
        finally:  # what could not be written is not there
            there = steps_in(self.directory)
            self._notes = {n: note for n, note in self._notes.items() if n in there}
        for step in set(self._notes) - {self.latest(), self.best(), *self.kept()}:
            del self._notes[step]
        self._tidy()

    def check(self) -> None:
        """Raises what the last checkpoint, if it is still being written, has failed of."""
        with writing(self.directory):
            self.checkpointer.check_for_errors()

    def close(self) -> None:
        """Waits until everything is written."""
        try:
            self.wait()
        finally:
            self.checkpointer.close()

    def steps(self) -> list[int]:
        """The steps of all checkpoints."""
        return sorted(self._notes)

    def kept(self) -> list[int]:
        """The steps of those that stay, whatever comes."""
        return [step for step in self.steps() if self._notes[step].get("keep")]

    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return max(self._notes, default=None)

    def best(self) -> int | None:
        """The step with the best score, of equals, and where none has one, the newest."""
        return max(self._notes, key=lambda step: (rank(self.score(step)), step), default=None)

    def score(self, step: int) -> float | None:
        """A checkpoint's score; None where it has none."""
        return self.note(step)["score"]

    def rescore(self, step: int, score: float | None, **more: Any) -> None:
        """Gives the newest checkpoint another score: its evaluation was stopped when it was saved.

        `more`: what else is to change in its note.
        """
        self._notes[step] |= {"score": score} | more
        self._notes[step]["best"] = self.best()
        write_atomically(self._note(step), json.dumps(seal(self._notes[step])))
        wait_for_all("checkpoint scored")

    def note(self, step: int) -> dict[str, Any]:
        """The note saved with a checkpoint.

        Raises:
          UserError: there is no such checkpoint.
        """
        if step not in self._notes:
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"there is no checkpoint {self._path(step)}: those there are {have}")
        return self._notes[step]

    def written(self, step: int) -> int:
        """When a checkpoint was written, in ns."""
        return self.note(step)["written"]

    def shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the variables in a checkpoint, without reading them."""
        return {path: parsed(entry) for path, entry in self.note(step)["variables"].items()}

    def variables(self, step: int, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> Variables:
        """Reads variables, each device its part; `abstract` gives shape, dtype and sharding.

        They are read and verified in the type that they were saved in.
        """
        entries, found = self.note(step)["variables"], {}
        for group in _groups(abstract):
            wanted = {
                path: jax.ShapeDtypeStruct(
                    abstract[path].shape,
                    parsed(entries[path]).dtype,
                    sharding=abstract[path].sharding or _one_device(),
                )
                for path in group
            }
            read = flat(self._read(step, "variables", nested(wanted)))
            self._verify(step, read, {path: entries[path] for path in group})
            found |= {path: x.astype(abstract[path].dtype) for path, x in read.items()}
        return found

    def state(self, step: int, like: State) -> State:
        """Reads optimizer state, key and step into the form of `like`, whose variables are kept."""
        wanted, entries = _rest(like), self.note(step)["state"]
        kinds = {path: described(x) for path, x in _named(wanted).items()}
        if kinds != {path: entry.split(" ")[0] for path, entry in entries.items()}:
            raise self._damaged(step, "its optimizer state is of other settings")
        read = self._read(step, "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted))
        self._verify(step, _named(read), entries)
        return State(
            read["step"], like.trained, read["optimizer"], jax.random.wrap_key_data(read["key"])
        )

    def _read(self, step: int, name: str, item: Any) -> Any:
        """An item of a checkpoint, `variables` or `state`, or the part of it that is asked for."""
        restore = ocp.args.PyTreeRestore(
            item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,
        )
        # A read that fails leaves some behind, of which Python warns whenever it collects them.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        try:
            args = ocp.args.Composite(**{name: restore})
            return self.checkpointer.restore(self._path(step), args=args)[name]
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            if failed := bucket_failure(error):
                raise failed from error  # nothing is known of the arrays
            said = (str(error).splitlines() or [""])[0].split(": Error")[0].split(". See")[0][:80]
            raise self._damaged(
                step, f"its {name} cannot be read: {type(error).__name__}: {said}"
            ) from error

    def _verify(self, step: int, read: Mapping[str, jax.Array], entries: dict[str, str]) -> None:
        # what Orbax did not find in a partial read it leaves as the description it was given
        found = sums({path: x for path, x in read.items() if isinstance(x, jax.Array)})
        if wrong := [path for path in entries if found.get(path) != entries[path]]:
            more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
            raise self._damaged(step, f"{', '.join(wrong[:2])}{more}: not what was saved")

    def _read_notes(self) -> dict[int, dict[str, Any]]:
        steps = steps_in(self.directory)
        self._notes = dict.fromkeys(steps)  # for `_damaged`
        notes = {step: note for step in steps if (note := self._read_note(step)) is not None}
        if notes and (best := notes[max(notes)]["best"]) not in notes:
            raise self._damaged(best, "it was the best one, and is gone")
        return notes

    def _read_note(self, step: int) -> dict[str, Any] | None:
        """A note; None where the checkpoint has just been removed by the process that writes."""
        try:
            found = parse_json(self._note(step).read_bytes().decode())
            if not isinstance(found, dict):
                raise ValueError("it holds no object")
            if (note := unseal(found))["step"] != step:
                raise ValueError(f"it is of step {note['step']}")
            return note
        except (OSError, ValueError) as error:
            if bucket_failure(error):
                raise  # nothing is known of the note
            if step not in steps_in(self.directory):
                return None
            reason = getattr(error, "strerror", None) or str(error)
            raise self._damaged(step, f"its note: {reason}") from error

    def _path(self, step: int) -> epath.Path:
        if in_bucket(self.directory):
            return self.directory / str(step)
        return _Local(self.directory, str(step))

    def _note(self, step: int) -> Path:
        return self.directory / str(step) / "note" / "metadata"

    def _damaged(self, step: int, reason: str) -> UserError:
        """The error of a checkpoint that is not what was saved, and what to do."""
        older = max((other for other in self._notes if other < step), default=None)
        if self.read_only:
            advice = ""
        elif step == self.latest() and older is not None:
            advice = f", or delete it to go on from step {older}"
        else:
            advice = f", or delete {self.given.parent} to begin the stage anew"
        path = self.given / str(step)
        return UserError(f"the checkpoint {path} is damaged ({reason}): restore it{advice}")

    def _tidy(self) -> None:
        """Removes superseded checkpoints, and what a killed process left.

        A checkpoint loses its name first, or in a bucket its mark: with that it is whole.
        """
        if self.read_only or not is_first() or not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            superseded = is_step(path.name) and int(path.name) not in self._notes
            if superseded and in_bucket(path):
                (path / COMMITTED).unlink(missing_ok=True)
            elif superseded:
                path = path.rename(path.with_name(f"{REMOVED}{path.name}"))
            if superseded or path.name.startswith(REMOVED) or UNFINISHED in path.name:
                remove_tree(path, ignore_errors=True)


def steps_in(directory: Path) -> list[int]:
    """The steps of the complete checkpoints that lie there.

    On a disk Orbax gives a directory its number when all is written. In a bucket, where nothing
    can be renamed, it has it from the beginning, and gets a mark.
    """
    if in_bucket(directory):
        found = [name.split("/") for name in directory.names()]
        names = [parts[0] for parts in found if parts[1:] == [COMMITTED]]
    else:
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return [int(name) for name in names if is_step(name)]


def is_step(name: str) -> bool:
    """Whether a directory's name is one that a checkpoint has, and nobody else's such as `08`."""
    return re.fullmatch("0|[1-9][0-9]*", name) is not None


def rank(score: float | None) -> float:
    """What was not scored is the best only where nothing was."""
    return -math.inf if score is None else score


def _groups(abstract: Mapping[str, jax.ShapeDtypeStruct]) -> Iterator[list[str]]:
    """Paths whose arrays are read together."""
    group, size = [], 0
    for path, leaf in abstract.items():
        group.append(path)
        size += math.prod(leaf.shape) * leaf.dtype.itemsize
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _one_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _named(tree: Any) -> dict[str, jax.Array]:
    """The arrays of a tree by their place in it, e.g. `optimizer/0/count`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def _rest(state: State) -> dict[str, Any]:
    """What a checkpoint keeps of a state beside the variables."""
    return {"step": state.step, "optimizer": state.optimizer, "key": jax.random.key_data(state.key)}

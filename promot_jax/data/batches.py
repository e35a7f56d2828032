"""Global batches: a pure function of (task, seed, step), whatever the number of hosts and restarts.

All rows are read and tokenised before the first step, so bad data stops a run at once and not after
an hour, and the report can say what was too long. Row r of batch n is place n * batch_size + r of
the task's stream (see order.py); a host asks for its `rows` alone.

The soft prompt is a run of ids in front of the input tokens. Each example carries the prompt of its
own task, which is all that multi-task training with several prompts, and packing with prompts,
need.
"""

import dataclasses
import hashlib
import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from promot_jax.data.encoded import LONG, STRETCH, UNKNOWN, UNWRITABLE
from promot_jax.data.layouts import make_layout
from promot_jax.data.lengths import prompt_room
from promot_jax.data.order import Epochs, Mix, generator
from promot_jax.data.packing import Packs, pack
from promot_jax.data.reading import Rows, TaskRows, read
from promot_jax.data.tasks import rates
from promot_jax.errors import UserError, check_memory, check_range, check_types, near
from promot_jax.vocabularies import Vocabulary


@dataclasses.dataclass(frozen=True)
class Replay:
    """Old data in between: what keeps a model from forgetting it (Bethune et al. 2025, arXiv
    2502.06042, with 1 % of it).

    Attributes:
      task: name of a task or mixture, or several, as in `TrainData`.
      rate: its share of the examples of a stage, on average: of n examples rate * n are replayed.
      prompts: as in `TrainData`; None: replayed inputs have none.
      split: the tasks' split.
      shots: as in `TrainData`; None: the same.

    Raises:
      UserError: a rate that leaves nothing of one of the two.
    """

    task: str | Sequence[str]
    rate: float = 0.05
    prompts: str | Mapping[str, str] | None = None
    split: str = "train"
    shots: int | Sequence[int] | None = None

    def __post_init__(self):
        check_types(self)
        check_range("Replay.rate", self.rate, 0.001, 0.999)
        if self.shots is not None:
            object.__setattr__(self, "shots", _shots(self.shots, "Replay.shots"))


@dataclasses.dataclass(frozen=True)
class TrainData:
    """What a stage trains on.

    Attributes:
      task: name of a task or mixture, or several, which have equal shares. A mixture's rates are
        numbers of examples.
      input_length: tokens an input is padded to, its prompt included.
      target_length: tokens a target is padded to.
      batch_size: rows of the global batch.
      split: the task's split.
      prompts: name of the soft prompt in front of every input; or task -> name, where tasks that
        are not named have none; or None.
      shots: numbers of shots; each example gets one of them, always the same.
      packing: several examples in a row where they fit.
      too_long: what happens to examples that do not fit: 'drop', or 'trim' (whole shots first, then
        tokens, see `tokens.py`). Either is counted in `Batches.report`.
      max_rows: rows read of each task's split; None: all.
      seed: of order, mixture, packs and shots.
      replay: what is trained on in between.
    """

    task: str | Sequence[str]
    input_length: int
    target_length: int
    batch_size: int = 64
    split: str = "train"
    prompts: str | Mapping[str, str] | None = None
    shots: int | Sequence[int] = (0,)
    packing: bool = False
    too_long: str = "drop"
    max_rows: int | None = None
    seed: int = 0
    replay: Replay | None = None

    def __post_init__(self):
        check_types(self)
        for name in ("input_length", "target_length", "batch_size", "max_rows"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name}={value}: it must be at least 1")
        if self.max_rows is not None:
            check_range("TrainData.max_rows", self.max_rows, 1, 10**12)
        if self.too_long not in ("drop", "trim"):
            raise UserError(f"too_long={self.too_long!r}: it must be 'drop' or 'trim'")
        sizes = f"input_length={self.input_length} and target_length={self.target_length}"
        words = self.input_length * (1 + self.packing) + self.target_length * (3 + self.packing)
        check_memory(
            4 * words * self.batch_size, f"a batch of batch_size={self.batch_size}, {sizes}"
        )
        longest = max(self.input_length, self.target_length)
        check_memory(4 * longest**2, f"attention (a row, a head) over {sizes}")
        object.__setattr__(self, "shots", _shots(self.shots, "shots"))

    def parts(self) -> "list[tuple[TrainData, dict[str, float]]]":
        """What is trained on, and task -> its rate, in examples; then what is replayed, and so on.

        Raises:
          UserError: as `rates`, or a task that is both.
        """
        mixed, again = rates(self.task), self.replay
        if again is None:
            return [(self, mixed)]
        old = rates(again.task)
        if both := [name for name in old if name in mixed]:
            raise UserError(
                f"Replay.task names {both[0]!r}, which is trained on as it is: leave it out there"
            )
        shots = self.shots if again.shots is None else again.shots
        given = {"task": again.task, "prompts": again.prompts, "split": again.split}
        other = dataclasses.replace(self, **given, shots=shots, replay=None)
        mixed, old = (
            {name: share * rate / sum(of.values()) for name, rate in of.items()}
            for share, of in ((1 - again.rate, mixed), (again.rate, old))
        )
        return [(self, mixed), (other, old)]


def _shots(given: int | Sequence[int], setting: str) -> tuple[int, ...]:
    shots = (given,) if isinstance(given, int) else tuple(given)
    if not shots or min(shots) < 0:
        raise UserError(f"{setting}={given!r}: give numbers of shots, such as (0,) or (0, 1)")
    return shots


class Batches:
    """`batches(step)`: the global batch of a step, as numpy arrays with T5X's names.

    Attributes:
      data: what it was made of.
      size: rows of a global batch.
      digests: task -> digest of its token ids, and its rate: equal, where the data is.
      report: what was read: rows, too_long (examples dropped or trimmed), examples (trained on),
        unwritable (examples whose target the vocabulary cannot write), units (rows of a batch that
        they fill, fewer than examples when packed), and the same for each task under `tasks`, with
        the first row's texts, what is lost in the vocabulary, in words, and whether the split has
        more rows than `max_rows`.
    """

    def __init__(
        self,
        data: TrainData,
        vocabulary: Vocabulary,
        vocab_size: int,
        prompt_ids: Mapping[str, np.ndarray] | None = None,
        kind: str = "encoder_decoder",
        cache: str | None = None,
    ):
        """Args:
          data: what to train on.
          vocabulary: the model's.
          vocab_size: number of ids the model embeds.
          prompt_ids: prompt name -> its ids.
          kind: of the model, which has a layout of its own.
          cache: directory in which the tokens of large tasks are kept; None: all are in memory.

        Raises:
          UserError: anything about the data that training would stumble over.
        """
        self.data, self.size = data, data.batch_size
        self._tasks, mixed = {}, {}
        for part, shares in data.parts():
            mixed |= shares
            prompts = _prompts(part, list(shares), prompt_ids or {})
            for name in shares:
                room = part.input_length - len(prompts[name]), part.target_length
                rows = read(
                    name, split=part.split, limit=part.max_rows, shots=part.shots, seed=part.seed,
                    kind=kind, vocab_size=vocab_size, vocabulary=vocabulary, cache=cache,
                    room=room if part.too_long == "trim" else None,
                )  # fmt: skip
                self._tasks[name] = _TaskData(part, rows, name, prompts[name])
        self._layout = make_layout(kind, vocabulary)
        # A rate counts examples, a place of the stream may hold several.
        self._mix = Mix({n: r / self._tasks[n].packed for n, r in mixed.items()}, data.seed)
        reports = {name: task.report for name, task in self._tasks.items()}
        totals = ("rows", "too_long", "examples", "unwritable", "units")
        self.report = {key: sum(r[key] for r in reports.values()) for key in totals}
        self.report["tasks"] = reports
        self.digests = {n: f"{task.digest} x {mixed[n]:g}" for n, task in self._tasks.items()}

    def __call__(self, step: int, rows: slice | None = None) -> dict[str, np.ndarray]:
        """The batch of a step, or the given rows of it: [rows, length] int32, weights float32."""
        data = self.data
        places = range(data.batch_size)[rows if rows is not None else slice(None)]
        first = operator.index(step) * data.batch_size
        batch = self._layout.empty(len(places), data.input_length, data.target_length, data.packing)
        of_tasks: dict[str, dict[int, int]] = {}
        for row, place in enumerate(places):
            name, i = self._mix(first + place)
            of_tasks.setdefault(name, {})[row] = i
        for name, rows in of_tasks.items():
            self._tasks[name].write(batch, rows)
        return batch


class _TaskData:
    """One task's tokenised examples, their units, and the order of these."""

    def __init__(self, data: TrainData, read: TaskRows, name: str, prompt: np.ndarray):
        self._prompt, self._rows, self.layout = prompt, read.rows, read.layout
        lengths, added = read.rows.lengths, np.array([len(prompt), 0], np.int32)
        room = data.input_length, data.target_length
        fits = (lengths <= np.array(room, np.int32) - added).all(axis=1)
        if not fits.any():
            raise _nothing_fits(name, data, lengths + added)
        self._numbers = None if fits.all() else np.flatnonzero(fits).astype(np.int32)
        examples, key = int(np.count_nonzero(fits)), [len(prompt), *room]
        found = read.rows.kept("digest", key, lambda: _digest(read.rows, lengths, fits, added))
        self.digest, self._packs = str(found["digest"]), None
        if data.packing:
            lengths, draws = lengths[fits], generator(data.seed, f"pack/{name}")
            lengths += added  # in place: of many rows, not even lengths are there twice
            found = read.rows.kept(
                "packs", [*key, data.seed], lambda: vars(pack(lengths, room, draws))
            )
            self._packs = Packs(**found)
        units = examples if self._packs is None else len(self._packs)
        self.packed = examples / units
        self._epochs = Epochs(units, data.seed, name)
        self.report = _report(read, fits) | {"units": units, "split": data.split}

    def write(self, batch: dict[str, np.ndarray], places: Mapping[int, int]) -> None:
        """Writes units into rows of a zeroed batch: row -> its place in this task's stream."""
        units = [self._examples(self._epochs(i)) for i in places.values()]
        pairs = iter(self._rows.pairs(np.concatenate(units)))
        for row, unit in zip(places, units, strict=True):
            mine = itertools.islice(pairs, len(unit))
            with_prompt = ((np.concatenate([self._prompt, x]), y) for x, y in mine)
            self.layout.write(batch, row, with_prompt)

    def _examples(self, unit: int) -> Int[np.ndarray, " members"]:
        """The numbers of a unit's rows."""
        kept = np.array([unit]) if self._packs is None else self._packs[unit]
        return kept if self._numbers is None else self._numbers[kept]


def _report(read: TaskRows, fits: Bool[np.ndarray, " rows"]) -> dict[str, Any]:
    """What was read, and what of it fits."""
    examples, marks = int(np.count_nonzero(fits)), read.rows.marks
    long = np.count_nonzero(marks & LONG)
    marks = marks[fits]
    losses = dataclasses.replace(
        read.rows.losses,
        rows=examples,
        unknown=int(np.count_nonzero(marks & UNKNOWN)),
        unwritable=int(np.count_nonzero(marks & UNWRITABLE)),
    )
    return {
        "rows": len(fits),
        "too_long": int(len(fits) - examples + long),
        "examples": examples,
        "unwritable": losses.unwritable,
        "lost": str(losses),
        "first": read.first,
        "more_than_max_rows": read.more,
    }


def _digest(
    rows: Rows,
    lengths: Int[np.ndarray, "rows 2"],
    fits: Bool[np.ndarray, " rows"],
    added: Int[np.ndarray, "2"],
) -> dict[str, np.ndarray]:
    """Of the examples' lengths, those of their prompts added, and of their ids."""
    found = hashlib.blake2b(digest_size=8)
    for begin in range(0, len(lengths), STRETCH):
        some = slice(begin, begin + STRETCH)
        found.update((lengths[some][fits[some]] + added).astype(np.int64).tobytes())
    begin = 0
    for count, ids in rows.blocks():
        some = slice(begin, begin + count)
        if not fits[some].all():
            ids = ids[np.repeat(fits[some], lengths[some].sum(axis=1))]
        found.update(ids.tobytes())
        begin += count
    return {"digest": np.array(found.hexdigest())}


def _prompts(
    data: TrainData, tasks: list[str], ids: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """task -> the ids of its prompt (none: an empty array)."""
    one_for_all = isinstance(data.prompts, str)
    names = dict.fromkeys(tasks, data.prompts) if one_for_all else dict(data.prompts or {})
    found = dict.fromkeys(tasks, np.zeros(0, np.int32))
    for task, name in names.items():
        if task not in tasks:
            raise UserError(
                f"prompts: {task!r} is not a task of this data{near(task, tasks)}; its tasks are"
                f" {tasks}"
            )
        if name not in ids:
            raise UserError(
                f"prompts: there is no prompt {name!r}{near(name, ids)}; the model's prompts are"
                f" {sorted(ids)}"
            )
        found[task] = np.asarray(ids[name], np.int32)
        prompt_room(found[task], data.input_length, name)
    return found


def _nothing_fits(name: str, data: TrainData, needed: Int[np.ndarray, "rows 2"]) -> UserError:
    inputs, targets = needed.min(axis=0)
    return UserError(
        f"task {name!r}, split {data.split!r}: none of {len(needed)} rows fits into input_length="
        f"{data.input_length} and target_length={data.target_length}; the shortest input needs"
        f" {inputs} (its prompt included), the shortest target {targets}"
    )

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
import operator
from collections.abc import Mapping, Sequence

import numpy as np

from promot_jax.data.examples import Example, load_examples
from promot_jax.data.layouts import make_layout
from promot_jax.data.lengths import prompt_room, trim
from promot_jax.data.losses import Losses
from promot_jax.data.order import Epochs, Mix, generator
from promot_jax.data.packing import pack
from promot_jax.data.shots import pick
from promot_jax.data.tasks import rates
from promot_jax.data.tokens import Encoder
from promot_jax.errors import UserError, check_memory, check_range, check_types, near
from promot_jax.vocabularies import Vocabulary


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
      max_rows: rows read of each task's split.
      seed: of order, mixture, packs and shots.
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
    max_rows: int = 1_000_000
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        for name in ("input_length", "target_length", "batch_size", "max_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: it must be at least 1")
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
        shots = (self.shots,) if isinstance(self.shots, int) else tuple(self.shots)
        if not shots or min(shots) < 0:
            raise UserError(f"shots={self.shots!r}: give numbers of shots, such as (0,) or (0, 1)")
        object.__setattr__(self, "shots", shots)


class Batches:
    """`batches(step)`: the global batch of a step, as numpy arrays with T5X's names.

    Attributes:
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
    ):
        """Args:
          data: what to train on.
          vocabulary: the model's.
          vocab_size: number of ids the model embeds.
          prompt_ids: prompt name -> its ids.
          kind: of the model, which has a layout of its own.

        Raises:
          UserError: anything about the data that training would stumble over.
        """
        self._data = data
        mixed = rates(data.task)
        prompts = _prompts(data, list(mixed), prompt_ids or {})
        self._tasks = {}
        for name in mixed:
            encoder = Encoder(name, vocabulary, vocab_size, data.shots, data.seed, kind)
            self._tasks[name] = _TaskData(data, encoder, name, prompts[name])
        self._layout = make_layout(kind, vocabulary)
        # A rate counts examples, a place of the stream may hold several.
        self._mix = Mix({n: r / self._tasks[n].packed for n, r in mixed.items()}, data.seed)
        reports = {name: task.report for name, task in self._tasks.items()}
        totals = ("rows", "too_long", "examples", "unwritable", "units")
        self.report = {key: sum(r[key] for r in reports.values()) for key in totals}
        self.report |= {"split": data.split, "tasks": reports}
        self.digests = {n: f"{task.digest} x {mixed[n]:g}" for n, task in self._tasks.items()}

    def __call__(self, step: int, rows: slice | None = None) -> dict[str, np.ndarray]:
        """The batch of a step, or the given rows of it: [rows, length] int32, weights float32."""
        data = self._data
        places = range(data.batch_size)[rows if rows is not None else slice(None)]
        first = operator.index(step) * data.batch_size
        batch = self._layout.empty(len(places), data.input_length, data.target_length, data.packing)
        for row, place in enumerate(places):
            name, i = self._mix(first + place)
            self._tasks[name].write(batch, row, i)
        return batch


class _TaskData:
    """One task's tokenised examples, their units, and the order of these."""

    def __init__(self, data: TrainData, encoder: Encoder, name: str, prompt: np.ndarray):
        examples = load_examples(name, data.split, data.max_rows + 1)
        more, examples = len(examples) > data.max_rows, examples[: data.max_rows]
        self._prompt, self.layout = prompt, encoder.layout
        losses = Losses(name, encoder.vocabulary, encoder.layout)
        self._pairs, too_long = _fitting(data, encoder, examples, len(prompt), losses)
        lengths = np.array([(len(prompt) + len(x), len(y)) for x, y in self._pairs])
        if data.packing:
            rng = generator(data.seed, f"pack/{name}")
            self._units = pack(lengths, (data.input_length, data.target_length), rng)
        else:
            self._units = [[i] for i in range(len(lengths))]
        self.packed = len(lengths) / len(self._units)
        self._epochs = Epochs(len(self._units), data.seed, name)
        ids = hashlib.blake2b(lengths.tobytes(), digest_size=8)
        for pair in self._pairs:
            ids.update(np.concatenate(pair).tobytes())
        self.digest = ids.hexdigest()
        self.report = {
            "rows": len(examples),
            "too_long": too_long,
            "examples": len(self._pairs),
            "unwritable": losses.unwritable,
            "lost": str(losses),
            "units": len(self._units),
            "first": (examples[0].inputs, examples[0].targets),
            "more_than_max_rows": more,
        }

    def write(self, batch: dict[str, np.ndarray], row: int, i: int) -> None:
        """Writes the unit at place i of this task's stream into a row of a zeroed batch."""
        pairs = (self._pairs[example] for example in self._units[self._epochs(i)])
        with_prompt = ((np.concatenate([self._prompt, x]), y) for x, y in pairs)
        self.layout.write(batch, row, with_prompt)


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


def _fitting(
    data: TrainData,
    encoder: Encoder,
    examples: Sequence[Example],
    prompt_length: int,
    losses: Losses,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """The (input, target) ids that fit or were trimmed to fit, and how many were too long."""
    room = data.input_length - prompt_length
    pairs, needed = [], []
    for example in examples:
        k = pick(data.shots, data.seed, example)
        inputs, targets = encoder.inputs(example, k), encoder.targets(example)
        if len(inputs) > room or len(targets) > data.target_length:
            needed.append((len(inputs) + prompt_length, len(targets)))
            if data.too_long == "drop":
                continue
            inputs, _ = encoder.fit_inputs(example, k, room)
        losses.add(example, inputs, targets)
        targets = trim(targets, data.target_length)
        pairs.append((inputs, targets))
    if not pairs:
        raise _nothing_fits(examples[0].task, data, needed)
    return pairs, len(needed)


def _nothing_fits(name: str, data: TrainData, needed: list[tuple[int, int]]) -> UserError:
    inputs, targets = np.min(needed, axis=0)
    return UserError(
        f"task {name!r}, split {data.split!r}: none of {len(needed)} rows fits into input_length="
        f"{data.input_length} and target_length={data.target_length}; the shortest input needs"
        f" {inputs} (its prompt included), the shortest target {targets}"
    )

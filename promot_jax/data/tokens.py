"""Text to token ids: the one place where a task meets the vocabulary of a model.

How they stand in a row is `layouts.py`'s. Whatever does not fit is reported to the caller, who
decides: training drops or trims and counts, evaluation shortens and counts; nothing is cut
silently. To shorten an input, whole shots go first, the last shot first (what is left is again a
valid few-shot input, the one with fewer shots); only then tokens are cut, out of the middle: the
end of an input is what says what to do with it ("One sentence summary:").
"""

from collections.abc import Sequence

import numpy as np

from promot_jax.data.encoded import LONG, UNKNOWN, UNWRITABLE, Encoded, flat
from promot_jax.data.examples import Example
from promot_jax.data.layouts import make_layout
from promot_jax.data.lengths import trim
from promot_jax.data.losses import Writer
from promot_jax.data.shots import pick, shot_pool
from promot_jax.data.tasks import get_task, is_text, task_info
from promot_jax.data.vocabularies import same_vocabulary
from promot_jax.errors import UserError
from promot_jax.vocabularies import Vocabulary

CUE = 16  # tokens at the end of an input that are cut last


class Encoder:
    """The examples of one task as ids of one model's vocabulary, many at a time.

    Several threads may use one: what takes long is done where they do not wait for each other.

    Attributes:
      layout: how the model reads the task's pairs.
      writer: how the vocabulary writes their targets.
    """

    def __init__(
        self,
        task: str,
        vocabulary: Vocabulary,
        vocab_size: int,
        shots: Sequence[int] = (0,),
        seed: int = 0,
        kind: str = "encoder_decoder",
    ):
        """Args:
          task: name of a task.
          vocabulary: the model's.
          vocab_size: number of ids the model embeds; larger ids are its soft prompts.
          shots: the numbers of shots that will be asked for, one of which `encode` picks.
          seed: of the choice of shots.
          kind: of the model, which has a layout of its own.

        Raises:
          UserError: ids of another vocabulary than the model's, shots that cannot be had, or a shot
            template that the kind of model cannot read.
        """
        self._task, self._shots, self._seed = get_task(task), tuple(shots), seed
        self._vocab_size = vocab_size
        self.layout = make_layout(kind, vocabulary, task_info(task).shot_template)
        self.writer = Writer(task, vocabulary, self.layout)
        self._text = is_text(self._task)
        for key in () if self._text else ("inputs", "targets"):
            own = self._task.output_features[key].vocabulary
            if not same_vocabulary(own, vocabulary):
                raise UserError(
                    f"task {task!r} yields {key!r} as ids of {own}, but the model's vocabulary is"
                    f" {vocabulary}; use the task's vocabulary, or a task that yields text"
                )
        self._pool = shot_pool(task, max(shots), seed) if max(shots) > 0 else None

    def encode(self, examples: Sequence[Example], room: tuple[int, int] | None = None) -> Encoded:
        """Examples as training reads them, each with one of the numbers of shots.

        Args:
          examples: at least one.
          room: what input and target are cut to; None: they keep their lengths.
        """
        shots = [pick(self._shots, self._seed, example) for example in examples]
        inputs, targets = self.inputs(examples, shots), self.targets(examples)
        long = np.zeros(len(examples), bool)
        if room is not None:
            fitted = self._fit(examples, inputs, shots, room[0])
            inputs = [ids for ids, _ in fitted]
            cut = [len(ids) > room[1] for ids in targets]
            long = np.array([kept < k for (_, kept), k in zip(fitted, shots, strict=True)]) | cut
        _, unknown, changed, losses = self.writer(examples, inputs, targets)
        if room is not None:
            targets = [trim(ids, room[1]) for ids in targets]
        ids, lengths = flat(inputs, targets)
        marks = UNKNOWN * unknown + UNWRITABLE * changed + LONG * long
        first = examples[0].inputs, examples[0].targets
        return Encoded(ids, lengths, marks.astype(np.uint8), losses, first)

    def targets(self, examples: Sequence[Example]) -> list[list[int]]:
        """The targets' ids."""
        if not self._text:
            return self._own_ids("targets", examples)
        texts = [example.targets for example in examples]
        inputs = [example.inputs for example in examples]
        return self._checked(self.layout.all_target_ids(inputs, texts), texts)

    def inputs(self, examples: Sequence[Example], shots: Sequence[int]) -> list[list[int]]:
        """The inputs' ids, each with so many shots, however long."""
        if not self._text:
            return self._own_ids("inputs", examples)
        pairs = zip(examples, shots, strict=True)
        drawn = [self._pool.draw(example, k) if k else [] for example, k in pairs]
        return self._inputs(examples, drawn)

    def fit_inputs(
        self, examples: Sequence[Example], shots: Sequence[int], room: int
    ) -> list[tuple[list[int], int]]:
        """The same with at most so many shots in at most `room` ids; how many shots each has.

        -1: it has none, and lost tokens too.
        """
        return self._fit(examples, self.inputs(examples, shots), shots, room)

    def _fit(
        self,
        examples: Sequence[Example],
        inputs: Sequence[list[int]],
        shots: Sequence[int],
        room: int,
    ) -> list[tuple[list[int], int]]:
        return [
            (ids, k) if len(ids) <= room else self._shorten(example, ids, k, room)
            for example, ids, k in zip(examples, inputs, shots, strict=True)
        ]

    def _shorten(
        self, example: Example, ids: list[int], k: int, room: int
    ) -> tuple[list[int], int]:
        """An input that does not fit with k shots."""
        shots = self._pool.draw(example, k) if k else []
        for kept in range(k - 1, -1, -1):
            [ids] = self._inputs([example], [shots[:kept]])
            if len(ids) <= room:
                return ids, kept
        return trim(ids, room, CUE), -1

    def _inputs(
        self, examples: Sequence[Example], shots: Sequence[Sequence[Example]]
    ) -> list[list[int]]:
        if not self._text:
            return self._own_ids("inputs", examples)
        texts = [self.layout.before(example.inputs) for example in examples]
        pairs = zip(texts, shots, strict=True)
        texts = [self._pool.text(text, drawn) if drawn else text for text, drawn in pairs]
        return self._checked(self.layout.all_input_ids(texts), texts)

    def _own_ids(self, key: str, examples: Sequence[Example]) -> list[list[int]]:
        """Of a task that yields ids."""
        add_eos = self._task.output_features[key].add_eos
        rows = [np.asarray(example.features[key]).tolist() for example in examples]
        ready = [self.layout.ready(ids, add_eos, key == "inputs") for ids in rows]
        return self._checked(ready, [str(ids) for ids in rows])

    def _checked(self, rows: list[list[int]], texts: Sequence[str]) -> list[list[int]]:
        for ids, text in zip(rows, texts, strict=True):
            if ids and max(ids) >= self._vocab_size:
                raise UserError(
                    f"task {self._task.name!r}: the vocabulary gives id {max(ids)} in"
                    f" {text[:40]!r}, but the model has vocab_size={self._vocab_size}; the"
                    " vocabulary does not fit the model: set either to the other's"
                )
        return rows

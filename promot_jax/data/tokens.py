"""Text to token ids: the one place where a task meets the vocabulary of a model.

How they stand in a row is `layouts.py`'s. Whatever does not fit is reported to the caller, who
decides: training drops or trims and counts, evaluation shortens and counts; nothing is cut
silently. To shorten an input, whole shots go first, the last shot first (what is left is again a
valid few-shot input, the one with fewer shots); only then tokens are cut, out of the middle: the
end of an input is what says what to do with it ("One sentence summary:").
"""

from collections.abc import Sequence

import numpy as np

from promot_jax.data.examples import Example
from promot_jax.data.layouts import make_layout
from promot_jax.data.lengths import trim
from promot_jax.data.shots import shot_pool
from promot_jax.data.tasks import get_task, is_text, task_info
from promot_jax.data.vocabularies import same_vocabulary
from promot_jax.errors import UserError
from promot_jax.vocabularies import Vocabulary

CUE = 16  # tokens at the end of an input that are cut last


class Encoder:
    """The examples of one task as ids of one model's vocabulary, int32.

    Attributes:
      layout: how the model reads the task's pairs.
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
          shots: the numbers of shots that will be asked for.
          seed: of the choice of shots.
          kind: of the model, which has a layout of its own.

        Raises:
          UserError: ids of another vocabulary than the model's, shots that cannot be had, or a shot
            template that the kind of model cannot read.
        """
        self._task = get_task(task)
        self.vocabulary, self._vocab_size = vocabulary, vocab_size
        self.layout = make_layout(kind, vocabulary, task_info(task).shot_template)
        self._text = is_text(self._task)
        for key in () if self._text else ("inputs", "targets"):
            own = self._task.output_features[key].vocabulary
            if not same_vocabulary(own, vocabulary):
                raise UserError(
                    f"task {task!r} yields {key!r} as ids of {own}, but the model's vocabulary is"
                    f" {vocabulary}; use the task's vocabulary, or a task that yields text"
                )
        self._pool = shot_pool(task, max(shots), seed) if max(shots) > 0 else None

    def targets(self, example: Example) -> np.ndarray:
        """The target's ids, [length]."""
        if self._text:
            return self._checked(
                self.layout.target_ids(example.inputs, example.targets), example.targets
            )
        return self._own_ids("targets", example)

    def inputs(self, example: Example, k: int = 0) -> np.ndarray:
        """The input's ids with k shots, [length], however long."""
        shots = self._pool.draw(example, k) if k else []
        return self._inputs(example, shots)

    def fit_inputs(self, example: Example, k: int, room: int) -> tuple[np.ndarray, int]:
        """The input's ids with at most k shots in at most `room` ids; how many shots it has.

        -1: it has none, and lost tokens too.
        """
        shots = self._pool.draw(example, k) if k else []
        for kept in range(len(shots), -1, -1):
            ids = self._inputs(example, shots[:kept])
            if len(ids) <= room:
                return ids, kept
        return trim(ids, room, CUE), -1

    def _inputs(self, example: Example, shots: Sequence[Example]) -> np.ndarray:
        if not self._text:
            return self._own_ids("inputs", example)
        text = self.layout.before(example.inputs)
        text = self._pool.text(text, shots) if shots else text
        return self._checked(self.layout.input_ids(text), text)

    def _own_ids(self, key: str, example: Example) -> np.ndarray:
        """Of a task that yields ids."""
        ids = np.asarray(example.features[key]).tolist()
        add_eos = self._task.output_features[key].add_eos
        return self._checked(self.layout.ready(ids, add_eos, key == "inputs"), str(ids))

    def _checked(self, ids: Sequence[int], text: str) -> np.ndarray:
        if ids and max(ids) >= self._vocab_size:
            raise UserError(
                f"task {self._task.name!r}: the vocabulary gives id {max(ids)} in {text[:40]!r}, "
                f"but the model has vocab_size={self._vocab_size}; the vocabulary does not fit the"
                " model: set either to the other's"
            )
        return np.asarray(ids, np.int32)

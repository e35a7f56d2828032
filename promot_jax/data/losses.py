"""What texts lose in a vocabulary: counted when rows are read, since nothing else would show it.

A vocabulary writes what it has pieces for. T5's has no `{`, the lab's no accents, most make one
space of two or of a new line, and NFKC reads `x²` as `x2`. A model learns to answer a target that
cannot be written as far as it can be; the loss falls, and no answer ever matches.
"""

from collections import Counter

import numpy as np
from jaxtyping import Int

from promot_jax.data.examples import Example
from promot_jax.data.layouts import Layout
from promot_jax.data.tasks import get_task
from promot_jax.vocabularies import Vocabulary, decode

SHOWN = 12


class Losses:
    """Losses of the rows that were added.

    Attributes:
      rows: how many there are.
      unknown: those whose input has a piece that the vocabulary does not know.
    """

    def __init__(self, task: str, vocabulary: Vocabulary, layout: Layout):
        self._task, self._vocabulary = get_task(task), vocabulary
        self._layout = layout
        self._written: dict[str, str] = {}
        self._changed: Counter[str] = Counter()
        self.rows = self.unknown = 0

    def add(
        self, example: Example, inputs: Int[np.ndarray, " inputs"], targets: Int[np.ndarray, " n"]
    ) -> str:
        """A row, and the ids of its texts; returns the target as the vocabulary writes it."""
        self.rows += 1
        self.unknown += self._vocabulary.unk_id in inputs.tolist()  # None is in none
        text = example.targets
        if text not in self._written:
            self._written[text] = self._layout.answer(decode(self._vocabulary, targets))
        if text in self._changed or not self._same(example, self._written[text]):
            self._changed[text] += 1
        return self._written[text]

    def _same(self, example: Example, written: str) -> bool:
        """Whether the task reads both alike, as most do with spaces around an answer."""
        if written == example.targets:
            return True
        features = dict(example.features)
        read = (
            self._task.postprocess_fn(text, example=features, is_target=False)
            for text in (written, example.targets)
        )
        try:
            return bool(next(read) == next(read))
        except Exception:  # of a foreign function, on a text that is no answer, or of arrays
            return written.strip() == example.targets.strip()

    @property
    def unwritable(self) -> int:
        """Rows whose target comes back as another answer."""
        return self._changed.total()

    def __str__(self) -> str:
        """What to tell people; empty, where nothing is lost."""
        said = []
        if self._changed:
            text = min(self._changed, key=len)
            lost = [set(text) - set(self._written[text]) - {" "} for text in self._changed]
            names = [*map(repr, sorted(set().union(*lost)))]
            names = [*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])]
            names += [] if all(lost) else ["all spaces"]
            said.append(
                f"{self.unwritable} of {self.rows} targets cannot be written with this vocabulary"
                f" and never match exactly: {text[:60]!r} becomes {self._written[text][:60]!r}"
                f" (it cannot write {', '.join(names)})"
            )
        if self.unknown:
            said.append(f"{self.unknown} of {self.rows} inputs have characters unknown to it")
        return "; ".join(said)

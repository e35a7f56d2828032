"""What texts lose in a vocabulary: counted when rows are read, since nothing else would show it.

A vocabulary writes what it has pieces for. T5's has no `{`, the lab's no accents, most make one
space of two or of a new line, and NFKC reads `x²` as `x2`. A model learns to answer a target that
cannot be written as far as it can be; the loss falls, and no answer ever matches.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from promot_jax.data.examples import Example
from promot_jax.data.layouts import Layout
from promot_jax.data.tasks import get_task
from promot_jax.vocabularies import Vocabulary, decode_all

SHOWN = 12
LABELS = 1000  # targets that are remembered: those of a classification come again and again


@dataclasses.dataclass(frozen=True)
class Losses:
    """Sums over rows: those of parts add up, in order, to those of the whole.

    Attributes:
      rows: how many there are.
      unknown: those whose input has a piece that the vocabulary does not know.
      unwritable: those whose target comes back as another answer.
      shortest: the shortest of these targets, and what it becomes; None where there is none.
      characters: what these targets have and what they become has not.
      spaces: whether one of them loses spaces alone.
    """

    rows: int = 0
    unknown: int = 0
    unwritable: int = 0
    shortest: tuple[str, str] | None = None
    characters: frozenset[str] = frozenset()
    spaces: bool = False

    def __add__(self, other: "Losses") -> "Losses":
        shortest = [pair for pair in (self.shortest, other.shortest) if pair is not None]
        return Losses(
            self.rows + other.rows,
            self.unknown + other.unknown,
            self.unwritable + other.unwritable,
            min(shortest, key=lambda pair: len(pair[0]), default=None),
            self.characters | other.characters,
            self.spaces or other.spaces,
        )

    def to_json(self) -> str:
        """As text; `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self) | {"characters": sorted(self.characters)})

    @classmethod
    def from_json(cls, text: str) -> "Losses":
        """The inverse of `to_json`."""
        found = json.loads(text)
        shortest = found["shortest"] and tuple(found["shortest"])
        return cls(**found | {"characters": frozenset(found["characters"]), "shortest": shortest})

    def __str__(self) -> str:
        """What to tell people; empty, where nothing is lost."""
        said = []
        if self.unwritable:
            text, written = self.shortest
            names = [*map(repr, sorted(self.characters))]
            names = [*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])]
            names += ["all spaces"] if self.spaces else []
            said.append(
                f"{self.unwritable} of {self.rows} targets cannot be written with this vocabulary"
                f" and never match exactly: {text[:60]!r} becomes {written[:60]!r}"
                f" (it cannot write {', '.join(names)})"
            )
        if self.unknown:
            said.append(f"{self.unknown} of {self.rows} inputs have characters unknown to it")
        return "; ".join(said)


class Written(NamedTuple):
    """Rows as a vocabulary writes them.

    Attributes:
      targets: the targets' texts.
      unknown: which inputs have an unknown piece.
      changed: which targets come back as another answer.
      losses: of all of them.
    """

    targets: list[str]
    unknown: Bool[np.ndarray, " rows"]
    changed: Bool[np.ndarray, " rows"]
    losses: Losses


class Writer:
    """How a vocabulary writes a task's rows: `writer(examples, inputs, targets)`."""

    def __init__(self, task: str, vocabulary: Vocabulary, layout: Layout):
        self._task, self._vocabulary = get_task(task), vocabulary
        self._layout = layout
        self._labels: dict[str, str] = {}

    def __call__(
        self,
        examples: Sequence[Example],
        inputs: Sequence[Sequence[int]],
        targets: Sequence[list[int]],
    ) -> Written:
        """Rows, and the ids of their texts."""
        written = self._written([example.targets for example in examples], targets)
        unknown = self._vocabulary.unk_id
        has_unknown = [unknown is not None and unknown in ids for ids in inputs]
        changed = [not self._same(*pair) for pair in zip(examples, written, strict=True)]
        lost = [
            (example.targets, text)
            for example, text, differs in zip(examples, written, changed, strict=True)
            if differs
        ]
        characters = [set(target) - set(text) - {" "} for target, text in lost]
        losses = Losses(
            len(examples),
            sum(has_unknown),
            len(lost),
            min(lost, key=lambda pair: len(pair[0]), default=None),
            frozenset().union(*characters),
            not all(characters),
        )
        return Written(written, np.array(has_unknown, bool), np.array(changed, bool), losses)

    def _written(self, texts: Sequence[str], targets: Sequence[list[int]]) -> list[str]:
        known = self._labels
        new = {text: ids for text, ids in zip(texts, targets, strict=True) if text not in known}
        found = map(self._layout.answer, decode_all(self._vocabulary, [*new.values()]))
        fresh = dict(zip(new, found, strict=True))
        if len(known) < LABELS:
            self._labels = known = known | fresh
        return [known[text] if text in known else fresh[text] for text in texts]

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

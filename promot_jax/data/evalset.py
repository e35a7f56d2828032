"""Evaluation sets: every row of a split once, in order, as token ids ready to be answered.

A score must not depend on the model's input length by leaving out what is long, so no row is ever
lost: what is too long loses whole shots, from the last on, and then tokens; it is counted.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from promot_jax.data.examples import Example, load_examples
from promot_jax.data.layouts import Layout
from promot_jax.data.lengths import prompt_room
from promot_jax.data.losses import Losses
from promot_jax.data.tasks import task_info
from promot_jax.data.tokens import Encoder
from promot_jax.errors import UserError
from promot_jax.vocabularies import Vocabulary


@dataclasses.dataclass(frozen=True)
class EvalSet:
    """Rows to evaluate.

    Attributes:
      task: the task's name.
      examples: the rows.
      tokens: for each row its input ids: prompt, shots, input; int32 [at most input_length].
      layout: how the model reads them.
      stop_texts: what ends an answer.
      too_long: rows that lost shots or tokens.
      mean_shots: the mean number of shots that the rows were left with.
      written: the rows' targets as the vocabulary writes them, the best that a model can answer.
      losses: what the rows lose in the vocabulary.
    """

    task: str
    examples: list[Example]
    tokens: list[np.ndarray]
    layout: Layout
    stop_texts: tuple[str, ...]
    too_long: int
    mean_shots: float
    written: list[str]
    losses: Losses

    def digest(self) -> str:
        """Of all that answers and scores depend on: token ids, targets, features."""
        found = hashlib.blake2b(digest_size=8)
        for example, tokens in zip(self.examples, self.tokens, strict=True):
            found.update(tokens.tobytes())
            found.update(repr((example.targets, _plain(example.features))).encode(errors="replace"))
        return found.hexdigest()


def _plain(value: Any) -> Any:
    """A feature whose `repr` says all of it, in one order."""
    if isinstance(value, Mapping):
        return [(key, _plain(value[key])) for key in sorted(value)]
    return value.tolist() if isinstance(value, np.ndarray) else value


def eval_set(
    task: str,
    split: str,
    shots: int,
    vocabulary: Vocabulary,
    vocab_size: int,
    prompt_ids: np.ndarray | None,
    input_length: int,
    limit: int | None = None,
    seed: int = 0,
    kind: str = "encoder_decoder",
) -> EvalSet:
    """The first `limit` rows (None: all) of a split, with `shots` shots and a prompt (None: none).

    Shots come from the train split and depend on (seed, task, example) alone.

    Raises:
      UserError: unknown task or split, a vocabulary that does not fit the model, more shots than
        the task has, a prompt that leaves no room.
    """
    if shots < 0:
        raise UserError(f"shots={shots}: it must not be negative")
    prompt = np.asarray(() if prompt_ids is None else prompt_ids, np.int32)
    room = prompt_room(prompt, input_length)
    examples = load_examples(task, split, limit)
    encoder = Encoder(task, vocabulary, vocab_size, (shots,), seed, kind)
    fitted = encoder.fit_inputs(examples, [shots] * len(examples), room)
    tokens = [np.concatenate([prompt, ids], dtype=np.int32) for ids, _ in fitted]
    kept = np.array([shots for _, shots in fitted])
    too_long, mean_shots = int(np.sum(kept < shots)), float(np.maximum(kept, 0).mean())
    inputs, targets = [ids for ids, _ in fitted], encoder.targets(examples)
    written, _, _, losses = encoder.writer(examples, inputs, targets)
    stops = encoder.layout.stop_texts(task_info(task).separator, (e.targets for e in examples))
    return EvalSet(
        task, examples, tokens, encoder.layout, stops, too_long, mean_shots, written, losses
    )

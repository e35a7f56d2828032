"""What a tuned model is measured on besides its answers: two losses that move before answers do.

- General text: nats a token on passages of prose, against the base model's on the same passages.
- Label mass: P("True") + P("False") as the first token of an answer to a held-out question. The
  base gives it next to nothing; where tuning leaks, it rises long before an answer is "True".

Both are log-likelihoods of a few tokens behind an input, so what measures them is one function:
`score(inputs, targets) -> log P(target | input)`, for token ids, [rows].
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from promot_jax.data import eval_set
from promot_jax.data.layouts import make_layout
from tasks.general_text import PASSAGES
from tasks.real_nli import LABELS

Ids = np.ndarray
Score = Callable[[Sequence[Ids], Sequence[Ids]], Sequence[float]]
UNLIMITED = 2**30


class Pairs(NamedTuple):
    """Inputs and what is scored behind them."""

    inputs: list[Ids]
    targets: list[Ids]


def text_pairs(vocabulary) -> Pairs:
    """Each passage's first token (with BOS, where there is one), and the rest of it."""
    bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    ids = [[*bos, *vocabulary.encode(text)] for text in PASSAGES]
    first = len(bos) + 1
    return Pairs(
        [np.array(row[:first], np.int32) for row in ids],
        [np.array(row[first:], np.int32) for row in ids],
    )


def label_pairs(
    kind: str, vocabulary, vocab_size: int, task: str, shots: int, limit: int | None
) -> Pairs:
    """The task's inputs, first all with " True" behind them, then all with " False"."""
    layout = make_layout(kind, vocabulary)
    tokens = eval_set(
        task, "validation", shots, vocabulary, vocab_size, None, UNLIMITED, limit, kind=kind
    ).tokens
    firsts = [layout.target_ids("", label)[0] for label in LABELS]
    return Pairs(
        tokens * len(LABELS),
        [np.array([first], np.int32) for first in firsts for _ in tokens],
    )


def text_losses(pairs: Pairs, score: Score) -> list[float]:
    """Nats a token, for each passage."""
    scores = score(*pairs)
    return [-value / len(ids) for value, ids in zip(scores, pairs.targets, strict=True)]


def label_mass(pairs: Pairs, score: Score) -> float:
    """The mean over inputs of P("True") + P("False")."""
    return sum(map(math.exp, score(*pairs))) * len(LABELS) / len(pairs.inputs)


def paired(losses: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """The mean difference to the base, and its standard error over the passages."""
    differences = [a - b for a, b in zip(losses, base, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5

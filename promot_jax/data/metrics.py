"""Metrics of text tasks: functions (targets, predictions) -> {name: value}, as SeqIO has them.

Corpus BLEU is no mean over rows; still, of each row it needs only a few counts, and of a corpus
their sums. Metrics of that kind are `Counted`: called, they give what scoring the corpus gives, and
an interval costs sums of counts in the place of scoring hundreds of resampled corpora.

A signature says what a value depends on besides the texts: tokenisation, normalisation, versions.
It goes into the results beside the value.
"""

import collections
import dataclasses
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Counts = Float[np.ndarray, "rows counts"]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A metric function that needs a few numbers of each row, and of a corpus their sums.

    Attributes:
      name: for messages and signatures.
      counts: (targets, predictions) -> the numbers of each row, [rows, counts].
      score: sums over rows [counts] -> {name: value}.
      signature: () -> what the values depend on besides the texts.
    """

    name: str
    counts: Callable[[Sequence[Any], Sequence[str]], Counts]
    score: Callable[[Float[np.ndarray, " counts"]], dict[str, float]]
    signature: Callable[[], str]

    def __call__(self, targets: Sequence[Any], predictions: Sequence[str]) -> dict[str, float]:
        return self.score(self.counts(targets, predictions).sum(axis=0))


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """The share of predictions that equal their target, 0 to 1."""
    return {"accuracy": float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))}


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """The same under the name that is usual for free answers."""
    return {"exact_match": accuracy(targets, predictions)["accuracy"]}


def _answers(name: str, punctuation: str, instead: str) -> Counted:
    """Exact match and token F1, 0 to 1, each with the best of a row's answers.

    A target is a text, or a sequence of them. Both sides are normalised: lower case, punctuation
    replaced, the articles a, an, the left out, and words separated by one space.
    """
    replaced = str.maketrans(dict.fromkeys(punctuation, instead))

    def words(text: str) -> list[str]:
        return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(replaced)).split()

    def row(target: str | Sequence[str], prediction: str) -> tuple[float, float, float]:
        said = words(prediction)
        answers = [words(a) for a in ([target] if isinstance(target, str) else target)]
        return float(said in answers), max(_f1(answer, said) for answer in answers), 1.0

    return Counted(
        name,
        lambda targets, predictions: np.array(
            [row(t, p) for t, p in zip(targets, predictions, strict=True)]
        ),
        lambda sums: {"exact_match": sums[0] / sums[2], "f1": sums[1] / sums[2]},
        lambda: f"normalization:{name}|answers:best",
    )


def _f1(answer: Sequence[str], said: Sequence[str]) -> float:
    """Token F1; 0 where one side has no words, as in the data sets' own scripts."""
    common = (collections.Counter(answer) & collections.Counter(said)).total()
    return 2 * common / (len(answer) + len(said)) if common else 0.0


# The normalisations of the data sets' own evaluation scripts.
squad = _answers("squad", string.punctuation, "")
trivia_qa = _answers("trivia_qa", string.punctuation + "‘’´`_", " ")


def _bleu_counts(targets: Sequence[str], predictions: Sequence[str]) -> Counts:
    from sacrebleu.metrics import BLEU  # takes a second, which other tasks need not wait for

    # The score of a sentence is not used, only its counts; effective order silences a warning.
    metric = BLEU(effective_order=True)
    rows = [metric.sentence_score(p, [t]) for t, p in zip(targets, predictions, strict=True)]
    return np.array([[*r.counts, *r.totals, r.sys_len, r.ref_len] for r in rows])


def _bleu_score(sums: Float[np.ndarray, " counts"]) -> dict[str, float]:
    from sacrebleu.metrics import BLEU

    sums = [int(n) for n in sums]
    order = (len(sums) - 2) // 2
    correct, total = sums[:order], sums[order:-2]
    return {"bleu": BLEU.compute_bleu(correct, total, *sums[-2:], smooth_method="exp").score}


def _bleu_signature() -> str:
    from sacrebleu.metrics import BLEU

    metric = BLEU()
    metric.corpus_score([""], [[""]])  # the number of references is part of it
    return str(metric.get_signature())


# Corpus BLEU as sacrebleu's defaults have it, 0 to 100 (Papineni et al. 2002, Post 2018).
bleu = Counted("bleu", _bleu_counts, _bleu_score, _bleu_signature)


def _rouge2_counts(targets: Sequence[str], predictions: Sequence[str]) -> Counts:
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds

    scorer = RougeScorer(["rouge2"])
    pairs = zip(targets, predictions, strict=True)
    return np.array([[scorer.score(t, p)["rouge2"].fmeasure, 1.0] for t, p in pairs])


def _rouge2_signature() -> str:
    from importlib.metadata import version

    return f"fmeasure:mean|stem:no|rouge-score:{version('rouge-score')}"


# ROUGE-2's F measure, the rows' mean, 0 to 1 (Lin 2004): nothing drawn at random, as
# rouge-score's own aggregator does.
rouge2 = Counted(
    "rouge2", _rouge2_counts, lambda sums: {"rouge2": sums[0] / sums[1]}, _rouge2_signature
)

METRICS: dict[str, Callable] = {"accuracy": accuracy, "exact_match": exact_match} | {
    metric.name: metric for metric in (squad, trivia_qa, bleu, rouge2)
}

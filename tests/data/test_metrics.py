"""Metrics: known values of the normalisations, and counts that give what the libraries give."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax.data import bleu, rouge2, squad, trivia_qa
from promot_jax.evaluation import intervals

words = st.lists(st.sampled_from("the cat sat on a mat, and slept.".split()), max_size=9)
texts = words.map(" ".join)
corpora = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("metric", "answers", "said", "exact", "f1"),
    [
        (squad, ["The Beatles!"], "beatles", 1, 1),
        (squad, ["O'Neill"], "oneill", 1, 1),
        (trivia_qa, ["O'Neill"], "oneill", 0, 0),
        (trivia_qa, ["O'Neill"], "o neill", 1, 1),
        (trivia_qa, ["‘rock_and_roll’"], "Rock and Roll", 1, 1),
        (squad, "Mark Twain", "Samuel Twain", 0, 0.5),
        (squad, ["Mark Twain", "Twain"], "Samuel Twain", 0, 2 / 3),
        (squad, ["no", "Twain"], "twain", 1, 1),
        (squad, ["the"], "", 1, 0),
        (trivia_qa, ["a b b"], "b b b", 0, 2 * 2 / 5),
    ],
)
def test_answers(metric, answers, said, exact, f1):
    assert metric([answers], [said]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_several_rows_have_their_mean():
    found = squad([["a b"], ["c"]], ["b", "d"])
    assert found == {"exact_match": 0.5, "f1": 0.5}
    assert squad.signature() == "normalization:squad|answers:best"


@settings(deadline=None, max_examples=40)
@given(corpora)
def test_bleu_is_sacrebleu_s_of_the_corpus(pairs):
    targets, predictions = zip(*pairs, strict=True)
    expected = sacrebleu.corpus_bleu(predictions, [targets])
    assert bleu(targets, predictions) == {"bleu": expected.score}
    assert "tok:13a|smooth:exp|version:" in bleu.signature()


def test_rouge2_is_the_mean_of_f_measures():
    """By hand: 1 of 3 and 1 of 2 bigrams in common is F 0.4; then 1; then no bigram at all."""
    pairs = [("a b c d", "x a b"), ("p q", "p q"), ("one", "one")]
    targets, predictions = zip(*pairs, strict=True)
    assert rouge2(targets, predictions)["rouge2"] == pytest.approx((0.4 + 1 + 0) / 3)
    assert rouge2(targets, predictions) == rouge2(targets, predictions)
    assert rouge2.signature().startswith("fmeasure:mean|stem:no|rouge-score:")


@pytest.mark.parametrize("metric", [bleu, rouge2])
def test_counts_give_the_intervals_that_scoring_resampled_corpora_gives(metric):
    rng = np.random.default_rng(3)
    vocabulary = [f"w{i}" for i in range(40)]
    targets = [" ".join(rng.choice(vocabulary, 10)) for _ in range(20)]
    predictions = [" ".join(w for w in t.split() if rng.random() < 0.8) for t in targets]

    def plain(targets, predictions):
        return metric(targets, predictions)

    (counted,), (scored,) = (
        intervals(function, targets, predictions, seed=5).values() for function in (metric, plain)
    )
    assert counted[:3] == pytest.approx(scored[:3], rel=1e-12)
    assert counted.per_row == pytest.approx(scored.per_row)
    assert counted.low < counted.value < counted.high

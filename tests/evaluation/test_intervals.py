"""Intervals: known numbers, and what must hold for any metric function."""

import math

import numpy as np
import pytest
import sacrebleu
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax.evaluation import interval, intervals
from promot_jax.evaluation.intervals import scalars

TRUE, FALSE = "True", "False"


def accuracy(targets, predictions):
    return {"accuracy": float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))}


def percent(targets, predictions):
    return {"percent": 100 * accuracy(targets, predictions)["accuracy"]}


def overlap(targets, predictions):
    """A mean metric that is not 0 or 1: the share of a target's words that the output has."""
    pairs = zip(targets, predictions, strict=True)
    shares = [len(set(t.split()) & set(p.split())) / len(set(t.split())) for t, p in pairs]
    return {"overlap": float(np.mean(shares))}


def bleu(targets, predictions):
    return {"bleu": sacrebleu.corpus_bleu(predictions, [targets]).score}


def f1(targets, predictions):
    """F1 of the answer True, as a corpus has it: undefined where nobody says True."""
    pairs = list(zip(targets, predictions, strict=True))
    hits = sum(t == p == TRUE for t, p in pairs)
    named = sum(t == TRUE for t, _ in pairs) + sum(p == TRUE for _, p in pairs)
    return {"f1": 2 * hits / named if named else math.nan}


def needs_two(targets, predictions):
    """A metric that refuses single rows: the correlation of lengths."""
    if len(targets) < 2:
        raise ValueError("at least two rows")
    lengths = [len(t) for t in targets], [len(p) for p in predictions]
    return {"r": float(np.corrcoef(*lengths)[0, 1])}


def answers(right, n):
    return [TRUE] * n, [TRUE] * right + [FALSE] * (n - right)


# Wilson (1927) at 95 %, as statsmodels' proportion_confint(method="wilson") has them.
@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),
        (50, 100, 0.4038315, 0.5961685),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 1, 0.2065493, 1.0),
    ],
)
def test_accuracy_has_wilsons_interval(right, n, low, high):
    found = interval(accuracy, *answers(right, n), "accuracy")
    assert found[:3] == pytest.approx((right / n, low, high), abs=1e-6)
    assert found.per_row == [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize("right", [0, 3, 20])
def test_a_percentage_is_an_accuracy_times_100(right):
    pair = answers(right, 20)
    found = intervals(percent, *pair, units={"percent": 100.0})["percent"]
    expected = interval(accuracy, *pair, "accuracy")
    assert found[:3] == pytest.approx([100 * x for x in expected[:3]])


def test_a_mean_of_shares_is_bootstrapped():
    rng = np.random.default_rng(0)
    targets = ["a b c d e f g h i j"] * 400
    predictions = [" ".join(w for w in t.split() if rng.random() < 0.6) for t in targets]
    found = interval(overlap, targets, predictions, "overlap")
    half_width = 1.96 * np.std(found.per_row) / math.sqrt(400)
    assert found.value - found.low == pytest.approx(half_width, rel=0.15)
    assert found.high - found.value == pytest.approx(half_width, rel=0.15)
    assert len(set(found.per_row)) > 2


def test_rows_that_all_agree_on_a_part_have_no_spread():
    found = interval(overlap, ["a b"] * 5, ["a c"] * 5, "overlap")
    assert found == (0.5, 0.5, 0.5, [0.5] * 5)


def test_bleu_is_resampled_as_a_corpus():
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(50)]
    targets = [" ".join(rng.choice(words, 12)) for _ in range(25)]
    predictions = [" ".join(w for w in t.split() if rng.random() < 0.8) for t in targets]
    found = interval(bleu, targets, predictions, "bleu")
    assert found.value == bleu(targets, predictions)["bleu"]
    assert np.mean(found.per_row) != pytest.approx(found.value, rel=1e-3)
    assert 0 < found.low < found.value < found.high < 100
    assert found.high - found.low < 30


def test_bleu_of_nothing_right_is_not_known_to_be_zero():
    targets = ["a b c d e"] * 20
    found = intervals(bleu, targets, ["x y z"] * 20, units={"bleu": 100.0})["bleu"]
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(16.1125, abs=1e-3)


def test_a_metric_without_single_rows_has_an_interval_and_no_scores():
    rng = np.random.default_rng(2)
    targets = ["x" * int(n) for n in rng.integers(1, 30, 40)]
    predictions = [t + "y" * int(rng.integers(0, 10)) for t in targets]
    found = interval(needs_two, targets, predictions, "r")
    assert interval(needs_two, targets, predictions, "r", seed=7)[1:3] != found[1:3]
    assert found.per_row is None
    assert 0.5 < found.low < found.value < found.high <= 1


def test_a_metric_undefined_on_most_resamples_has_no_interval():
    found = interval(f1, [FALSE] * 5, [FALSE] * 5, "f1")
    assert all(math.isnan(x) for x in found[:3])


def test_each_row_is_asked_once_for_all_values():
    sizes = []

    def several(targets, predictions):
        sizes.append(len(targets))
        return accuracy(targets, predictions) | percent(targets, predictions)

    found = intervals(several, *answers(3, 7))
    assert list(found) == ["accuracy", "percent"]
    assert sorted(sizes) == [1] * 7 + [7]


def test_scalars_are_numbers_of_any_make():
    values = {
        "python": 1,
        "numpy": np.float32(0.5),
        "array": np.array(2.0),
        "seqio": seqio.metrics.Scalar(3),
        "text": seqio.metrics.Text("a"),
        "string": "1.0",
        "vector": np.ones(3),
        "none": None,
    }
    assert scalars(values) == {"python": 1.0, "numpy": 0.5, "array": 2.0, "seqio": 3.0}


def test_targets_and_predictions_must_pair_up():
    with pytest.raises(ValueError, match="zip"):
        interval(lambda targets, predictions: {"x": 1.0}, ["a", "b"], ["a"], "x")


texts = st.lists(st.sampled_from(["a", "b", "a b"]), min_size=1, max_size=3).map(" ".join)
labels = st.sampled_from([TRUE, FALSE])


def pairs(items):
    return st.lists(st.tuples(items, items), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(
    st.one_of(
        st.tuples(st.sampled_from([accuracy, percent, f1]), pairs(labels)),
        st.tuples(st.just(overlap), pairs(texts)),
    ),
    st.integers(0, 3),
)
def test_the_value_lies_in_its_interval_and_the_seed_decides(case, seed):
    metric, rows = case
    targets, predictions = zip(*rows, strict=True)
    (found,) = intervals(metric, targets, predictions, seed).values()
    again = intervals(metric, targets, predictions, seed)
    assert repr(again) == repr({metric.__name__: found})
    if math.isfinite(found.low):
        assert found.low <= found.value <= found.high
    assert found.per_row is None or len(found.per_row) == len(rows)

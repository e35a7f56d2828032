"""Averages keep what they must: range, order, and the difference between seeds and tasks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from promot_jax.report.scores import Score, over_seeds, over_tasks, proportion

UNIT = st.floats(0, 1)
SCORES = st.tuples(UNIT, UNIT, UNIT).map(sorted).map(lambda t: Score(t[1], t[0], t[2], 50))
PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), SCORES), min_size=1, max_size=8)


@given(PAIRS)
def test_mean_over_tasks_is_plain_and_its_interval_stays_in_range(pairs):
    mean = over_tasks(pairs)
    assert mean.value == pytest.approx(sum(score.value for _, score in pairs) / len(pairs))
    assert -1e-9 <= mean.low <= mean.value + 1e-9
    assert mean.value - 1e-9 <= mean.high <= 1 + 1e-9


def test_different_tasks_add_in_quadrature_and_shots_of_one_task_do_not():
    score = Score(0.5, 0.4, 0.6, 100)
    independent = over_tasks([(task, score) for task in "abcd"])
    dependent = over_tasks([("a", score)] * 4)
    assert (independent.low, independent.high) == pytest.approx((0.45, 0.55))
    assert (dependent.low, dependent.high) == pytest.approx((0.4, 0.6))
    assert (independent.n, dependent.n) == (400, 100)


def test_unknown_interval_of_one_task_makes_the_mean_s_unknown():
    mean = over_tasks([("a", Score(0.5, 0.4, 0.6)), ("b", Score(0.7))])
    assert mean.value == pytest.approx(0.6)
    assert math.isnan(mean.low) and math.isnan(mean.high)


def test_over_seeds():
    assert over_tasks([]) is None and over_seeds([None]) is None
    alone = Score(0.5, 0.4, 0.6, 10)
    assert over_seeds([alone, None]) is alone
    several = over_seeds([Score(0.4, n=10), Score(0.6, n=10)])
    assert several.seeds == 2
    assert several.value == pytest.approx(0.5)
    assert several.sd == pytest.approx(math.sqrt(0.02))


@given(st.integers(1, 400), st.data())
def test_proportion_agrees_with_scipy(n, data):
    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    score = proportion(hits / n, n)
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= score.low <= score.value <= score.high <= 1

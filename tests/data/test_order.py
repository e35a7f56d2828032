import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax.data.order import PERIOD, Epochs, Mix, shares
from promot_jax.errors import UserError

rates = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20)


@given(st.integers(1, 50), st.integers(0, 10**6), st.integers(0, 3))
def test_each_unit_once_in_every_epoch(n, epoch, seed):
    epochs = Epochs(n, seed, "task")
    assert sorted(epochs(epoch * n + i) for i in range(n)) == list(range(n))


def test_epochs_differ_from_one_another_and_between_seeds_and_tasks():
    orders = [
        [Epochs(30, seed, name)(i) for i in range(first, first + 30)]
        for seed, name, first in [(0, "a", 0), (0, "a", 30), (1, "a", 0), (0, "b", 0)]
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_places_in_any_order():
    epochs = Epochs(7, 0, "task")
    forward = [epochs(i) for i in range(100)]
    assert [epochs(i) for i in reversed(range(100))] == forward[::-1]


@given(rates)
def test_shares_are_proportional_and_no_task_starves(rates):
    counts = shares(np.array(rates))
    assert counts.sum() == PERIOD
    assert counts.min() >= 1
    exact = np.array(rates) / sum(rates) * PERIOD
    assert np.abs(counts - exact).max() <= len(rates)


@given(rates, st.integers(0, 5), st.integers(0, 10**9))
def test_mix_counts_the_places_a_task_had_before(rates, seed, start):
    mix = Mix({f"task{i}": rate for i, rate in enumerate(rates)}, seed)
    places = [mix(i) for i in range(start, start + 2 * PERIOD)]
    for name in {name for name, _ in places}:
        before = [count for found, count in places if found == name]
        assert before == list(range(before[0], before[0] + len(before)))


def test_mix_starts_at_nothing():
    mix = Mix({"a": 1, "b": 2}, 0)
    first = dict(map(mix, reversed(range(50))))
    assert first == {"a": 0, "b": 0}


def test_bad_rates():
    with pytest.raises(UserError, match="positive"):
        Mix({"a": 1.0, "b": -1.0}, 0)
    with pytest.raises(UserError, match="at most 1024"):
        shares(np.ones(1025))

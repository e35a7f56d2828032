"""The benchmark's statistics on worlds whose truth is known."""

import numpy as np
import pytest

from bench.forgetting.statistics import at_level, compare, frontier, holm, level
from bench.forgetting.table import PAIRS

ROWS, TASKS = 120, 4
LABELS = np.repeat(np.arange(TASKS), ROWS // TASKS)
ONE_BASE = np.zeros(5)
THREE_BASES = np.repeat(np.arange(3), 5)
EIGHT_PAIRS = np.array([base for base, _ in PAIRS[1]["lab_nli"]])  # of the benchmark's main methods


def world(rng, bases, methods=2, base=0.0, pair=0.05, row=0.15, skew=False):
    """Answers [methods, pairs, rows], 0 or 1, of methods that are equal over all bases and seeds.

    Each method has luck of its own with each base, pair and row: standard deviations of a
    probability around 0.6. With `skew` the pairs' luck is mostly small and sometimes a cliff.
    """
    of_pair = rng.gamma(0.7, size=(methods, len(bases), 1)) if skew else 0.0
    normal = lambda *shape: rng.standard_normal((methods, *shape))  # noqa: E731
    of_base = base * normal(5, 1)[:, bases.astype(int)]
    spread = -pair * of_pair if skew else pair * normal(len(bases), 1)
    chance = 0.6 + of_base + spread + row * (normal(1, ROWS) + rng.standard_normal((1, 1, ROWS)))
    return (rng.random((methods, len(bases), ROWS)) < np.clip(chance, 0, 1)).astype(float)


WORLDS = {
    "five seeds": (ONE_BASE, {}),
    "five seeds, skewed": (ONE_BASE, {"skew": True}),
    "rows are all there is": (ONE_BASE, {"pair": 0.0}),
    "answers are all there is": (ONE_BASE, {"pair": 0.0, "row": 0.0}),
    "three bases": (THREE_BASES, {}),
    "three bases that differ": (THREE_BASES, {"base": 0.05}),
    "three bases that differ a little": (THREE_BASES, {"base": 0.02}),
    "eight pairs of five bases": (EIGHT_PAIRS, {}),
    "eight pairs of five bases that differ": (EIGHT_PAIRS, {"base": 0.05}),
    "eight pairs of five bases that differ much": (EIGHT_PAIRS, {"base": 0.1}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_an_interval_holds_the_truth_as_often_as_it_says(name):
    bases, how = WORLDS[name]
    rng = np.random.default_rng(0)
    found = [compare(*world(rng, bases, **how), bases, LABELS) for _ in range(500)]
    held = np.mean([each.low <= 0 <= each.high for each in found])
    assert 0.90 <= held <= 0.98
    assert not any(each.low <= 0 <= each.high and each.p < 0.05 for each in found)


@pytest.mark.parametrize(
    "name",
    [
        "five seeds",
        "three bases",
        "three bases that differ a little",
        "eight pairs of five bases",
        "eight pairs of five bases that differ",
        "eight pairs of five bases that differ much",
    ],
)
def test_equal_methods_are_seldom_told_apart(name):
    """Six methods that equal a seventh: Holm's p-values find any different in 5 % of worlds."""
    (bases, how), rng, alarms, worlds = WORLDS[name], np.random.default_rng(1), 0, 200
    for _ in range(worlds):
        first, *others = world(rng, bases, methods=7, **how)
        values = [compare(each, first, bases, LABELS).p for each in others]
        alarms += min(holm(values)) < 0.05
    assert alarms <= 0.05 * worlds


def plain_bootstrap(rng, a, b, draws=400):
    """The percentile interval of pairs drawn outside and rows inside."""
    differences = a - b
    pairs, rows = differences.shape
    outer = rng.multinomial(pairs, np.full(pairs, 1 / pairs), draws) / pairs
    inner = rng.multinomial(rows, np.full(rows, 1 / rows), draws) / rows
    return np.percentile(((outer @ differences) * inner).sum(axis=1), [2.5, 97.5])


def test_the_plain_bootstrap_would_not():
    """Why it is not what `compare` does: too narrow where pairs differ, too wide where answers."""
    held = {}
    for name, how in {"narrow": {"pair": 0.15, "row": 0.0}, "wide": {"pair": 0, "row": 0}}.items():
        rng, bases = np.random.default_rng(2), np.zeros(5)
        drawn = (plain_bootstrap(rng, *world(rng, bases, **how)) for _ in range(300))
        held[name] = np.mean([low <= 0 <= high for low, high in drawn])
    assert held["narrow"] < 0.90
    assert held["wide"] > 0.98


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(3)
    a, b = world(rng, THREE_BASES)
    found = compare(np.minimum(a + (rng.random(a.shape) < 0.5), 1), b, THREE_BASES, LABELS)
    assert found.low > 0
    assert found.p < 0.05


def test_tasks_count_the_same_however_many_rows_they_have():
    a = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0]])
    found = compare(a, np.zeros_like(a), [0, 0], ["one", "two", "two", "two"])
    assert found.mean == 0.5
    assert (found.low, found.high) == (0.5, 0.5)


def test_one_pair_alone_has_no_interval():
    assert compare(np.ones((1, 4)), np.zeros((1, 4)), ["base"], ["task"] * 4)[1:4] == (None,) * 3


def test_equal_answers_are_no_difference():
    a = np.ones((5, 4))
    assert compare(a, a, np.zeros(5), np.zeros(4))[:4] == (0, 0, 0, 1)


def test_the_frontier_leaves_out_what_is_beaten():
    targets = np.array([0.5, 0.9, 0.9, 0.7, 0.6])
    kept = np.array([0.9, 0.3, 0.4, 0.8, 0.7])
    assert frontier(targets, kept) == [0, 3, 2]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (0.8, {3: 0.5, 2: 0.5}),  # between neighbours
        (0.7, {3: 1.0}),  # on a point
        (0.1, {0: 1.0}),  # a model that reaches more, never one that was not made
        (0.91, None),  # not reached
    ],
)
def test_a_level_is_read_between_neighbours_and_never_beyond(at, expected):
    targets = np.array([0.5, 0.9, 0.9, 0.7, 0.6])
    kept = np.array([0.9, 0.3, 0.4, 0.8, 0.7])
    found = at_level(targets, kept, at)
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_level_is_a_share_of_the_best_rates_mean():
    assert level({1e-4: [0.9, 0.7], 3e-4: [1.0, 0.8]}, 0.9) == pytest.approx(0.81)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


def test_many_points_are_read_where_they_were_lucky():
    """How much: of 4 points on one true line the target is 1 row in 100 lower, of 20 it is 2 to 3.

    100 validation rows of the target are seen, and 800 of what is kept.
    """
    at, found = 0.93, {}
    for points in (4, 20):
        rng, true, read = np.random.default_rng(4), np.linspace(0.85, 0.99, points), []
        for _ in range(400):
            targets, kept = rng.binomial(100, true) / 100, rng.binomial(800, 1 - true / 2) / 800
            weights = at_level(targets, kept, at)
            read.append(sum(share * true[i] for i, share in weights.items()))
        found[points] = at - np.mean(read)
    assert found == pytest.approx({4: 0.009, 20: 0.025}, abs=0.005)

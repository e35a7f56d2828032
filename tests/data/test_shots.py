from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.data.examples import Example
from promot_jax.data.shots import ShotPool, pick, shot_pool
from promot_jax.errors import UserError


def example(text):
    return Example("task", text, f"answer to {text}", {})


def pool(n, seed=0, info=data.TaskInfo()):  # noqa: B008
    return ShotPool("task", [example(f"q{i}") for i in range(n)], info, seed)


@given(st.integers(2, 60), st.integers(0, 100), st.integers(0, 9))
def test_shots_are_a_prefix_and_never_the_example(n, number, seed):
    asked = example(f"q{number}")
    most = n - (number < n)
    draws = [pool(n, seed).draw(asked, k) for k in range(most + 1)]
    for k, shots in enumerate(draws):
        assert shots == draws[-1][:k]
    assert len({s.inputs for s in draws[-1]}) == most
    assert asked.inputs not in {s.inputs for s in draws[-1]}


def test_rows_with_the_same_input_are_left_out():
    rows = [Example("task", "same", str(i), {}) for i in range(50)] + [example("other")]
    shots = ShotPool("task", rows, data.TaskInfo(), 0)
    assert shots.draw(Example("task", "same", "x", {}), 1) == [rows[-1]]
    with pytest.raises(UserError, match="only 1 of the 51 rows"):
        shots.draw(rows[0], 2)


def test_shots_depend_on_seed_task_and_example():
    base = pool(1000).draw(example("a"), 3)
    assert pool(1000).draw(example("a"), 3) == base
    assert pool(1000, seed=1).draw(example("a"), 3) != base
    assert pool(1000).draw(example("b"), 3) != base
    assert pool(1000).draw(Example("other", "a", "answer to a", {}), 3) != base


def test_shots_do_not_change_between_machines_and_releases():
    assert [s.inputs for s in pool(1000).draw(example("a"), 3)] == ["q992", "q392", "q269"]


def test_draws_are_uniform():
    shots = pool(10)
    counts = Counter(s.inputs for i in range(3000) for s in shots.draw(example(f"x{i}"), 2))
    assert set(counts) == {f"q{i}" for i in range(10)}
    assert 480 < min(counts.values()) < max(counts.values()) < 720
    picked = Counter(pick((0, 1, 2), 0, example(f"x{i}")) for i in range(3000))
    assert 900 < min(picked.values()) < max(picked.values()) < 1100


def test_text():
    info = data.TaskInfo(separator=" | ", shot_template="Q {inputs} A {targets}")
    shots = [Example("task", "{a}", "1", {}), Example("task", "b", "2", {})]
    text = pool(3, info=info).text("c", shots)
    assert text == "Q {a} A 1 | Q b A 2 | c"


def test_pool_is_the_train_split(text_task, pairs, source):
    name = text_task(pairs(2100), [("v", "w")])
    assert len(shot_pool(name, 1, 0).rows) == 2000
    rows = source({"validation": {"inputs": ["a"], "targets": ["b"]}})
    data.add_task("no_train_split", rows, [], [])
    with pytest.raises(UserError, match="no 'train' split"):
        shot_pool("no_train_split", 1, 0)

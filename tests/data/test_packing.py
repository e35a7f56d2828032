import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax.data.packing import OPEN_PACKS, pack

lengths = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=400)


@given(lengths, st.integers(0, 5))
def test_every_example_is_in_one_pack_and_packs_fit(lengths, seed):
    packs = pack(np.array(lengths), (20, 8), np.random.default_rng(seed))
    assert sorted(i for p in packs for i in p) == list(range(len(lengths)))
    for p in packs:
        assert len(p) and (np.array(lengths)[p].sum(axis=0) <= (20, 8)).all()


def first_fit(lengths, room, rng):
    """As simply as it can be said."""
    packs, left = [], [[-1, -1, None] for _ in range(OPEN_PACKS)]
    for i in rng.permutation(len(lengths)):
        x, y = lengths[i]
        slot = next((s for s in left if s[0] >= x and s[1] >= y), None)
        if slot is None:
            slot = min(left, key=lambda s: s[0] + s[1])
            packs.append([])
            slot[:] = [*room, packs[-1]]
        slot[0], slot[1] = slot[0] - x, slot[1] - y
        slot[2].append(i)
    return packs


@given(st.integers(1, 2000), st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_the_first_open_pack_that_has_room(n, seed):
    lengths = np.random.default_rng(n).integers(0, (21, 9), (n, 2))
    packs = pack(lengths, (20, 8), np.random.default_rng(seed))
    expected = first_fit(lengths.tolist(), (20, 8), np.random.default_rng(seed))
    assert [p.tolist() for p in packs] == expected


def test_packs_are_dense_and_reproducible():
    lengths = np.random.default_rng(0).integers(1, 20, (3000, 2))
    packs = pack(lengths, (64, 64), np.random.default_rng(1))
    again, other = (pack(lengths, (64, 64), np.random.default_rng(seed)) for seed in (1, 2))
    assert np.array_equal(packs.order, again.order) and np.array_equal(packs.ends, again.ends)
    assert not np.array_equal(packs.order, other.order)
    bound = lengths.sum(axis=0).max() / 64
    assert len(packs) < 1.1 * bound

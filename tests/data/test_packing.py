import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promot_jax.data.packing import pack

lengths = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=400)


@given(lengths, st.integers(0, 5))
def test_every_example_is_in_one_pack_and_packs_fit(lengths, seed):
    packs = pack(np.array(lengths), (20, 8), np.random.default_rng(seed))
    assert sorted(i for p in packs for i in p) == list(range(len(lengths)))
    assert all(packs)
    for p in packs:
        assert (np.array(lengths)[p].sum(axis=0) <= (20, 8)).all()


def test_packs_are_dense_and_reproducible():
    lengths = np.random.default_rng(0).integers(1, 20, (3000, 2))
    packs = pack(lengths, (64, 64), np.random.default_rng(1))
    assert packs == pack(lengths, (64, 64), np.random.default_rng(1))
    assert packs != pack(lengths, (64, 64), np.random.default_rng(2))
    bound = lengths.sum(axis=0).max() / 64
    assert len(packs) < 1.1 * bound

"""Near matches and shortages, as every command line message uses them."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax.errors import UserError, near, shortage

NAMES = ["prompt_tuning", "finetune", "promot", "promot_joint"]


def test_user_error_is_a_value_error():
    with pytest.raises(ValueError, match="^steps = 0: set at least 1$"):
        raise UserError("steps = 0: set at least 1")


def test_near_names_the_closest_first():
    assert near("promt", NAMES).startswith(" (did you mean 'promot'")
    assert near("promot_join", NAMES).startswith(" (did you mean 'promot_joint'")


def test_near_says_nothing_where_nothing_resembles():
    assert near("zzz", NAMES) == ""
    assert near("promot", []) == ""


@given(st.text(), st.lists(st.text(), max_size=5))
def test_near_offers_only_candidates(name, candidates):
    offered = near(name, candidates)
    assert offered == "" or any(repr(c) in offered for c in candidates)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "BATCH_SIZE"),
        (ValueError('RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database'), "make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (ValueError("a damaged file"), None),
    ],
)
def test_shortage(error, says):
    """However deep: Orbax and JAX raise errors of errors."""
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("something failed") from inner
    except ValueError as outer:
        found = shortage(outer)
    assert found is None if says is None else says in found

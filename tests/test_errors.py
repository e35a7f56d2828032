"""Near matches, as every command line message uses them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax.errors import UserError, near

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

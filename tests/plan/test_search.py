"""Settings that fit, found by planning with them: for chips that have just enough for some."""

from pathlib import Path

import pytest

FSDP = {"fsdp": -1}
# What each search is to find: `search_run.py` gives the chips what this takes, and no more.
FOUND = {
    "step": {"remat": True, "MESH": FSDP, "ACCUMULATE": 2},
    "mesh": {"remat": True, "MESH": FSDP},
    "evaluation": {"MESH": FSDP, "EVAL_BATCH_SIZE": 16},  # remat and parts make none smaller
    "uneven": {"ACCUMULATE": 2},  # eight devices cannot share its width
}


@pytest.fixture(scope="module")
def searched(on_eight_devices):
    """What `search_run.py` prints."""
    return on_eight_devices(Path(__file__).parent / "search_run.py")


@pytest.mark.parametrize("case", FOUND)
def test_the_nearest_that_fits(searched, case):
    found = searched[case]
    assert not found["first"] and found["settings"] == FOUND[case]
    assert found["plan"] and found["fits"] and not found["without_the_last"]


def test_nothing_fits(searched):
    assert searched["nothing"] == {"first": False, "settings": None}

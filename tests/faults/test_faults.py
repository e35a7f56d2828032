"""A few faults of the injector's, and that it would see what it is there to see.

`python -m bench.faults` injects 200.
"""

import json

import pytest

from bench.faults import compare, inject
from bench.small_run import Promot, Result, Said, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults")
    world = World(root, Promot(root))
    world.prepare("promot_joint")
    return world


# Kills have tests of their own, in tests/run.
@pytest.mark.parametrize(("kind", "seed"), [("damage", 0), ("write", 0)])
def test_nothing_goes_wrong_in_silence(world, kind, seed):
    if kind == "write" and world.promot.library is None:
        pytest.skip("no C compiler, or no Linux: no disk can be made to fail")
    outcome = inject(world, [kind], seed)
    assert outcome.good, f"{outcome.fault}: {outcome.ending}\n{outcome.said}"


def test_silence_is_seen(world):
    """Another score, another answer, a traceback, a crash."""
    expected = world.expected["promot_joint"]
    assert compare(world, "promot_joint", expected) == ("same", True)
    rows = json.loads(expected.scores)
    rows[0]["value"] += 0.125
    other = Result(json.dumps(rows).encode(), expected.answers)
    assert compare(world, "promot_joint", other) == ("other scores, in silence", False)
    other = Result(expected.scores, expected.answers.replace(b"output", b"input"))
    assert compare(world, "promot_joint", other) == ("other answers, in silence", False)
    deep = "Traceback (most recent call last):\n  ...\npromot run: x"
    assert Said(1, "promot run: x: restore it\n").one_line and not Said(1, deep).one_line
    assert not Said(0, "").one_line and not Said(-9, "promot run: x").one_line

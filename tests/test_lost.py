"""A host whose main thread hangs: it stays behind the others, which see that in what they share."""

import contextlib
import itertools

import pytest

from promot_jax import lost
from promot_jax.errors import UserError
from promot_jax.process import AGAIN


class Ended(Exception):
    """Instead of the process."""


class Shared(dict):
    """JAX's key-value store; `others` says what other hosts have written at each look."""

    def __init__(self, others):
        self.others = iter(others)

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        self[key] = value

    def key_value_dir_get(self, directory: str) -> list[tuple[str, str]]:
        counts = next(self.others)
        self |= {f"{directory}{host}": str(count) for host, count in counts.items()}
        return list(self.items())


def watched(monkeypatch, count: int, others) -> str | None:
    """What host 0 ends with, which has come `count` times; None where it does not."""
    clock = itertools.count()

    def finish(said, code):
        assert code == AGAIN
        raise Ended(said)

    monkeypatch.setattr(lost, "finish", finish)
    monkeypatch.setattr(lost, "_timeout", 5)
    monkeypatch.setattr(lost, "_count", count)
    monkeypatch.setattr(lost.time, "sleep", lambda _: None)
    monkeypatch.setattr(lost.time, "monotonic", lambda: next(clock))
    with contextlib.suppress(StopIteration):
        try:
            # what a client raises is waited for: the store's own end has to get through
            monkeypatch.setattr(lost, "Exception", KeyError, raising=False)
            lost._compare(Shared(others), 0)
        except Ended as ended:
            return str(ended)
    return None


@pytest.mark.parametrize(
    ("count", "others", "says"),
    [
        (4, [{1: 4}] * 20, None),
        (4, [{1: 3}] * 20, "host 1 hangs: it is 5 s behind the others"),
        (4, [{1: 5}] * 20, "this host hangs: it is 5 s behind the others"),
        (4, [{1: 3}] * 4 + [{1: 4}] * 20, None),  # late, and there in time
        (4, [{1: n % 4} for n in range(20)], None),  # behind, and on its way
        (4, [{1: 0}] * 20, None),  # it has not begun: it reads data
        (4, [{1: 4, 2: 2}] * 20, "host 2 hangs"),
    ],
)
def test_a_host_that_stays_behind_is_lost(monkeypatch, count, others, says):
    found = watched(monkeypatch, count, others)
    assert found == says if says is None else found.startswith(says)


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer [::1]:9119"), True),
        (RuntimeError("UNAVAILABLE: failed to connect to all addresses"), True),
        (BlockingIOError(11, "Resource temporarily unavailable"), False),
        (UserError("TASK = 'gloo': there is none"), False),
        (ValueError("INVALID_ARGUMENT: a shape"), False),
    ],
)
def test_errors_that_another_host_may_explain(monkeypatch, error, waits):
    slept = []
    monkeypatch.setattr(lost.time, "sleep", slept.append)
    lost.explain(error)
    assert not slept  # there are no others
    monkeypatch.setattr(lost, "_timeout", 5)
    lost.explain(error)
    assert bool(slept) == waits


def test_only_what_begins_counts(monkeypatch):
    monkeypatch.setattr(lost, "_count", 0)
    lost.came_on(first=False)
    assert lost._count == 0
    lost.came_on()
    lost.came_on(first=False)
    assert lost._count == 2

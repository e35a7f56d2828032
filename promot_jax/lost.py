"""What a host does when another one dies or hangs: it ends, with one line and exit code 75.

JAX's coordination service, on the first host, notices who gives no sign of life, and tells the
others, whose C++ part then says so over a page and calls abort(). Here what C++ writes to stderr is
held back for a moment, so that abort() can be answered by a line in its place.

A host whose main thread hangs still gives signs of life. So each counts the places in the program
to which all come equally often (`came_on`), just before they wait for each other, and compares
itself with the others: one that stays behind them is lost.
"""

import atexit
import collections
import contextlib
import ctypes
import math
import os
import re
import select
import signal
import threading
import time
from typing import Any

from promot_jax.errors import UserError
from promot_jax.failures import causes
from promot_jax.process import AGAIN, finish, last, move_stderr

HELD = 2.0  # seconds that lines of C++ are held back; it says more before it aborts, at once
NOTICED = "JAX distributed service detected fatal errors"
# How the libraries of the devices say that they cannot reach another host.
UNREACHED = re.compile(
    "(?i:gloo|nccl|socket closed|connection (closed|reset|refused)|by peer|heartbeat)"
    "|UNAVAILABLE|DEADLINE_EXCEEDED"
)
KEYS = "promot_jax/came_on/"  # of the hosts' counts in JAX's key-value store

_count = 0
_timeout: float | None = None  # None: there are no other hosts
_joined = False


class _Stderr:
    """What C++ writes, passed on `HELD` seconds later."""

    def __init__(self):
        self.lines: collections.deque[tuple[float, bytes]] = collections.deque()
        self.reader, writer = os.pipe()
        self.real = move_stderr(writer)
        os.set_blocking(self.reader, False)
        self.lock = threading.Lock()
        threading.Thread(target=self._run, name="stderr of C++", daemon=True).start()

    def _run(self) -> None:
        while True:
            select.select([self.reader], [], [], HELD)
            self.drain()
            self.pass_on(time.monotonic() - HELD)
            time.sleep(0.1)

    def pass_on(self, until: float = math.inf) -> None:
        """Passes on what was written before a moment of the monotonic clock."""
        with self.lock, contextlib.suppress(OSError):  # nobody may be reading it
            while self.lines and self.lines[0][0] < until:
                os.write(self.real, self.lines.popleft()[1])

    def drain(self) -> bytes:
        """Takes what has been written; returns all that is held."""
        with self.lock:
            try:
                while found := os.read(self.reader, 65536):
                    self.lines.append((time.monotonic(), found))
            except BlockingIOError:
                pass
            return b"".join(text for _, text in self.lines)

    def close(self) -> None:
        """Passes on everything."""
        self.drain()
        self.pass_on()


_stderr: _Stderr | None = None


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborting(number: int) -> None:
    """The handler of SIGABRT, in C, as Python's own run in the main thread, later."""
    said = _stderr.drain().decode(errors="replace")
    if NOTICED in said:
        _end(_who(said)) if _joined else _end("another host", "has not come, or is gone again")
    _stderr.pass_on()
    ctypes.CDLL(None).signal(number, 0)  # signal.SIG_DFL: abort() goes on


def _who(said: str) -> str:
    """The host that the coordination service says is gone."""
    found = re.search(r"sending heartbeats\):\s*(\d+(?:, ?\d+)*)", said)
    found = found or re.search(r"[Tt]ask (\d+) heartbeat timeout", said)
    return f"host {found[1]}" if found else "another host, perhaps the first,"


def _end(who: str, why: str = "has died or hangs") -> None:
    finish(f"{who} {why}: run the same command on all hosts again to go on", AGAIN)


def prepare(timeout: float) -> None:
    """To be called before the hosts join: from now on abort() is answered.

    Args:
      timeout: seconds after which a host that stays behind is lost.
    """
    global _stderr, _timeout
    _timeout, _stderr = timeout, _Stderr()
    atexit.register(_stderr.close)
    last.append(_stderr.close)
    handle = ctypes.CDLL(None).signal
    handle.argtypes = [ctypes.c_int, ctypes.c_void_p]
    handle(signal.SIGABRT, ctypes.cast(_aborting, ctypes.c_void_p))


def watch(client: Any, host: int) -> None:
    """To be called when they have joined: compares the hosts, in the background.

    Args:
      client: of JAX's distributed runtime.
      host: this one.
    """
    global _joined
    _joined = True
    threading.Thread(target=_compare, args=(client, host), name="other hosts", daemon=True).start()


def came_on(first: bool = True) -> None:
    """Counts a place to which all hosts come equally often, and at which they may wait.

    `first`: it may be the first such place; others are not counted before there was one.
    """
    global _count
    if first or _count:
        _count += 1


def _compare(client: Any, host: int) -> None:
    since: dict[int, tuple[int, float]] = {}  # host -> its count, since when it is behind with it
    while True:
        time.sleep(_timeout / 10)
        try:
            client.key_value_set(f"{KEYS}{host}", str(_count), allow_overwrite=True)
            found = client.key_value_dir_get(KEYS)
        except Exception:  # the first host does not answer: that is for the coordination service
            continue
        now, counts = time.monotonic(), {int(key.rpartition("/")[2]): int(n) for key, n in found}
        for each, count in counts.items():
            # what comes before the first is no hang: reading data takes one longer than another
            if count in (0, max(counts.values())) or since.get(each, (None, now))[0] != count:
                since[each] = count, now
        late = sorted(each for each, (_, begun) in since.items() if now - begun > _timeout)
        if late:
            why = f"hangs: it is {_timeout:g} s behind the others"
            _end("this host" if host in late else f"host {late[0]}", why)


def explain(error: BaseException) -> None:
    """Where another host may be the reason for an error: waits until it is known, and ends."""
    ours = (UserError, OSError)
    said = " ".join(str(each) for each in causes(error) if not isinstance(each, ours))
    if _timeout is not None and UNREACHED.search(said) and "gs://" not in said:
        time.sleep(1.5 * _timeout + 5)

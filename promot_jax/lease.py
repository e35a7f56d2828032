"""Who has something in a bucket, where there are no locks: an object that says so.

It is written only if there is none, and written anew every `EVERY` seconds while its holder lives,
each time only if nobody else has written it since. So of two that want it one has it. A holder that
is dead writes nothing: who still wants it then takes it, at once where the holder was a process of
this machine, else after `PATIENCE` seconds, by the watch of the one who waits: clocks of two
machines are not compared. A holder that was only asleep, or cut off from the bucket, and finds it
taken, ends at once: what two write at the same time would be neither's.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from promot_jax import process
from promot_jax.console import say
from promot_jax.errors import UserError

EVERY, PATIENCE = 10.0, 60.0  # seconds
LOOK = 1.0  # seconds between two looks at another's
SAME = ("host", "boot", "space")  # what two processes that see each other have in common


class Lease:
    """Something that is this process's while the context lasts.

    Args:
      path: the object, in a bucket.
      what: what it stands for, for messages; `WORKDIR = 'gs://...'`.

    Raises, when the context begins:
      UserError: another process has it.
      OSError: the bucket refuses.
    """

    def __init__(self, path: Path, what: str):
        self.path, self.what = path, what
        self._me, self._renewals, self._version = _this_process(), 0, b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        seen, since = None, time.monotonic()
        while True:
            content, version = self.path.read()
            holder, waited = _parsed(content), time.monotonic() - since
            if content is None or _is_gone(holder) or (seen == version and waited > PATIENCE):
                if self._write(version):
                    self._thread.start()
                    return self
                seen = None  # somebody was faster
                continue
            if _is_here(holder) or seen not in (None, version):
                raise self._in_use(holder)
            if seen is None:
                seen, since = version, time.monotonic()
                say(
                    f"{self.what} is claimed by {_named(holder)}: waiting up to {PATIENCE:.0f} s"
                    " to see whether that still runs"
                )
            time.sleep(LOOK)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a lease that is not given back runs out
            self.path.write_if(None, self._version)

    def _write(self, version: bytes) -> bool:
        """Whether it is this process's now."""
        self._renewals += 1
        content = json.dumps(self._me | {"renewals": self._renewals}).encode()
        written = self.path.write_if(content, version)
        if written is None:
            found, written = self.path.read()
            # else the write was done, its answer lost, and it was tried again on what it had done
            if found != content:
                return False
        self._version = written
        return True

    def _renew(self) -> None:
        while not self._ended.wait(EVERY):
            with contextlib.suppress(OSError):  # nor can another take it who does not come through
                if not self._write(self._version):
                    line = f"promot: {self.what} was taken over by another process, as this one had"
                    print(f"{line} not renewed its claim: it ends", file=sys.stderr)
                    process.leave(1)  # before it writes anything more

    def _in_use(self, holder: dict[str, Any]) -> UserError:
        return UserError(
            f"{self.what} is in use by another process ({_named(holder)}): wait for it, or stop it"
        )


def _this_process() -> dict[str, Any]:
    """What tells this process from all others."""
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "space": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "token": uuid.uuid4().hex,
    }


def _parsed(content: bytes | None) -> dict[str, Any]:
    """Who holds it; nothing where that cannot be read."""
    with contextlib.suppress(ValueError, AttributeError):
        found = json.loads(content or b"{}")
        return {name: found.get(name) for name in _this_process()}
    return {}


def _is_here(holder: dict[str, Any]) -> bool:
    """Whether the holder is seen to live."""
    return _is_seen(holder) and _started(holder["pid"]) == holder["started"]


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the holder would be seen, and is not."""
    return _is_seen(holder) and _started(holder["pid"]) != holder["started"]


def _is_seen(holder: dict[str, Any]) -> bool:
    me = _this_process()
    return bool(me["boot"]) and all(holder.get(name) == me[name] for name in SAME)


def _started(pid: int | None) -> str | None:
    """When a process of this machine was started; None where there is none, or a dead one."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _named(holder: dict[str, Any]) -> str:
    return f"{holder.get('host') or 'somebody'}, process {holder.get('pid') or 'unknown'}"

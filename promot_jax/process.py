"""The process itself: how it is started, what it does on a signal, and how it ends.

Only what Python has imported anyway is imported here, so that signals are answered from the first
instruction on. Python runs a handler when the main thread comes back from C++, which may be minutes
into a compilation; so a thread of its own is told of each signal, and ends the process where there
is nothing to save or to tidy up, or where Ctrl-C is pressed again. To end at any moment is safe:
whatever is written survives `kill -9` as well.
"""

import contextlib
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLOSED = 128 + signal.SIGPIPE  # the exit code where nobody reads stdout any more
AGAIN = os.EX_TEMPFAIL  # 75, that of a run on several hosts that the same command goes on with
# Huge pages: XLA's CPU backend allocates the temporary memory of a program at every call and frees
# it again, and the kernel clears every page of it. With pages of 2 MiB that costs little, with
# pages of 4 KiB a tenth to a fifth of a step.
# UTF-8: else the names and the text files of other libraries are what the locale makes of them.
WISHES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONUTF8": "1"}

last: list[Callable[[], None]] = []  # what is done before the process ends, however it ends
_patient = False  # whether the first signal is left to the main thread
_ending = threading.Lock()
_stderr = 2


def answer_signals() -> None:
    """From now on SIGINT and SIGTERM end this process with one line, unless it is `patient`."""
    global _stderr
    _stderr = os.dup(2)  # `without_stderr` turns the other one off
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in SIGNALS:
        signal.signal(number, _in_main_thread)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _watch(reader: int) -> None:
    interrupted = False
    while True:
        number = os.read(reader, 1)[0]
        again = interrupted and number == signal.SIGINT
        if number in SIGNALS and (again or not _patient):
            end(number)
        interrupted |= number == signal.SIGINT


def _in_main_thread(number: int, _: FrameType | None) -> None:
    if not _patient:  # the flag may change before the other thread has read it
        end(number)
    raise KeyboardInterrupt(number)


def end(number: int) -> None:
    """Ends the process at once, as a signal does, with a line."""
    finish("interrupted" if number == signal.SIGINT else "terminated", 128 + number)


def finish(said: str, code: int) -> None:
    """Ends the process at once, from any thread, with a line and an exit code."""
    line = f"{' '.join(['promot', *sys.argv[1:2]])}: {said}\n"
    if os.isatty(_stderr):
        line = f"\r\x1b[K\x1b[?25h{line}"  # a progress bar hides the cursor
    if not _ending.acquire(blocking=False):
        time.sleep(1)  # another thread is saying it
    elif select.select([], [_stderr], [], 0)[1]:  # else nobody reads it
        with contextlib.suppress(OSError):
            os.write(_stderr, line.encode(errors="backslashreplace"))
    os._exit(code)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Leaves a first signal to its handler: KeyboardInterrupt, unless another one is set."""
    global _patient
    _patient = True
    try:
        yield
    finally:
        _patient = False


def restart_as_wished() -> None:
    """Starts this program anew, once, with huge pages and UTF-8; does nothing but on Linux.

    glibc and Python read these settings when a process starts, so they must be there before.
    Signals that come in between wait until the new process comes here.
    """
    missing = {name for name in WISHES if not os.environ.get(name)}
    if os.environ.get("PYTHONUTF8") == "0" and sys.getfilesystemencoding() != "utf-8":
        missing.add("PYTHONUTF8")
    if sys.platform == "linux" and missing and sys.executable:
        os.environ |= {name: WISHES[name] for name in missing}
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def prepare_streams() -> None:
    """Makes stdout and stderr take every text, and stderr never fail: nobody may be reading it.

    A descriptor that is closed would become that of the next file that is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout.reconfigure(errors="backslashreplace")
    _print_errors_to(2)


def _print_errors_to(descriptor: int) -> None:
    encoding = sys.stderr.encoding if sys.stderr is not None else "utf-8"
    raw = io.BufferedWriter(_Deaf(descriptor, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def move_stderr(descriptor: int) -> int:
    """Has what is not Python write its errors there; returns where Python goes on to write them."""
    global _stderr
    real = os.dup(2)
    if _stderr == 2:
        _stderr = real
    sys.stderr.flush()
    _print_errors_to(real)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return real


class _Deaf(io.FileIO):
    """A file whose writing never fails: a full disk, or a terminal that is gone, ends no run."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return len(data)


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Without what other libraries' C++ parts say there, which no setting of theirs turns off."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def leave(code: int) -> None:
    """Ends the process without waiting for its threads: one that failed may never end."""
    for tidy in last:
        tidy()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)

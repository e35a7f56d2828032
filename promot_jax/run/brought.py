"""An input and an output that lie in a bucket, as files of this disk while they are worked on.

The input is copied once. An output is written line by line and read again, which no object can be:
it is fetched with the two files beside it, and all three are brought back now and then, and at the
end. A call that goes on after a kill goes on from what was brought back last. Of two calls that
want one output, one has the claim beside it (`promot_jax.lease`).
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from promot_jax.errors import UserError
from promot_jax.lease import Lease
from promot_jax.paths import in_bucket
from promot_jax.run.output import beside, naming

EVERY = 30.0  # seconds between two copies of an output
SHARE = 20  # as many times as a copy took


class Brought:
    """An input and an output, where each can be worked on.

    Attributes:
      source, output: files of this disk.
    """

    def __init__(self, source: Path, output: Path, folder: Path):
        self._theirs = output if in_bucket(output) else None
        self._places: dict[str, str] = {}  # ours -> theirs, for messages
        self._due, self._sent = time.monotonic() + EVERY, {}
        with naming("--input", source, "read"):
            self.source = self._fetched(source, folder / "input")
        with naming("--output", output, "written"):
            self.output = self._fetched(output, folder / "output", missing_ok=True)
            if self._theirs is not None:
                for path in beside(output):
                    self._fetched(path, folder / "output", missing_ok=True)

    def _fetched(self, path: Path, folder: Path, missing_ok: bool = False) -> Path:
        if not in_bucket(path):
            return path
        folder.mkdir(exist_ok=True)
        ours = folder / path.name
        self._places[str(ours)] = str(path)
        with contextlib.suppress(FileNotFoundError) if missing_ok else contextlib.nullcontext():
            path.download(ours)
            self._sent[ours] = _state(ours)
        return ours

    def named(self, text: str) -> str:
        """A message about these files, with the names that the user gave."""
        for ours, theirs in self._places.items():
            text = text.replace(ours, theirs)
        return text

    def bring_back(self, now: bool = False) -> None:
        """Copies the output into its bucket, if it is time to.

        What says how far it is comes first: lines that this promises, and that are not there yet,
        are answered again.

        Raises:
          OSError: it cannot be written.
        """
        begun = time.monotonic()
        if self._theirs is None or not (now or begun >= self._due):
            return
        pairs = zip(
            (*beside(self.output), self.output), (*beside(self._theirs), self._theirs), strict=True
        )
        for ours, theirs in pairs:
            if ours.exists() and self._sent.get(ours) != (state := _state(ours)):
                theirs.write_bytes(ours.read_bytes())
                self._sent[ours] = state
        took = time.monotonic() - begun
        self._due = time.monotonic() + max(EVERY, SHARE * took)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def brought(source: Path, output: Path) -> Iterator[Brought]:
    """Both, where they can be worked on; what was done is in the bucket at the end.

    Raises:
      UserError: one of them cannot be read or written, or another process has the output.
    """
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="promot-")))
        if in_bucket(output):
            with naming("--output", output, "written"):
                claim = output.with_name(f"{output.name}.claim.json")
                held.enter_context(Lease(claim, f"--output {output}"))
        here = Brought(source, output, folder)
        try:
            yield here
        except BaseException as error:
            with contextlib.suppress(OSError):
                here.bring_back(now=True)
            if isinstance(error, UserError):
                raise UserError(here.named(str(error))) from error.__cause__
            raise
        here.bring_back(now=True)

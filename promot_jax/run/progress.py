"""How far an evaluation is: it may take longer than the training between two of them."""

import time
from collections.abc import Callable

from promot_jax.training import Bar

SILENCE = 30.0  # seconds between lines where there is no terminal


class Progress:
    """A bar on a terminal; elsewhere a line every `SILENCE` seconds, and none of a short one.

    Args:
      name: what is done.
      rows: how many are to be answered.
      after: called after each batch, when it has been shown.
    """

    def __init__(self, name: str, rows: int, after: Callable[[], None] = lambda: None):
        self.rows, self.done, self.after = rows, 0, after
        self.bar = Bar(name, 0, rows, every=1)
        self.begun = self.said = time.monotonic()

    def __call__(self, task: str, shots: int, rows: int) -> None:
        """Shows that so many more rows of a task are answered."""
        self.done += rows
        now, of = time.monotonic(), f"{task}, {shots} {'shot' if shots == 1 else 'shots'}"
        if self.bar.interactive:
            self.bar.update(self.done, of)
        elif now - self.said >= SILENCE:
            self.said, left = now, (now - self.begun) * (self.rows - self.done) / self.done
            self.bar.update(self.done, f"rows ({of}), {_duration(left)} left")
        self.after()

    def close(self) -> None:
        """Takes the bar away."""
        self.bar.close()


def _duration(seconds: float) -> str:
    """`12 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

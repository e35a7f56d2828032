"""The order of training: which unit (an example, or a pack of them) is at place i of the stream.

The stream never ends and has no state. Place i of a task of n units lies in epoch i // n, and each
epoch is a permutation of its own. A mixture hands its places to its tasks by a shuffled pattern
that repeats, so that how many earlier places a task had is known without counting. Hence any batch
can be made on any host, in any order, and a restart needs to know nothing but its step.
"""

import functools
import hashlib
from collections.abc import Mapping

import numpy as np

from promot_jax.errors import UserError

PERIOD = 1024


def generator(seed: int, use: str, number: int = 0) -> np.random.Generator:
    """Random numbers that belong to (seed, use, number)."""
    name = int.from_bytes(hashlib.blake2b(use.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, name, number])))


class Epochs:
    """Epochs of n units: `epochs(i)` is the unit at place i, each once in every n places."""

    def __init__(self, n: int, seed: int, name: str):
        # A batch meets its places in order, so two epochs are all that is ever needed at a time.
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: generator(seed, f"epoch/{name}", epoch).permutation(n).astype(np.int32)
        )
        self._n = n

    def __call__(self, i: int) -> int:
        epoch, place = divmod(i, self._n)
        return int(self._order(epoch)[place])


class Mix:
    """A mixture's places: `mix(i)` is the task at place i, and how many places it had before."""

    def __init__(self, rates: Mapping[str, float], seed: int):
        """Args:
          rates: task name -> its share of the places, in any unit.
          seed: of the pattern's order.

        Raises:
          UserError: a rate is negative or not a number.
        """
        bad = {name: rate for name, rate in rates.items() if not 0 < rate < float("inf")}
        if bad:
            raise UserError(f"mixing rates {bad}: every rate must be a positive number")
        counts = shares(np.array(list(rates.values()), float))
        pattern = np.repeat(np.arange(len(counts)), counts)
        self._pattern = generator(seed, "mixture").permutation(pattern)
        is_task = self._pattern[:, None] == np.arange(len(counts))
        self._before = (is_task.cumsum(axis=0) - is_task)[np.arange(PERIOD), self._pattern]
        self._counts, self._names = counts, list(rates)

    def __call__(self, i: int) -> tuple[str, int]:
        period, place = divmod(i, PERIOD)
        task = self._pattern[place]
        return self._names[task], period * int(self._counts[task]) + int(self._before[place])


def shares(rates: np.ndarray) -> np.ndarray:
    """1024 places split in proportion to `rates` [tasks]; the rarest task still gets one."""
    if len(rates) > PERIOD:
        raise UserError(f"the mixture has {len(rates)} tasks; at most {PERIOD} can be mixed")
    exact = rates / rates.sum() * PERIOD
    counts = np.maximum(np.floor(exact), 1).astype(int)
    while (missing := PERIOD - counts.sum()) != 0:
        error = np.where((missing < 0) & (counts == 1), np.inf, counts - exact)
        change = error.argmin() if missing > 0 else np.where(counts == 1, -np.inf, error).argmax()
        counts[change] += np.sign(missing)
    return counts

"""How many rows evaluations have, where nothing of the data can be read."""

import contextlib
from collections.abc import Mapping

from promot_jax.data.quiet import seqio
from promot_jax.data.tasks import get_task
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluation

ROWS = 2000  # of a task of unknown size


class Rows:
    """Rows of tasks, and what is assumed.

    Attributes:
      assumptions: in words, each once.
    """

    def __init__(self):
        self.assumptions: list[str] = []

    def assume(self, what: str) -> None:
        """Notes an assumption."""
        if what not in self.assumptions:
            self.assumptions.append(what)

    def of(self, task: str, evaluation: Evaluation) -> int:
        """How many rows of a task are scored."""
        split = evaluation.split
        split = split.get(task, "validation") if isinstance(split, Mapping) else split
        known = _known(task, split)
        if known is None and evaluation.limit is None:
            self.assume(f"a task of unknown size has {ROWS} rows to be scored on")
            return ROWS
        return min(x for x in (known, evaluation.limit) if x is not None)


def _known(task: str, split: str) -> int | None:
    """Rows of a task whose source says so without being read."""
    with contextlib.suppress(UserError, ValueError, KeyError):
        source = getattr(get_task(task), "source", None)
        if isinstance(source, seqio.FunctionDataSource):
            return source.num_input_examples(split) or None
    return None

"""A SeqIO task's metric functions on one set of its examples.

SeqIO's order: `postprocess_fn` turns the text of a target or an output into what the metric
functions compare. The targets are postprocessed when the set is read, and every metric function is
tried on them as if the model had answered them exactly: a metric that cannot work is then known
before training, and so is what a right answer scores.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from promot_jax.data import Counted, Example, get_task
from promot_jax.data.quiet import seqio
from promot_jax.errors import UserError
from promot_jax.evaluation.intervals import Interval, MetricFn, intervals, scalars

LONGEST = 200  # bytes of a task's name, of 255 that a file's may have

log = logging.getLogger(__name__)


class Metrics:
    """`metrics(outputs)`: the scores of output texts, in the order of the examples.

    Attributes:
      scales: name -> 100 where right answers score more than 1, as BLEU's do; else 1.
      signatures: name -> what its values depend on besides the texts, where the metric says so.
    """

    def __init__(self, task: seqio.Task, examples: Sequence[Example]):
        """Raises:
        UserError: no metric functions, ones that need more than predictions, that fail on the
          task's own targets or give no number, or two that give the same name.
        """
        self._task, self._examples = task, examples
        self._functions = _functions(task)
        self._targets = self._postprocess([e.targets for e in examples], is_target=True)
        perfect = self._postprocess([e.targets for e in examples], is_target=False)
        self._units: dict[str, float] = {}
        self.signatures: dict[str, str] = {}
        for function in self._functions:
            found = self._try(function, perfect)
            self._units |= found
            if isinstance(function, Counted):
                self.signatures |= dict.fromkeys(found, function.signature())
        if not self._units:
            raise UserError(
                f"task {task.name!r}: its metric functions give no number; add one that does"
            )

    @property
    def scales(self) -> dict[str, int]:
        return {name: 100 if right > 1.001 else 1 for name, right in self._units.items()}

    def __call__(self, outputs: Sequence[str], seed: int = 0) -> dict[str, Interval]:
        """Metric name -> value, interval and rows' values, for output texts [n]."""
        predictions = self._postprocess(outputs, is_target=False)
        found = {}
        for function in self._functions:
            found |= intervals(function, self._targets, predictions, seed, self._units)
        return found

    def values(self, outputs: Sequence[str]) -> dict[str, float]:
        """Metric name -> value alone, which takes one call of each metric function."""
        predictions = self._postprocess(outputs, is_target=False)
        found = {}
        for function in self._functions:
            found |= scalars(function(self._targets, predictions))
        return found

    def _postprocess(self, texts: Sequence[str], is_target: bool) -> list[Any]:
        return [
            self._task.postprocess_fn(text, example=dict(example.features), is_target=is_target)
            for text, example in zip(texts, self._examples, strict=True)
        ]

    def _try(self, function: MetricFn, perfect: Sequence[Any]) -> dict[str, float]:
        """Name -> what a right answer scores."""
        task, called = self._task.name, getattr(function, "__name__", repr(function))
        try:
            values: Mapping[str, Any] = function(self._targets, perfect)
        except Exception as error:
            raise UserError(
                f"task {task!r}: its metric function {called} fails on the task's own targets"
                f" ({type(error).__name__}: {error}); correct it or the task's postprocess_fn"
            ) from error
        numbers = scalars(values)
        if skipped := sorted(set(values) - set(numbers)):
            log.warning("task %r: %s of %s is no number and is not reported", task, skipped, called)
        if twice := sorted(set(numbers) & set(self._units)):
            raise UserError(
                f"task {task!r}: two of its metric functions give {twice[0]!r}; rename one"
            )
        # A distance is 0 for a right answer, which says nothing about the scale.
        return {name: v if v and math.isfinite(v) else 1.0 for name, v in numbers.items()}


def scorable_task(name: str) -> seqio.Task:
    """The task of this name, after all that can be checked without reading its data.

    Raises:
      UserError: unknown, of a name too long for files, or without metric functions of (targets,
        predictions).
    """
    task = get_task(name)
    if len(name.encode()) > LONGEST:
        raise UserError(f"task {name[:40]!r}...: files are named by it: at most {LONGEST} bytes")
    _functions(task)
    return task


def _functions(task: seqio.Task) -> Sequence[MetricFn]:
    """The task's metric functions of (targets, predictions); any other kind is an error."""
    try:
        usable, scoring, auxiliary = (
            task.predict_metric_fns,
            task.score_metric_fns,
            task.predict_with_aux_metric_fns,
        )
    except ValueError as error:
        raise UserError(f"task {task.name!r}: {error}") from error
    objects = len(task.metric_objs) - len(task.metric_fns)
    for kind, unusable in (("scores", scoring), ("aux_values", auxiliary), ("objects", objects)):
        if unusable:
            raise UserError(
                f"task {task.name!r} has metrics of the kind {kind!r}; evaluation by generation has"
                " only texts: give metric_fns of (targets, predictions)"
            )
    if not usable:
        raise UserError(
            f"task {task.name!r} has no metric functions; give metric_fns of (targets, predictions)"
            " where it is registered"
        )
    return usable

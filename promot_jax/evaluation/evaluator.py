"""A model's own answers to whole tasks, scored by the tasks' SeqIO metric functions.

An `Evaluator` reads and tokenises all that an `Evaluation` names once, so that what cannot work
fails before training starts. After that it is called with a function that generates, as often as
one likes, and gives rows of results.json.

The **format share** tells forgetting apart from ignorance: it is the share of a task's outputs that
lie in the answer format of the *target* task, the one the model is tuned on. A model that answers
"True" to a question for a name has not become worse at names; it has forgotten that they are asked.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from promot_jax.data import (
    EvalSet,
    TaskInfo,
    by_length,
    decode,
    eval_set,
    in_format,
    padded_length,
    task_info,
)
from promot_jax.data.layouts import cut, padded
from promot_jax.data.quiet import seqio
from promot_jax.evaluation.evaluation import Evaluation, prompts_of_tasks, splits_of_tasks
from promot_jax.evaluation.intervals import Interval
from promot_jax.evaluation.metrics import Metrics, scorable_task
from promot_jax.evaluation.samples import write_samples
from promot_jax.vocabularies import Vocabulary, text_of

UNLIMITED = 2**30

Tokens = Int[np.ndarray, "batch length"]
Generate = Callable[
    [Tokens, Tokens, Any, Int[np.ndarray, " batch"]], Int[np.ndarray, "batch outputs"]
]
OnBatch = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class _Set:
    """One task with one number of shots, ready to be asked."""

    data: EvalSet
    shots: int
    group: str
    chance: float
    prompt: bool
    metrics: Metrics
    input_length: int  # what no input is padded beyond
    ceilings: Mapping[str, float]  # metric -> what targets as the vocabulary writes them score

    def batches(self, most: int) -> Iterator[tuple[list[int], Tokens, Tokens]]:
        """Numbers of rows that are asked together, at most `most`, their tokens and segments.

        A batch is filled up by its last row, which ends when its neighbours do.
        """
        tokens = self.data.tokens
        lengths = [min(padded_length(len(ids)), self.input_length) for ids in tokens]
        for rows, size in by_length([(length,) for length in lengths], most):
            yield rows, *padded([tokens[row] for row in rows], size, lengths[rows[-1]])

    def lost(self) -> str:
        """What the vocabulary loses, and the best that can be scored then; empty if nothing."""
        best = (f"{name} {value:.3f}" for name, value in self.ceilings.items())
        said = f"; at best {', '.join(best)}" if self.ceilings else ""
        return f"{self.data.losses}{said}"


class Evaluator:
    """An evaluation with its data in memory: `evaluator(generate, step)` gives the scores.

    Attributes:
      evaluation: what it was made from.
      rows: how many are answered.
      digests: (task, split, shots) -> digest of its rows: equal, where the data is.
      lost: task -> what its rows lose in the vocabulary, in words, where they lose anything.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        vocabulary: Vocabulary,
        vocab_size: int,
        prompt_ids: Mapping[str, Int[np.ndarray, " tokens"]] | None = None,
        target_format: TaskInfo | None = None,
        kind: str = "encoder_decoder",
    ):
        """Args:
          evaluation: what to evaluate.
          vocabulary: the model's.
          vocab_size: number of ids the model embeds; larger ids are its soft prompts.
          prompt_ids: prompt name -> its ids.
          target_format: the target task's information, for the format share; None leaves it out.
          kind: of the model, which has a layout of its own.

        Raises:
          UserError: an unknown task, split or prompt, a task without metric functions that score
            predictions, shots that cannot be had, a vocabulary that does not fit the model.
        """
        self.evaluation = evaluation
        self._vocabulary, self._vocab_size, self._kind = vocabulary, vocab_size, kind
        defined = target_format is not None and target_format.answer_format is not None
        self._target_format = target_format if defined else None
        prompts = prompts_of_tasks(evaluation, prompt_ids or {})
        splits = splits_of_tasks(evaluation)
        tasks = [scorable_task(name) for name in evaluation.tasks]  # all of them before any data
        self._sets = [
            each
            for task in tasks
            for each in self._read(task, splits[task.name], prompts.get(task.name))
        ]
        self.rows = sum(len(each.data.tokens) for each in self._sets)
        self.digests = {
            (each.data.task, splits[each.data.task], each.shots): each.data.digest()
            for each in self._sets
        }
        self.lost = {each.data.task: each.lost() for each in self._sets if each.lost()}

    def _read(self, task: seqio.Task, split: str, prompt: np.ndarray | None) -> Iterator[_Set]:
        asked, metrics, info = self.evaluation, None, task_info(task.name)
        for shots in asked.shots:
            data = eval_set(
                task.name, split, shots, self._vocabulary, self._vocab_size, prompt,
                asked.input_length or UNLIMITED, asked.limit, asked.seed, self._kind,
            )  # fmt: skip
            metrics = metrics or Metrics(task, data.examples)  # the same rows, whatever the shots
            group, length = asked.group or info.group, asked.input_length or UNLIMITED
            ceilings = metrics.values(data.written) if data.losses.unwritable else {}
            prompted = prompt is not None
            yield _Set(data, shots, group, info.chance, prompted, metrics, length, ceilings)

    def __call__(
        self,
        generate: Generate,
        step: int,
        samples_dir: Path | None = None,
        on_batch: OnBatch | None = None,
    ) -> list[dict[str, Any]]:
        """One row for each (task, shots, metric), as in results.json.

        A row has step, task, group, shots, prompt, metric, value, low, high (95 %), scale (100
        where right answers score more than 1, else 1), chance (what guessing scores, as a share of
        that), n, format_share; signature where the metric has one; where rows were too long,
        too_long (their number) and mean_shots (what was left); where the vocabulary cannot write
        all targets, unwritable (their number) and ceiling (what those it writes in their place
        score). What is not defined is None.

        Args:
          generate: (tokens, segments [batch, length], decoding, numbers of the task's rows
            [batch]) -> ids [batch, any]. A batch has `batch_size` rows, a set's last one the power
            of two that holds what is left. What follows an end is ignored.
          step: of the stage; it names the samples.
          samples_dir: where <task>.<shots>shot.<step>.jsonl are written; None writes none.
          on_batch: called with (task, shots, rows answered) after each batch.
        """
        found: list[dict[str, Any]] = []
        for each in self._sets:
            outputs = self._ask(generate, each, on_batch)
            scores = each.metrics(outputs, self.evaluation.seed)
            found += self._rows(each, step, outputs, scores)
            if samples_dir is not None:
                path = samples_dir / f"{each.data.task}.{each.shots}shot.{step}.jsonl"
                self._write_samples(path, each, outputs, scores)
        return found

    def _ask(self, generate: Generate, each: _Set, on_batch: OnBatch | None) -> list[str]:
        """The answers, in the order of the rows."""
        answers: dict[int, str] = {}
        decoding, layout = self.evaluation.decoding, each.data.layout
        stops = (*decoding.stop_texts, *each.data.stop_texts)
        decoding = dataclasses.replace(decoding, stop_texts=stops)
        for rows, tokens, segments in each.batches(self.evaluation.batch_size):
            numbers = np.array(rows + rows[-1:] * (len(tokens) - len(rows)), np.int32)
            ids = np.asarray(generate(tokens, segments, decoding, numbers))
            texts = (cut(decode(self._vocabulary, output), stops) for output in ids)
            answers |= zip(rows, map(layout.answer, texts), strict=False)
            if on_batch is not None:
                on_batch(each.data.task, each.shots, len(rows))
        return [answers[i] for i in range(len(each.data.tokens))]

    def _write_samples(
        self, path: Path, each: _Set, outputs: Sequence[str], scores: Mapping[str, Interval]
    ) -> None:
        """Inputs as the model read them (shots, what was cut), without the prompt."""
        inputs = [text_of(self._vocabulary, ids) for ids in each.data.tokens]
        targets = [example.targets for example in each.data.examples]
        first = next(iter(scores.values()), None)
        write_samples(path, inputs, targets, outputs, first and first.per_row)

    def _rows(
        self, each: _Set, step: int, outputs: Sequence[str], scores: Mapping[str, Interval]
    ) -> Iterator[dict[str, Any]]:
        share = None
        if self._target_format is not None:
            hits = sum(in_format(self._target_format, text) for text in outputs)
            share = hits / len(outputs)
        for name, score in scores.items():
            row = {"step": step, "task": each.data.task, "group": each.group, "shots": each.shots}
            row |= {"prompt": each.prompt, "metric": name, "value": _number(score.value)}
            row |= {"low": _number(score.low), "high": _number(score.high)}
            row |= {"scale": each.metrics.scales[name], "chance": each.chance}
            row |= {"n": len(outputs), "format_share": share}
            if name in each.metrics.signatures:
                row["signature"] = each.metrics.signatures[name]
            if each.data.too_long:
                row |= {"too_long": each.data.too_long, "mean_shots": each.data.mean_shots}
            if name in each.ceilings:
                row["unwritable"] = each.data.losses.unwritable
                row["ceiling"] = _number(each.ceilings[name])
            yield row


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None

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
import seqio
from jaxtyping import Int

from promot_jax.data import EvalSet, TaskInfo, eval_set, in_format, task_info
from promot_jax.evaluation.evaluation import Evaluation, prompts_of_tasks, splits_of_tasks
from promot_jax.evaluation.intervals import Interval
from promot_jax.evaluation.metrics import Metrics, scorable_task
from promot_jax.evaluation.samples import write_samples

# Inputs are padded to powers of two from here on, so that few shapes have to be compiled.
SHORTEST = 32
UNLIMITED = 2**30

Generate = Callable[[Int[np.ndarray, "batch length"], Any], Int[np.ndarray, "batch outputs"]]


@dataclasses.dataclass(frozen=True)
class _Set:
    """One task with one number of shots, ready to be asked."""

    data: EvalSet
    shots: int
    group: str
    chance: float
    prompt: bool
    metrics: Metrics
    length: int  # tokens the inputs are padded to

    def batches(self, size: int) -> Iterator[tuple[Int[np.ndarray, "batch length"], int]]:
        """All rows in order, [size, length], and how many rows of each batch count."""
        tokens = self.data.tokens
        for start in range(0, len(tokens), size):
            rows = tokens[start : start + size]
            batch = np.zeros((size, self.length), np.int32)
            for i in range(size):
                # The last batch is filled up with a real row: it ends when its neighbours do.
                row = rows[min(i, len(rows) - 1)]
                batch[i, : len(row)] = row
            yield batch, len(rows)


class Evaluator:
    """An evaluation with its data in memory: `evaluator(generate, step)` gives the scores.

    Attributes:
      evaluation: what it was made from.
      lengths: (task, shots) -> the tokens its inputs are padded to.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        vocabulary: seqio.Vocabulary,
        vocab_size: int,
        prompt_ids: Mapping[str, Int[np.ndarray, " tokens"]] | None = None,
        target_format: TaskInfo | None = None,
    ):
        """Args:
          evaluation: what to evaluate.
          vocabulary: the model's.
          vocab_size: number of ids the model embeds; larger ids are its soft prompts.
          prompt_ids: prompt name -> its ids.
          target_format: the target task's information, for the format share; None leaves it out.

        Raises:
          UserError: an unknown task, split or prompt, a task without metric functions that score
            predictions, shots that cannot be had, a vocabulary that does not fit the model.
        """
        self.evaluation = evaluation
        self._vocabulary, self._vocab_size = vocabulary, vocab_size
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
        self.lengths = {(each.data.task, each.shots): each.length for each in self._sets}

    def _read(self, task: seqio.Task, split: str, prompt: np.ndarray | None) -> Iterator[_Set]:
        asked, metrics, info = self.evaluation, None, task_info(task.name)
        for shots in asked.shots:
            data = eval_set(
                task.name, split, shots, self._vocabulary, self._vocab_size, prompt,
                asked.input_length or UNLIMITED, asked.limit, asked.seed,
            )  # fmt: skip
            metrics = metrics or Metrics(task, data.examples)  # the same rows, whatever the shots
            longest = max(map(len, data.tokens))
            length = max(SHORTEST, 1 << (longest - 1).bit_length())
            length = min(length, asked.input_length or length)
            group = asked.group or info.group
            yield _Set(data, shots, group, info.chance, prompt is not None, metrics, length)

    def __call__(
        self,
        generate: Generate,
        step: int,
        samples_dir: Path | None = None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """One row for each (task, shots, metric), as in results.json.

        A row has step, task, group, shots, prompt, metric, value, low, high (95 %), scale (100
        where right answers score more than 1, else 1), chance (what guessing scores, as a share of
        that), n, format_share; signature where the metric has one; where rows were too long,
        too_long (their number) and mean_shots (what was left). What is not defined is None.

        Args:
          generate: (tokens [batch_size, length], decoding) -> ids [batch_size, any]; the lengths
            are those in `self.lengths`, each to be compiled once. What follows EOS is ignored.
          step: of the stage; it names the samples.
          samples_dir: where <task>.<shots>shot.<step>.jsonl are written; None writes none.
          on_batch: called with (batches done, batches in all) after each batch.
        """
        size = self.evaluation.batch_size
        total = sum(-(-len(each.data.tokens) // size) for each in self._sets)
        done, rows = 0, []
        for each in self._sets:
            outputs: list[str] = []
            for batch, count in each.batches(size):
                ids = np.asarray(generate(batch, self.evaluation.decoding))
                outputs += [self._text(row) for row in ids[:count]]
                done += 1
                if on_batch is not None:
                    on_batch(done, total)
            scores = each.metrics(outputs, self.evaluation.seed)
            rows += self._rows(each, step, outputs, scores)
            if samples_dir is not None:
                path = Path(samples_dir) / f"{each.data.task}.{each.shots}shot.{step}.jsonl"
                # as the model read them, without the prompt
                inputs = [self._text(ids[ids < self._vocab_size]) for ids in each.data.tokens]
                targets = [example.targets for example in each.data.examples]
                first = next(iter(scores.values()), None)
                write_samples(path, inputs, targets, outputs, first and first.per_row)
        return rows

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
            yield row

    def _text(self, ids: Sequence[int]) -> str:
        """The text of ids up to EOS. Ids that the vocabulary lacks (a model's table is padded, and
        a soft prompt has no text) become the unknown token, or nothing."""
        known, unknown = self._vocabulary.vocab_size, self._vocabulary.unk_id
        text = []
        for i in map(int, ids):
            if i == self._vocabulary.eos_id:
                break
            if not 0 <= i < known:
                i = unknown
            if i is not None and i != self._vocabulary.pad_id:
                text.append(i)
        return str(self._vocabulary.decode(text))


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None

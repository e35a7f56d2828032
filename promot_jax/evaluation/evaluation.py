"""What to evaluate: tasks x shots, with a soft prompt in front or without, and how to generate."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from promot_jax.data import task_names
from promot_jax.errors import UserError, check_range, check_types, near
from promot_jax.models import Decoding


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes:
      tasks: names of tasks, or of mixtures, in whose place their tasks stand then; none at all
        where there is nothing to evaluate.
      shots: numbers of shots; each task is evaluated with each of them.
      prompt: name of the soft prompt in front of every input; or task -> name, where tasks that are
        not named have none; or None.
      lora: what the model's LoRA is multiplied by, where it has any; 0: answers come without it.
      split: the tasks' split; or task -> its split.
      limit: the first rows of the split that are used; None for all.
      batch_size: most rows that are generated for at once; fewer where inputs have more than 512
        tokens.
      input_length: most tokens of an input, its prompt included; what is longer loses shots, then
        tokens, and is counted as `too_long`. None: nothing is too long. Inputs are padded to the
        power of two, at least 32, that holds a batch's longest, or to `input_length` if less.
      decoding: how to generate; a task may add texts that end its outputs.
      every: steps between evaluations; None for the stage's own evaluation period, which the run
        knows.
      group: the group in whose average the scores count, "target" for what is tuned on; None for
        each task's own group.
      seed: of the choice of shots and of the intervals.

    Raises:
      UserError: a value out of range, or a task or number of shots named twice.
    """

    tasks: str | Sequence[str]
    shots: int | Sequence[int] = (0,)
    prompt: str | Mapping[str, str] | None = None
    lora: float = 1.0
    split: str | Mapping[str, str] = "validation"
    limit: int | None = None
    batch_size: int = 64
    input_length: int | None = None
    decoding: Decoding = Decoding()
    every: int | None = None
    group: str | None = None
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        tasks = (self.tasks,) if isinstance(self.tasks, str) else tuple(self.tasks)
        shots = (self.shots,) if isinstance(self.shots, int) else tuple(self.shots)
        for name, values in (("tasks", tasks), ("shots", shots)):
            if len(set(values)) < len(values):
                raise UserError(f"Evaluation.{name} = {values!r}: name none of them twice")
        object.__setattr__(self, "tasks", task_names(tasks))
        object.__setattr__(self, "shots", shots)
        if any(k < 0 for k in shots):
            raise UserError(f"Evaluation.shots = {shots!r}: set whole numbers, none below 0")
        for name in ("limit", "batch_size", "input_length", "every"):
            value = getattr(self, name)
            if value is None and name != "batch_size":
                continue
            if value < 1:
                raise UserError(f"Evaluation.{name} = {value!r}: set a whole number of at least 1")
        check_range("Evaluation.lora", self.lora, -10, 10)
        object.__setattr__(self, "lora", float(self.lora))
        check_range("Evaluation.batch_size", self.batch_size, 1, 2**20)


def splits_of_tasks(evaluation: Evaluation) -> dict[str, str]:
    """task -> its split."""
    tasks, split = evaluation.tasks, evaluation.split
    splits = dict.fromkeys(tasks, split) if isinstance(split, str) else split
    if missing := [task for task in tasks if task not in splits]:
        raise UserError(
            f"Evaluation.split has none for task {missing[0]!r}{near(missing[0], splits)}: add it,"
            " or name one split for all tasks"
        )
    return {task: splits[task] for task in tasks}


def prompts_of_tasks(
    evaluation: Evaluation, prompt_ids: Mapping[str, np.ndarray]
) -> dict[str, Int[np.ndarray, " tokens"]]:
    """task -> the ids of its prompt, for the tasks that have one."""
    tasks, named = evaluation.tasks, evaluation.prompt
    if isinstance(named, str):
        named = dict.fromkeys(tasks, named)
    for task, name in (named or {}).items():
        if task not in tasks:
            raise UserError(
                f"Evaluation.prompt: {task!r} is not a task of this evaluation"
                f"{near(task, tasks)}; its tasks are {list(tasks)}"
            )
        if name not in prompt_ids:
            raise UserError(
                f"Evaluation.prompt: there is no prompt {name!r}{near(name, prompt_ids)}; the"
                f" model's prompts are {sorted(prompt_ids)}"
            )
    return {task: np.asarray(prompt_ids[name], np.int32) for task, name in (named or {}).items()}

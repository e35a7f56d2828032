"""Tasks: SeqIO tasks whose `inputs` and `targets` are text, and what a task knows about itself.

An ordinary SeqIO task is bound to a vocabulary. Here the vocabulary belongs to the model, so tasks
stop at text (rank-0 strings) and one definition serves every model. `TaskInfo` holds what SeqIO has
no place for: the group a score is averaged in, how shots are written, and what an answer looks
like. The latter makes the format share possible: how often a model answers *other* tasks in the
format of the task it was tuned on.

Ordinary SeqIO tasks with token ids work as well, for the model whose vocabulary they use.
"""

import dataclasses
import importlib
import math
import os
import sys
import weakref
from collections.abc import Callable, Sequence

from promot_jax.data.quiet import seqio, tf
from promot_jax.data.templates import Template
from promot_jax.errors import UserError, near

TEXT = seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False, dtype=tf.string, rank=0)


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """What a task knows about itself, beyond SeqIO.

    Attributes:
      group: scores are averaged by group; "target" is the group of a task that is tuned on.
      answer_format: the answers a classification task may give, or a predicate on an output, or
        None where nothing tells this task's answers from other text.
      separator: stands between shots, and between the last shot and the input.
      shot_template: one shot, over `{inputs}` and `{targets}`.
      chance: what guessing scores, as a share of what right answers score.
    """

    group: str = "other"
    answer_format: tuple[str, ...] | Callable[[str], bool] | None = None
    separator: str = "\n\n"
    shot_template: str = "{inputs} {targets}"
    chance: float = 0.0

    def __post_init__(self):
        if not 0 <= self.chance < 1:
            raise UserError(f"chance={self.chance}: it must be a share in [0, 1)")
        if isinstance(self.answer_format, str):
            raise UserError(
                f"answer_format={self.answer_format!r} is a single text; give a tuple of answers"
            )
        if callable(self.answer_format):
            try:
                self.answer_format("")
            except Exception as error:
                raise UserError(
                    f"answer_format = {self.answer_format!r:.80} fails on an empty text"
                    f" ({type(error).__name__}: {error}): any text may be an answer"
                ) from error
        elif self.answer_format is not None:
            object.__setattr__(self, "answer_format", tuple(self.answer_format))
        Template(self.shot_template, "shot_template =", ("inputs", "targets"))


# By task object, not by name: a task that replaces another never inherits its information.
_INFO: weakref.WeakKeyDictionary[seqio.Task, TaskInfo] = weakref.WeakKeyDictionary()


def add_task(
    name: str,
    source: seqio.DataSource,
    preprocessors: Sequence[Callable],
    metric_fns: Sequence[Callable],
    postprocess_fn: Callable | None = None,
    *,
    info: TaskInfo | None = None,
) -> seqio.Task:
    """Registers a task whose preprocessors end in the text features `inputs` and `targets`.

    Further features survive and reach `postprocess_fn(text, example=..., is_target=...)`.
    `metric_fns` are SeqIO's: `(targets, predictions) -> {name: value}`.

    Raises:
      UserError: the name is taken, or has characters that SeqIO does not allow.
    """
    if is_registered(name):
        raise UserError(f"the task name {name!r} is already registered; choose another name")
    try:
        task = seqio.TaskRegistry.add(
            name,
            source=source,
            preprocessors=list(preprocessors),
            output_features={"inputs": TEXT, "targets": TEXT},
            metric_fns=list(metric_fns),
            postprocess_fn=postprocess_fn,
        )
    except ValueError as error:
        raise UserError(f"task name {name!r}: {error}") from error
    _INFO[task] = info or TaskInfo()
    return task


def is_registered(name: str) -> bool:
    """Whether there is a task or mixture of this name."""
    return any(name in each.names() for each in (seqio.TaskRegistry, seqio.MixtureRegistry))


def get_task(name: str) -> seqio.Task | seqio.Mixture:
    """The registered task or mixture.

    Raises:
      UserError: no such name; the message has the near matches.
    """
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
        if name in registry.names():
            return registry.get(name)
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    raise UserError(
        f"task {name!r} is not registered{near(str(name), known)}; {len(known)} tasks are known:"
        " check the name, or name the module that registers it in MODULES"
    )


Names = str | Sequence[str | Sequence[str]]


def rates(names: Names) -> dict[str, float]:
    """task -> its rate in what is trained on, which is a task, a mixture, or several of either.

    A mixture's rates are its own. Several names have equal shares. Tasks of rate 0 are left out.

    Raises:
      UserError: no name, an unknown one, or rates that cannot be had or are all 0.
    """
    if not (listed := _flat(names)):
        raise UserError("TASK = []: name at least one task")
    found: dict[str, float] = {}
    for name in listed:
        own = _own_rates(get_task(name))
        total = sum(own.values()) if len(listed) > 1 else 1.0
        for task, rate in own.items():
            found[task] = found.get(task, 0.0) + rate / total
    return found


def _own_rates(found: seqio.Task | seqio.Mixture) -> dict[str, float]:
    if not isinstance(found, seqio.Mixture):
        return {found.name: 1.0}
    try:
        own = {task.name: float(found.get_rate(task)) for task in found.tasks}
    except Exception as error:  # a rate may be a function of the user's
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"mixture {found.name!r}: its rates cannot be had ({reason})") from error
    if bad := {name: rate for name, rate in own.items() if not 0 <= rate < math.inf}:
        raise UserError(f"mixture {found.name!r}: rates {bad}: each must be a number of 0 or more")
    if not any(own.values()):
        raise UserError(f"mixture {found.name!r}: all its rates are 0; set one above 0")
    return {name: rate for name, rate in own.items() if rate}


def task_names(names: Names, setting: str = "TASK") -> tuple[str, ...]:
    """The tasks that names stand for, each once: a mixture's are those that it trains on.

    Names that are not registered stay: who reads their data says so. `setting` is for messages.
    """
    found: dict[str, None] = {}
    for name in _flat(names, setting):
        mixed = name in seqio.MixtureRegistry.names()
        found |= dict.fromkeys(_own_rates(seqio.MixtureRegistry.get(name)) if mixed else (name,))
    return tuple(found)


def _flat(names: Names, setting: str = "TASK") -> list[str]:
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Sequence):
        raise UserError(
            f"{setting} = {names!r:.80}: set the name of a task or mixture, or a list of names"
        )
    return [name for part in names for name in _flat(part, setting)]


def held_out(tasks: Names, tuned: Names) -> list[str]:
    """The tasks that are held out: those that are not tuned on."""
    return [name for name in task_names(tasks, "HELD_OUT") if name not in task_names(tuned)]


def task_info(name: str) -> TaskInfo:
    """The task's `TaskInfo`; defaults for mixtures and for tasks registered by SeqIO itself."""
    return _INFO.get(get_task(name), TaskInfo())


def is_text(task: seqio.Task) -> bool:
    """Whether the task yields text (ours) or the ids of a vocabulary of its own (SeqIO's usual).

    Raises:
      UserError: the task lacks the feature `inputs` or `targets`.
    """
    features = task.output_features
    if missing := sorted({"inputs", "targets"} - set(features)):
        raise UserError(
            f"task {task.name!r} has no feature {missing[0]!r} (it has {sorted(features)}):"
            " give it 'inputs' and 'targets'"
        )
    return all(features[key].dtype == tf.string for key in ("inputs", "targets"))


def in_format(info: TaskInfo, output_text: str) -> bool:
    """Whether an output lies in the task's answer format; False for a task that defines none."""
    if callable(info.answer_format):
        return bool(info.answer_format(output_text))
    return info.answer_format is not None and output_text.strip() in info.answer_format


def import_modules(names: str | Sequence[str]) -> None:
    """Imports the modules that register a user's tasks; those in the working directory are found.

    Raises:
      UserError: a module, or one that it imports itself, does not exist.
    """
    if not isinstance(names, str | Sequence) or not all(isinstance(name, str) for name in names):
        raise UserError(f"MODULES = {names!r:.80}: set the name of a module, or a list of names")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    for name in [names] if isinstance(names, str) else names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise UserError(
                    f"module {name!r} is not found; give its dotted name and run where it lies, or"
                    " put its directory on PYTHONPATH"
                ) from error
            raise UserError(f"module {name!r} cannot be imported: {error}") from error
        except UserError as error:
            raise UserError(f"module {name!r}: {error}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # such as SystemExit
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"module {name!r} cannot be imported: {reason}") from error

"""What a run takes from its base, and the prompts of many tasks: for gin files to call."""

import dataclasses
from collections.abc import Sequence

from promot_jax.data import task_names
from promot_jax.errors import UserError, check_values
from promot_jax.models import Config, Prompt
from promot_jax.models.prompts import Initializer
from promot_jax.training.description import Description
from promot_jax.training.variables import stage_directory
from promot_jax.vocabularies import Vocabulary


def base_model(
    base: str,
    dtype: str | None = None,
    param_dtype: str | None = None,
    scan_layers: bool | None = None,
    remat: bool | None = None,
    attention: str | None = None,
    dropout_rate: float | None = None,
) -> Config:
    """The architecture of a work directory's model, computed as it was, or as these fields say.

    Raises:
      UserError: no work directory, or a field that the kind of model has not.
    """
    fields = {
        "dtype": dtype, "param_dtype": param_dtype, "scan_layers": scan_layers, "remat": remat,
        "attention": attention, "dropout_rate": dropout_rate,
    }  # fmt: skip
    check_values(base_model, fields)
    model = Description.read(_workdir(base)).model
    given = {name: value for name, value in fields.items() if value is not None}
    if none := [name for name in given if not hasattr(model, name)]:
        raise UserError(
            f"base_model.{none[0]} = {given[none[0]]!r}: the model of BASE = {base!r} has none"
            f" (it is a {model.kind}): leave it out"
        )
    return dataclasses.replace(model, **given)


def base_prompt_learning_rate(base: str) -> float:
    """At which soft prompts of a work directory's model learn, unless something else is set."""
    return base_model(base).prompt_learning_rate


def base_vocabulary(base: str, chat: bool | None = None) -> Vocabulary:
    """The vocabulary of a work directory's model; `chat` turns its chat template on or off."""
    check_values(base_vocabulary, {"chat": chat})
    workdir = _workdir(base)
    found = Description.read(workdir).load_vocabulary(workdir)
    return found if chat is None else found.with_chat(chat)


def base_method(base: str) -> str:
    """The name of a work directory's scores: its method, or "base" where nothing was tuned."""
    about = Description.read(_workdir(base))
    return about.method if about.targets else "base"


def base_prompts(base: str) -> list[Prompt]:
    """The soft prompts of a work directory's model."""
    return [Prompt(name, length) for name, length in Description.read(_workdir(base)).prompts]


def _workdir(base: str | None) -> str:
    if base is None:
        raise UserError("BASE = None: set the work directory to start from")
    if not isinstance(base, str):
        raise UserError(f"BASE = {base!r}: set a text, the path of a work directory")
    return stage_directory(base, "BASE")[0]


def prompt_per_task(
    tasks: str | Sequence[str], length: int = 100, init: Initializer | None = None
) -> list[Prompt]:
    """A prompt for each task, named like it; `init` None: as `Prompt` has it."""
    more = {} if init is None else {"init": init}
    return [Prompt(task, length, **more) for task in _named(tasks)]


def own_prompts(tasks: str | Sequence[str]) -> dict[str, str]:
    """task -> the prompt of its name, as `TrainData.prompts` and `Evaluation.prompt` take it."""
    return {task: task for task in _named(tasks)}


def _named(tasks: str | Sequence[str]) -> Sequence[str]:
    """The tasks that are meant, one at least."""
    if not (found := task_names(tasks)):
        raise UserError(f"TASK = {tasks!r}: name at least one task")
    return found

"""Where a run begins: with its base's weights, or random ones, prompts and LoRA not trained yet."""

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.models import Variables
from promot_jax.run.prepare import Context
from promot_jax.run.stage import Run
from promot_jax.training.bases import Bases
from promot_jax.training.description import Description
from promot_jax.training.digests import digest
from promot_jax.training.variables import add_lora, add_prompts, checkpoint_name, origin


def beginning(context: Context) -> tuple[Variables, str | None]:
    """The variables that the first stage starts from, and the digest of those that BASE gave."""
    settings, layout = context.run, context.layout
    if settings.base is None:
        say("BASE is not set: the model begins with random weights")
    variables = origin_of(context)
    base_digest = None if settings.base is None else digest(variables)
    variables = add_prompts(variables, settings.prompts, layout, settings.seed)
    return add_lora(variables, layout, settings.seed), base_digest


def origin_of(context: Context) -> Variables:
    """The base's variables, or random ones; prompts and LoRA only of the base."""
    settings, places = context.run, Bases(tuple(context.run.base_places))
    try:
        return origin(settings.base, settings.seed, context.layout, places)
    finally:  # a run that goes on there may have found, and removed, another best one meanwhile
        _check_checkpoint(settings)


def _check_checkpoint(settings: Run) -> None:
    wanted = settings.base_checkpoint
    if wanted is not None and (found := checkpoint_name(settings.base)) != wanted:
        raise UserError(
            f"BASE = {settings.base!r}: its best checkpoint is {found} now, and no longer {wanted}:"
            " give the command again"
        )


def check_base(context: Context) -> None:
    """Raises UserError where BASE is another path than it was, and other weights lie there."""
    settings = context.run
    about = Description.read(settings.workdir)
    if about.base != settings.base and digest(origin_of(context)) != about.base_digest:
        raise UserError(
            f"BASE = {settings.base!r} holds other weights than {about.base!r}, with which"
            f" WORKDIR = {settings.workdir!r} began: set that, or choose another WORKDIR"
        )

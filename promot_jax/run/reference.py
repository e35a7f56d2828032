"""The weights that a stage compares itself with, as it finds them where it began.

They are made again whenever the run goes on: of the checkpoints of earlier stages and the base,
bit by bit the same, and so is what is computed with them.
"""

import jax.numpy as jnp

from promot_jax.console import say
from promot_jax.models import Variables, loss
from promot_jax.models.names import matches
from promot_jax.run.prepare import Context, Prepared
from promot_jax.run.terms import Distance
from promot_jax.training import Reference, fisher


def reference_of(context: Context, prepared: Prepared, before: Variables) -> Reference:
    """A copy of what the stage trains, as it is in `before`, and how much each of it matters."""
    # a copy, since the step gives up what it is given as its state
    variables = {path: jnp.copy(before[path]) for path in sorted(prepared.owner)}
    importance = {
        term.name: _importance(context, prepared, term, before)
        for term in prepared.stage.terms
        if isinstance(term, Distance) and term.data is not None
    }
    return Reference(variables, importance)


def _importance(
    context: Context, prepared: Prepared, term: Distance, before: Variables
) -> Variables:
    """The diagonal Fisher information of a term's rows, each at most once."""
    batches, model = prepared.data[term.name], context.layout.model
    count = min(term.rows, batches.report["units"])
    say(f"{prepared.directory}: {term.name}: Fisher information of {count} rows")
    paths = {path for path in prepared.owner if matches(term.pattern, path)}
    about = {path: x for path, x in before.items() if path in paths}
    rest = {path: x for path, x in before.items() if path not in paths}
    log_loss = lambda variables, batch: loss(model, variables, batch)[0]  # noqa: E731
    return fisher(log_loss, about, rest, map(batches, range(count)), context.layout.mesh)

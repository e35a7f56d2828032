"""The log-likelihood of given targets, without ever holding [batch, length, vocab].

As in the loss, the head is applied to a few positions at a time, and stays cut.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from promot_jax.models.chunks import log_probabilities
from promot_jax.models.layout import Variables, nested
from promot_jax.models.model import Batch, Model


def score(
    model: Model, variables: Variables, batch: Batch
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """log P(targets | inputs) in nats, and whether greedy search produces the targets.

    All tokens of a target count, its EOS too where it has one; what has no weight does not.
    """

    def hidden_and_head(module):
        return module.hidden(batch), module.head()

    hidden, head = model.apply(nested(variables), method=hidden_and_head)
    targets, real = batch["decoder_target_tokens"], batch["decoder_loss_weights"] > 0
    log_p, likeliest = log_probabilities(hidden, head, targets, model.soft_cap)
    return jnp.sum(jnp.where(real, log_p, 0.0), axis=1), jnp.all(likeliest | ~real, axis=1)

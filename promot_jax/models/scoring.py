"""The log-likelihood of given targets, without ever holding [batch, length, vocab].

As in the loss, the head is applied to a few positions at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from promot_jax.models.attention import capped
from promot_jax.models.layout import Variables, nested
from promot_jax.models.loss import CHUNK_TOKENS
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

    def at_one_position(hidden_and_target):
        hidden, target = hidden_and_target  # [batch, embed], [batch]
        logits = capped(hidden.astype(jnp.float32) @ head, model.soft_cap)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=-1)[:, 0]
        return log_p, jnp.argmax(logits, axis=-1) == target

    rows, length = batch["decoder_target_tokens"].shape
    positions = (jnp.moveaxis(hidden, 1, 0), batch["decoder_target_tokens"].T)
    size = max(1, min(length, CHUNK_TOKENS // rows))
    log_p, likeliest = jax.lax.map(at_one_position, positions, batch_size=size)
    real = batch["decoder_loss_weights"].T > 0
    return jnp.sum(jnp.where(real, log_p, 0.0), axis=0), jnp.all(likeliest | ~real, axis=0)

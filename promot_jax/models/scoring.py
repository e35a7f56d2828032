"""The log-likelihood of given targets, without ever holding [batch, length, vocab].

As in the loss, the head is applied to a few positions at a time, and stays cut.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from promot_jax.models.layers import logits_of
from promot_jax.models.layout import Variables, nested
from promot_jax.models.loss import CHUNK_TOKENS, gathered, in_chunks, joined
from promot_jax.models.model import Batch, Model
from promot_jax.models.placing import HEAD, lay_out, weights_stay


def score(
    model: Model, variables: Variables, batch: Batch
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """log P(targets | inputs) in nats, and whether greedy search produces the targets.

    All tokens of a target count, its EOS too where it has one; what has no weight does not.
    """

    def hidden_and_head(module):
        return module.hidden(batch), module.head()

    hidden, head = model.apply(nested(variables), method=hidden_and_head)
    with weights_stay():
        head = lay_out(head, HEAD)

    def of_chunk(chunk):
        with weights_stay():
            hidden, targets = gathered(chunk)
            logits = logits_of(hidden, head, model.soft_cap)
            log_p = jax.nn.log_softmax(logits)
            log_p = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
            return log_p, jnp.argmax(logits, axis=-1) == targets

    targets, real = batch["decoder_target_tokens"], batch["decoder_loss_weights"] > 0
    found = jax.lax.map(of_chunk, [in_chunks(x, CHUNK_TOKENS) for x in (hidden, targets)])
    log_p, likeliest = (joined(x, targets.shape[1]) for x in found)
    return jnp.sum(jnp.where(real, log_p, 0.0), axis=1), jnp.all(likeliest | ~real, axis=1)

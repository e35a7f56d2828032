"""The log-likelihood of given targets, without ever holding [batch, length, vocab].

As in the loss, the head is applied to a few positions at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from promot_jax.models.layout import Variables, nested
from promot_jax.models.loss import CHUNK_TOKENS
from promot_jax.models.t5 import T5


def score(
    model: T5,
    variables: Variables,
    inputs: Int[Array, "batch inputs"],
    targets: Int[Array, "batch targets"],
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """log P(targets | inputs) in nats, and whether greedy search produces the targets.

    All tokens of a target count, its EOS too where it has one; padding (0) does not.
    """
    previous = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": previous}

    def hidden_and_head(module):
        return module.hidden(batch), module.head()

    hidden, head = model.apply(nested(variables), method=hidden_and_head)

    def at_one_position(hidden_and_target):
        hidden, target = hidden_and_target  # [batch, embed], [batch]
        logits = hidden.astype(jnp.float32) @ head
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=-1)[:, 0]
        return log_p, jnp.argmax(logits, axis=-1) == target

    rows, length = targets.shape
    positions = (jnp.moveaxis(hidden, 1, 0), targets.T)
    size = max(1, min(length, CHUNK_TOKENS // rows))
    log_p, likeliest = jax.lax.map(at_one_position, positions, batch_size=size)
    real = targets.T > 0
    return jnp.sum(jnp.where(real, log_p, 0.0), axis=0), jnp.all(likeliest | ~real, axis=0)

"""A T5 small enough to compile in a second or two, and batches for it."""

import jax
import numpy as np

from promot_jax.models import T5, Prompt, T5Config, abstract, prompt_ids, stack_layers
from promot_jax.models.layout import canonical

VOCAB = 64
PROMPTS = (Prompt("first", 3), Prompt("second", 2))
IDS = prompt_ids(PROMPTS, VOCAB)


def tiny(prompts=PROMPTS, **changes) -> T5:
    """A T5 1.1 of two and two layers; `changes` are fields of its config."""
    sizes = {"vocab_size": VOCAB, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    config = T5Config(**(sizes | layers | changes))
    return T5(config, tuple((p.name, p.length) for p in prompts))


def variables_of(model: T5, seed: int = 0) -> dict[str, jax.Array]:
    """Random variables as arrays of numpy's: no program is compiled to draw them.

    Those of scanned layers are the unrolled ones stacked.
    """
    rng, drawn = np.random.default_rng(seed), {}
    for path, leaf in sorted(abstract(canonical(model)).items()):
        spread = (
            1.0 if leaf.ndim < 2 or "embed" in path or "prompt" in path else leaf.shape[0] ** -0.5
        )
        value = rng.normal(1.0 if path.endswith("scale") else 0.0, 0.5 * spread, leaf.shape)
        drawn[path] = jax.device_put(value.astype(leaf.dtype))
    return stack_layers(drawn) if model.config.scan_layers else drawn


def batch_of(rows=3, inputs=8, targets=6, seed=0, prompts=None) -> dict[str, np.ndarray]:
    """Rows of various lengths, each ending in EOS; `prompts` names each row's prompt, or None."""
    rng = np.random.default_rng(seed)
    names = [None] * rows if prompts is None else prompts
    x, y = np.zeros((rows, inputs), np.int32), np.zeros((rows, targets), np.int32)
    for row, name in enumerate(names):
        soft = IDS[name] if name else np.zeros(0, np.int32)
        text = rng.integers(3, VOCAB, rng.integers(1, inputs - len(soft)))
        ids = np.concatenate([soft, text, [1]])
        x[row, : len(ids)] = ids
        count = rng.integers(1, targets + 1)
        y[row, :count] = [*rng.integers(3, VOCAB, count - 1), 1]
    shifted = np.concatenate([np.zeros((rows, 1), np.int32), y[:, :-1]], axis=1)
    return {
        "encoder_input_tokens": x,
        "encoder_segment_ids": (x > 0).astype(np.int32),
        "decoder_input_tokens": shifted * (y > 0),
        "decoder_target_tokens": y,
        "decoder_loss_weights": (y > 0).astype(np.float32),
    }

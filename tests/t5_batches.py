"""Batches of T5 in tests: what is padding shows by its id, 0, and outputs end in EOS, 1."""

import numpy as np

from promot_jax.models import generate, generate_all


def segments_of(tokens):
    """1 where a token is no padding."""
    return (tokens > 0).astype(np.int32)


def with_segments(batch):
    """The batch with the segments of its inputs."""
    return batch | {"encoder_segment_ids": segments_of(batch["encoder_input_tokens"])}


def answers(model, variables, inputs, decoding, rows=None):
    """`generate` with T5's ends."""
    return generate(model, variables, inputs, segments_of(inputs), decoding, (1,), rows)


def all_answers(model, variables, inputs, decoding):
    """`generate_all` with T5's ends."""
    return generate_all(model, variables, inputs, segments_of(inputs), decoding, (1,))

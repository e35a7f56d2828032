"""Lengths: what is padded to what, what is computed together, and what has room."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from promot_jax.errors import UserError

FULL_LENGTH = 512  # up to this length batches have all their rows


def padded_length(longest: int) -> int:
    """What inputs are padded to where nothing sets it: few lengths, so few compilations."""
    return max(32, 1 << (longest - 1).bit_length())


def rows_at_once(batch_size: int, length: int) -> int:
    """How many rows of `length` tokens are computed together: `batch_size`, halved until they fit.

    Attention needs memory as rows * length ** 2 does, of which a batch may take as much as
    `batch_size` rows of `FULL_LENGTH` tokens; one row always goes. Few sizes, so few compilations.
    """
    rows = batch_size
    while rows > 1 and rows * length**2 > batch_size * FULL_LENGTH**2:
        rows = -(-rows // 2)
    return rows


class Batch(NamedTuple):
    """Numbers of rows that are computed together, filled up to `size` rows."""

    rows: list[int]
    size: int


def by_length(
    lengths: Sequence[tuple[int, ...]], batch_size: int, least: int = 1
) -> Iterator[Batch]:
    """Rows to be answered, shortest first; long ones by themselves, the longer the fewer at once.

    So a row of thousands of tokens costs nothing to the others, and 8 rows are no batch of 64:
    sizes are powers of two, `batch_size`, or halves of it, so that there are few to compile.

    Args:
      lengths: what each row is padded to; with targets to score, (inputs, targets).
      batch_size: most rows at once.
      least: rows that are computed at once in any case, one on each device.
    """
    left = sorted(range(len(lengths)), key=lengths.__getitem__)
    while left:
        longest = itertools.accumulate((max(lengths[row]) for row in left[:batch_size]), max)
        room = [max(rows_at_once(batch_size, length), least) for length in longest]
        # Of the first ones: room only shrinks.
        count = sum(i < most == room[0] for i, most in enumerate(room))
        size = min(room[0], 1 << (count - 1).bit_length())
        yield Batch(left[:count], max(size, least))
        left = left[count:]


def prompt_room(prompt_ids: np.ndarray, input_length: int, name: str = "") -> int:
    """How many input tokens have room behind the prompt.

    Raises:
      UserError: it leaves none.
    """
    if len(prompt_ids) >= input_length:
        size = len(prompt_ids)
        raise UserError(
            f"{f'prompt {name!r}' if name else 'the prompt'} has {size} tokens and fills"
            f" input_length={input_length}; set input_length to {size} + the tokens of an input, or"
            " use a shorter prompt"
        )
    return input_length - len(prompt_ids)


def trim(ids: Sequence[int], room: int, end: int = 1) -> Sequence[int]:
    """The first ids and the last `end` of them (at most half of `room`), `room` in all."""
    end = min(end, max(room // 2, 1))
    return ids if len(ids) <= room else [*ids[: room - end], *ids[-end:]]

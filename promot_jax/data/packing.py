"""Packing: several short examples in one row of a batch.

Padding is arithmetic thrown away; packing puts whole examples behind one another and tells them
apart by segment ids. No example is ever split, and each keeps its own prompt, since a prompt is
nothing but ids in front of its tokens. Packs are formed once, from the lengths alone, and then are
the units that epochs shuffle: so a packed batch is as reproducible as any other.
"""

import numpy as np

OPEN_PACKS = 128


def pack(lengths: np.ndarray, room: tuple[int, int], rng: np.random.Generator) -> list[list[int]]:
    """Packs examples first-fit, in shuffled order.

    Only the 128 packs with the most room stay open, so that time is linear in the examples.

    Args:
      lengths: [n, 2], each example's input length (with its prompt) and target length.
      room: what a row holds of both.
      rng: the order in which examples are put into packs.

    Returns:
      Packs as lists of example numbers; every number in range(n) is in exactly one.
    """
    lengths = np.asarray(lengths, np.int64).reshape(-1, 2)
    packs: list[list[int]] = []
    left = np.full((OPEN_PACKS, 2), -1, np.int64)  # room in the open packs; none is open yet
    opened = np.zeros(OPEN_PACKS, np.int64)  # their places in `packs`
    for i in rng.permutation(len(lengths)):
        fits = (left >= lengths[i]).all(axis=1)
        slot = int(fits.argmax())
        if not fits[slot]:
            slot = int(left.sum(axis=1).argmin())
            left[slot], opened[slot] = room, len(packs)
            packs.append([])
        left[slot] -= lengths[i]
        packs[opened[slot]].append(int(i))
    return packs

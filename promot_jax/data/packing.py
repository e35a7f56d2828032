"""Packing: several short examples in one row of a batch.

Padding is arithmetic thrown away; packing puts whole examples behind one another and tells them
apart by segment ids. No example is ever split, and each keeps its own prompt, since a prompt is
nothing but ids in front of its tokens. Packs are formed once, from the lengths alone, and then are
the units that epochs shuffle: so a packed batch is as reproducible as any other.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

OPEN_PACKS = 128
WORD = 64  # bits of a word, one for each open pack
STRETCH = 1 << 16  # examples whose lengths are Python's numbers at a time


@dataclasses.dataclass(frozen=True)
class Packs:
    """Packs of examples: `packs[k]` are the numbers of those in pack k.

    Attributes:
      order: the examples of all packs, one pack behind the other.
      ends: where each pack ends in it.
    """

    order: Int[np.ndarray, " examples"]
    ends: Int[np.ndarray, " packs"]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, k: int) -> Int[np.ndarray, " members"]:
        return self.order[self.ends[k - 1] if k else 0 : self.ends[k]]

    def __iter__(self) -> Iterator[Int[np.ndarray, " members"]]:
        return (self[k] for k in range(len(self)))


def pack(lengths: np.ndarray, room: tuple[int, int], rng: np.random.Generator) -> Packs:
    """Packs examples first-fit, in shuffled order; every example is in exactly one pack.

    Only the 128 packs with the most room stay open, so that time is linear in the examples.

    Args:
      lengths: [n, 2], each example's input length (with its prompt) and target length, which `room`
        holds.
      room: what a row holds of both.
      rng: the order in which examples are put into packs.
    """
    lengths = np.asarray(lengths, np.int32).reshape(-1, 2)
    order = rng.permutation(len(lengths)).astype(np.int32)
    packs = np.zeros(len(order), np.int32)  # of the examples in this order
    bins, opened, count = _OpenPacks(room), [0] * OPEN_PACKS, 0
    for begin in range(0, len(order), STRETCH):
        stretch = lengths[order[begin : begin + STRETCH]].tolist()
        for place, (x, y) in enumerate(stretch, start=begin):
            slot = bins.first_fit(x, y)
            if slot is None:
                slot = bins.open()
                opened[slot], count = count, count + 1
            bins.put(slot, x, y)
            packs[place] = opened[slot]
    members = order[packs.argsort(kind="stable")]
    return Packs(members, np.bincount(packs, minlength=count).cumsum(dtype=np.int32))


class _OpenPacks:
    """The packs that are open.

    For each number of tokens it is noted which packs have room for so many: a bit for each pack, so
    that those with room for an input and a target are found by one `&` for each word.
    """

    def __init__(self, room: tuple[int, int]):
        self.room = room
        self.left = [[-1, -1] for _ in range(OPEN_PACKS)]  # none is open yet
        self.sums = np.full(OPEN_PACKS, -2, np.int64)
        words = OPEN_PACKS // WORD
        self.fitting = [[np.zeros(size + 1, np.uint64) for size in room] for _ in range(words)]
        self.bits = [np.uint64(1 << (slot % WORD)) for slot in range(OPEN_PACKS)]

    def first_fit(self, x: int, y: int) -> int | None:
        """The first pack with room for so many tokens of both."""
        for word, (inputs, targets) in enumerate(self.fitting):
            if fits := inputs.item(x) & targets.item(y):
                return word * WORD + (fits & -fits).bit_length() - 1
        return None

    def open(self) -> int:
        """Opens a pack in the place of the fullest one."""
        slot = int(self.sums.argmin())
        for side, fitting in enumerate(self.fitting[slot // WORD]):
            fitting[self.left[slot][side] + 1 :] |= self.bits[slot]
        self.left[slot] = [*self.room]
        self.sums[slot] = sum(self.room)
        return slot

    def put(self, slot: int, x: int, y: int) -> None:
        """Takes room in a pack."""
        inputs, targets = self.fitting[slot // WORD]
        left, bit = self.left[slot], self.bits[slot]
        inputs[left[0] - x + 1 : left[0] + 1] ^= bit
        targets[left[1] - y + 1 : left[1] + 1] ^= bit
        left[0] -= x
        left[1] -= y
        self.sums[slot] -= x + y

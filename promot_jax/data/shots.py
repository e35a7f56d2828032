"""Few-shot inputs: solved examples of the task in front of the question.

Which shots an example gets is a pure function of (seed, task, example, k), so that evaluations can
be compared across methods, checkpoints and machines. Every example has its own endless draw from
the pool, made of digests (stable across machines, Python and numpy versions); k shots are its first
k rows, hence a prefix of the k + 1 shots. Rows with the example's own input never serve as its
shots.
"""

import dataclasses
import hashlib
import itertools
import struct
from collections.abc import Iterator, Sequence

from promot_jax.data.examples import Example, load_examples
from promot_jax.data.tasks import TaskInfo, get_task, is_text, task_info
from promot_jax.data.templates import Template
from promot_jax.errors import UserError

POOL_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class ShotPool:
    """The rows shots are drawn from, and how the task writes them."""

    task: str
    rows: Sequence[Example]
    info: TaskInfo
    seed: int

    def draw(self, example: Example, k: int) -> list[Example]:
        """The example's k shots, in the order they are written.

        Raises:
          UserError: the pool has fewer than k rows with another input.
        """
        order = _permutation(_key("shots", self.seed, example), len(self.rows))
        usable = (self.rows[i] for i in order if self.rows[i].inputs != example.inputs)
        shots = list(itertools.islice(usable, k))
        if len(shots) < k:
            raise self.too_few(k, len(shots))
        return shots

    def too_few(self, k: int, usable: int) -> UserError:
        """What to raise when k shots are asked for and only `usable` rows can serve."""
        return UserError(
            f"shots={k} for task {self.task!r}: only {usable} of the {len(self.rows)} rows in its"
            " pool (the start of its train split) can serve; ask for fewer shots"
        )

    def text(self, inputs: str, shots: Sequence[Example]) -> str:
        """An input text with the given shots in front."""
        template = Template(self.info.shot_template)
        parts = [template.fill({"inputs": s.inputs, "targets": s.targets}) for s in shots]
        return self.info.separator.join([*parts, inputs])


def shot_pool(task: str, most: int, seed: int) -> ShotPool:
    """The pool of a task, to draw up to `most` shots from: the first 2000 rows of its train split.

    Raises:
      UserError: the task has no train split, fewer rows, or yields token ids instead of text.
    """
    found = get_task(task)
    if not is_text(found):
        raise UserError(
            f"task {task!r} yields token ids of its own vocabulary and cannot take shots; set"
            " shots to 0, or register it as text with promot_jax.data.add_task"
        )
    if "train" not in found.source.splits:
        raise UserError(
            f"task {task!r} has no 'train' split to draw shots from (it has"
            f" {sorted(found.source.splits)}); set shots to 0"
        )
    pool = ShotPool(task, load_examples(task, "train", POOL_ROWS), task_info(task), seed)
    if most > len(pool.rows):
        raise pool.too_few(most, len(pool.rows))
    return pool


def pick(choices: Sequence[int], seed: int, example: Example) -> int:
    """One of `choices`, uniformly, as a pure function of (seed, task, example)."""
    if len(choices) == 1:
        return choices[0]
    return choices[next(_numbers(_key("pick", seed, example))) % len(choices)]


def _key(use: str, seed: int, example: Example) -> bytes:
    parts = (use, str(seed), example.task, example.inputs, example.targets)
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def _numbers(key: bytes) -> Iterator[int]:
    """An endless stream of uniform 64-bit numbers that belongs to `key`."""
    for block in itertools.count():
        yield from struct.unpack(
            "<8Q", hashlib.blake2b(block.to_bytes(8, "little"), key=key).digest()
        )


def _permutation(key: bytes, n: int) -> Iterator[int]:
    """A permutation of range(n), made only as far as it is read (a sparse Fisher-Yates shuffle)."""
    moved: dict[int, int] = {}
    for i, number in zip(range(n), _numbers(key), strict=False):
        j = i + number % (n - i)
        yield moved.get(j, j)
        moved[j] = moved.get(i, i)

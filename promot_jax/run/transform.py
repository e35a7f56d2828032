"""What a stage that transforms weights is to do: which coefficients it tries, and which it keeps.

Coefficients are tried one after the other, and each is scored as any checkpoint is. Which one comes
next, and which one is kept in the end, follows from the scores so far and nothing else: so a sweep
that was killed goes on where it was.

A bisection goes from the tuned weights back to those before. It takes the last two coefficients
between which the score crosses its goal, seen from the tuned weights, and tries their mean, until
a score is near enough.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from promot_jax.errors import UserError, check_range, check_types
from promot_jax.run.terms import REFERENCES
from promot_jax.training.transforms import Change, wise_ft

Scores = Mapping[float, float | None]  # coefficient -> what was scored with it, as tried


@dataclasses.dataclass(frozen=True)
class Transform:
    """How a stage changes weights that were trained before it, without data.

    Attributes:
      change: makes one array of the weights before and after training (`training.transforms`).
      coefficients: those that are tried, in this order: how much of the training is kept, from 0
        (as little as `change` can) to 1 (all of it).
      keep: which of them the stage leaves; None: that with the best mean of the selecting score and
        the held-out mean.
      reach: the selecting score, as a share of that of the tuned weights, to which the coefficient
        is bisected; the nearest one found is kept. None: nothing is bisected.
      absolute: `reach` is a score itself, as a share of what right answers score.
      within: how near to it is near enough.
      most: coefficients that a bisection tries at most, beside its two ends and `coefficients`.
      pattern: what is transformed of all that was trained, as in `Part.pattern`.
      reference: what `change` goes back to: the weights "before" the last stage that trained them,
        or the run's "base".
      seed: of what is drawn by chance.

    Raises:
      UserError: a value out of range, or two ways to choose.
    """

    change: Change = dataclasses.field(default_factory=wise_ft)
    coefficients: float | Sequence[float] = (0.5,)
    keep: float | None = None
    reach: float | None = None
    absolute: bool = False
    within: float = 0.005
    most: int = 6
    pattern: str = "params"
    reference: str = "before"
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        given = self.coefficients
        given = (given,) if isinstance(given, int | float) else tuple(given)
        if not given or len(set(given)) < len(given):
            raise UserError(f"Transform.coefficients = {given!r}: give one or more, none twice")
        for value in given:
            check_range("Transform.coefficients: each", value, 0, 1)
        object.__setattr__(self, "coefficients", tuple(map(float, given)))
        if self.keep is not None and self.keep not in given:
            raise UserError(
                f"Transform.keep = {self.keep!r} is none of coefficients = {given!r}: add it there"
            )
        if self.reach is not None:
            if self.keep is not None:
                raise UserError(
                    f"Transform.reach = {self.reach!r} and keep = {self.keep!r}: set one of them"
                )
            if not 0 < self.reach <= 1:
                raise UserError(f"Transform.reach = {self.reach!r}: set a share in (0, 1]")
        check_range("Transform.within", self.within, 0, 1)
        check_range("Transform.most", self.most, 1, 50)
        if self.reference not in REFERENCES:
            raise UserError(f"Transform.reference = {self.reference!r}: set 'before' or 'base'")

    @property
    def first(self) -> tuple[float, ...]:
        """The coefficients that are tried in any case."""
        ends = () if self.reach is None else (1.0, 0.0)
        return tuple(dict.fromkeys((*ends, *self.coefficients)))

    @property
    def tries(self) -> int:
        """How many coefficients are tried at most."""
        return len(self.first) + (0 if self.reach is None else self.most)

    def goal(self, scores: Scores) -> float | None:
        """The score to be reached; None: it is not defined."""
        if self.absolute:
            return self.reach
        tuned = scores[1.0]
        return None if tuned is None else self.reach * tuned

    def next(self, scores: Scores) -> float | None:
        """The coefficient to try next; None: it is known which one is kept.

        `scores`: the selecting score of each that was tried.
        """
        if left := [each for each in self.first if each not in scores]:
            return left[0]
        if self.reach is None or len(scores) >= self.tries:
            return None
        goal = self.goal(scores)
        if goal is None or None in scores.values():
            return None
        if any(abs(score - goal) <= self.within for score in scores.values()):
            return None
        tried = sorted(scores, reverse=True)
        if scores[tried[0]] < goal:
            return None  # even the tuned weights do not reach it
        for above, below in zip(tried, tried[1:], strict=False):
            if scores[below] < goal:
                return (above + below) / 2
        return None  # even the weights before reach it

    def kept(self, scores: Scores, means: Scores) -> float:
        """The coefficient that the stage leaves, when all are tried.

        Args:
          scores: coefficient -> selecting score.
          means: coefficient -> mean of the selecting score and the held-out mean.
        """
        if self.keep is not None:
            return float(self.keep)
        goal = None if self.reach is None else self.goal(scores)
        if goal is not None:
            known = [each for each, score in scores.items() if score is not None]
            return min(known, key=lambda each: (abs(scores[each] - goal), each))
        rank = {each: -1.0 if mean is None else mean for each, mean in means.items()}
        return max(rank, key=lambda each: (rank[each], -each))

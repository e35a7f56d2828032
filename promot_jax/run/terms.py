"""Terms of a stage's loss beside the cross entropy, against the stage's reference.

The reference is the same model with the weights that it had when the stage began, or the run. Each
term is a formula in `models.objective` or `training.reference`; here are its settings.
"""

import dataclasses
from collections.abc import Sequence

from promot_jax.data import TrainData
from promot_jax.errors import UserError, check_range, check_types
from promot_jax.models.objective import DIRECTIONS, KL
from promot_jax.paths import is_name
from promot_jax.training import Penalty

LARGEST = 1e15
REFERENCES = ("before", "base")  # the weights before the stage, or those the run began with
TAKEN = {  # names of other metrics
    *("loss", "z_loss", "correct", "tokens", "cross_entropy", "token_weight", "gradient_norm"),
    *("learning_rate", "seconds", "saving_seconds", "examples_per_second", "step"),
}


def _check(term: "Term") -> None:
    check_types(term)
    check_range(f"{type(term).__name__}.weight", term.weight, 0, LARGEST)
    if not is_name(term.name) or " " in term.name or term.name in TAKEN:
        raise UserError(
            f"{type(term).__name__}.name = {term.name!r}: set a short name without spaces and"
            " slashes, and of no other metric"
        )


@dataclasses.dataclass(frozen=True)
class Divergence:
    """weight * the mean over target tokens of KL between reference and model.

    Attributes:
      weight: how much it counts; the cross entropy counts 1.
      direction: 'forward', KL(reference || model), or 'reverse', KL(model || reference).
      mask_target: without the target token.
      data: whose inputs and targets it is taken on; None: the stage's own batch.
      name: of its metric.
    """

    weight: float = 0.1
    direction: str = "forward"
    mask_target: bool = False
    data: TrainData | None = None
    name: str = "kl"

    def __post_init__(self):
        _check(self)
        if self.direction not in DIRECTIONS:
            raise UserError(
                f"Divergence.direction = {self.direction!r}: set 'forward' or 'reverse'"
            )

    @property
    def kl(self) -> KL:
        """What it is at a position."""
        return KL(self.weight, self.direction, self.mask_target, self.name)


@dataclasses.dataclass(frozen=True)
class Distance:
    """weight / 2 * the sum of squares of how far the weights are from the reference (L2-SP).

    With `data` each square counts as much as the weight matters there: times the diagonal Fisher
    information of those rows (EWC).

    Attributes:
      weight: how much it counts beside the loss per target token.
      pattern: which of the trained arrays it is about.
      data: rows for the Fisher information; its batch size is no matter.
      rows: how many of them.
      name: of its metric.
    """

    weight: float = 0.01
    pattern: str = "*"
    data: TrainData | None = None
    rows: int = 200
    name: str = "distance"

    def __post_init__(self):
        _check(self)
        check_range("Distance.rows", self.rows, 1, 10**9)

    @property
    def penalty(self) -> Penalty:
        """What is computed in a step."""
        return Penalty(self.name, self.weight, self.pattern)


Term = Divergence | Distance


def in_force(terms: Sequence[Term | None]) -> tuple[Term, ...]:
    """The terms without those that are None or weigh nothing.

    Raises:
      UserError: two of one name.
    """
    found = tuple(term for term in terms if term is not None and term.weight)
    names = [term.name for term in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two terms of the loss have the name {twice[0]!r}: rename one")
    return found

"""What a stage trains, and with which optimizer.

A `Part` names arrays by pattern and gives them an optimizer, a learning rate and the step from
which they are trained. Arrays of no part are frozen: no gradient, norm or optimizer state exists
for them.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from promot_jax.errors import UserError, check_range, check_types, check_values
from promot_jax.models.names import STACK, hint, matches
from promot_jax.training.filters import Filter, Schedule

Optimizer = Callable[[Schedule], optax.GradientTransformation]


def adafactor(
    learning_rate: Schedule,
    decay_rate: float = 0.8,
    multiply_by_parameter_scale: bool = True,
    factored: bool = True,
    clipping_threshold: float = 1.0,
    weight_decay_rate: float | None = None,
) -> optax.GradientTransformation:
    """Adafactor as T5X has it (Shazeer & Stern 2018).

    No momentum, updates relative to the parameter's scale. Made of the parts of optax's Adafactor,
    which in float32 is T5X's: four updates of each differ by less than 3e-5 of the largest
    movement. For bfloat16 parameters T5X keeps moments in float32, as here; optax keeps them in
    bfloat16, whose rounding swallows the small changes of late steps (after 1000 steps of random
    gradients the updates are off by 10 to 20 %). Updates are counted from the beginning of the
    stage; T5X, where it restores the optimizer's state, goes on counting.
    """
    given = {
        "decay_rate": decay_rate,
        "multiply_by_parameter_scale": multiply_by_parameter_scale,
        "factored": factored,
        "clipping_threshold": clipping_threshold,
        "weight_decay_rate": weight_decay_rate,
    }
    check_values(adafactor, given)
    check_range("adafactor.decay_rate", decay_rate, 0, 1)
    check_range("adafactor.weight_decay_rate", weight_decay_rate or 0, 0, 1e6)
    if clipping_threshold <= 0:
        raise UserError(f"adafactor.clipping_threshold = {clipping_threshold}: set more than 0")
    parts = [
        optax.scale_by_factored_rms(factored, decay_rate),
        optax.clip_by_block_rms(clipping_threshold),
        optax.scale_by_learning_rate(learning_rate),
    ]
    if multiply_by_parameter_scale:
        parts.append(scale_by_parameter_rms())
    if weight_decay_rate is not None:
        parts.append(optax.add_decayed_weights(-weight_decay_rate))
    optimizer = optax.chain(*parts)
    exact = lambda tree: optax.tree.cast(tree, jnp.float32)  # noqa: E731
    return optax.GradientTransformation(
        lambda params: optimizer.init(exact(params)),
        lambda updates, state, params: optimizer.update(exact(updates), state, exact(params)),
    )


def scale_by_parameter_rms(least: float = 1e-3) -> optax.GradientTransformation:
    """Scales an array's update by the root mean square of the array, at least `least`.

    optax's `scale_by_param_block_rms` without its guard for differentiating through an update,
    which costs a copy of every parameter.
    """

    def scale(update, params):
        rms = lambda x: jnp.sqrt(jnp.mean(jnp.square(x)))  # noqa: E731
        return jax.tree.map(lambda u, x: u * jnp.maximum(rms(x), least), update, params)

    return optax.stateless(scale)


def adamw(
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019)."""
    given = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    check_values(adamw, given)
    for name, value in given.items():
        if value < 0 or (name in ("b1", "b2") and value >= 1) or (name == "eps" and not value):
            limits = {"b1": "a share in [0, 1)", "b2": "a share in [0, 1)", "eps": "more than 0"}
            raise UserError(f"adamw.{name} = {value}: set {limits.get(name, '0 or more')}")
    return optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


@dataclasses.dataclass(frozen=True)
class Part:
    """Arrays trained alike.

    Attributes:
      pattern: a collection ("prompt", "lora", "params"), the beginning of a path ("params/decoder")
        or a pattern ("params/*/mlp/*").
      learning_rate: a constant, or an optax schedule over the part's own updates (from `unfreeze`
        on).
      optimizer: makes the optax transformation from the learning rate's schedule.
      unfreeze: the step of the stage from which on the part is trained.
      clip_norm: largest norm of the part's whole gradient; a longer one is scaled down to it. None:
        any.
      filters: what changes the updates behind the optimizer, in turn; None among them is nothing.
      frozen: pattern, or patterns, of what is left frozen all the same.

    Raises:
      UserError: a value of the wrong type or out of range.
    """

    pattern: str
    learning_rate: float | Schedule = 1e-3
    optimizer: Optimizer = adafactor
    unfreeze: int = 0
    clip_norm: float | None = None
    filters: Sequence[Filter | None] = ()
    frozen: str | Sequence[str] = ()

    def __post_init__(self):
        check_types(self)
        object.__setattr__(self, "filters", tuple(x for x in self.filters if x is not None))
        frozen = (self.frozen,) if isinstance(self.frozen, str) else tuple(self.frozen)
        object.__setattr__(self, "frozen", frozen)
        given = {"unfreeze": self.unfreeze, "clip_norm": self.clip_norm}
        if not callable(self.learning_rate):
            given["learning_rate"] = self.learning_rate
        for name, value in given.items():
            if value is not None and value < 0:
                raise UserError(f"Part.{name} = {value!r} ({self.pattern!r}): set 0 or more")

    def rate(self, step: int) -> float:
        """The learning rate at a step of the stage; 0 while frozen."""
        if step < self.unfreeze:
            return 0.0
        return float(
            self.learning_rate(step - self.unfreeze)
            if callable(self.learning_rate)
            else self.learning_rate
        )

    def peak(self, steps: int) -> float:
        """The highest learning rate in a stage of so many steps, at a hundred places of it."""
        return max(self.rate(step) for step in range(0, steps + 1, max(1, steps // 100)))

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer; each layer of a scanned stack is treated as an array of its own."""
        rate = self.learning_rate
        schedule = rate if callable(rate) else optax.constant_schedule(rate)
        steps = [per_layer(self.optimizer(schedule)), *(each(schedule) for each in self.filters)]
        if self.clip_norm is not None:
            steps.insert(0, optax.clip_by_global_norm(self.clip_norm))
        return steps[0] if len(steps) == 1 else optax.chain(*steps)


def check_parts(
    parts: Sequence[Part], owner: Mapping[str, int], shapes: Mapping[str, Any], steps: int
) -> None:
    """Tries the parts' optimizers and learning rates, which may be anybody's functions.

    Args:
      parts: of a stage of so many `steps`.
      owner: path -> the index of its part.
      shapes: path -> its array's shape and type.

    Raises:
      UserError: one of them fails, or a rate is no number that can be meant.
    """
    for index, part in enumerate(parts):
        paths = [path for path in owner if owner[path] == index][:3]  # few: tracing takes time

        def update(params, part=part):
            optimizer = part.transformation()
            extra = {"value": jnp.zeros(()), "grad": params, "reference": params}
            return optimizer.update(params, optimizer.init(params), params, **extra)

        try:
            rates = [part.rate(step) for step in (part.unfreeze, max(part.unfreeze, steps - 1))]
            jax.eval_shape(update, {path: shapes[path] for path in paths})
        except Exception as error:  # of a foreign function; gin adds lines of who called it
            said, _, called = str(error).partition("\n")
            name = re.search(r"In call to configurable '(\w+)'", called)
            where = f"Part {part.pattern!r}, {name[1] if name else 'optimizer or learning_rate'}"
            raise UserError(
                said if isinstance(error, UserError) else f"{where}: {said:.200}"
            ) from error
        if not all(0 <= rate <= 1e6 for rate in rates):
            raise UserError(
                f"Part {part.pattern!r}: learning_rate begins at {rates[0]} and ends at {rates[1]}:"
                " set numbers from 0 to 1e6"
            )


def per_layer(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Vectorises an optimizer over the layers of scanned stacks.

    Adafactor's clipping, scale and factors are statistics of whole arrays: over a stack they would
    mix the layers, and scanned training would differ from unrolled. Of optax's extra arguments,
    those that mirror the parameters are vectorised too.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def of_layers(updates, state, params, **extra):
        stacked = {name: x for name, x in extra.items() if isinstance(x, dict)}
        rest = {name: x for name, x in extra.items() if name not in stacked}
        run = lambda u, s, p, more: optimizer.update(u, s, p, **more, **rest)  # noqa: E731
        return jax.vmap(run)(updates, state, params, stacked)

    vectorised = optax.GradientTransformationExtraArgs(jax.vmap(optimizer.init), of_layers)
    stack_of = lambda path: path.split(STACK)[0] if STACK in path else ""  # noqa: E731

    def split(params):
        labels = {path: stack_of(path) for path in params}
        return optax.partition(
            {s: vectorised if s else optimizer for s in set(labels.values())},
            labels,
            mask_compatible_extra_args=True,
        )

    return optax.GradientTransformationExtraArgs(
        lambda params: split(params).init(params),
        lambda updates, state, params, **extra: split(params).update(
            updates, state, params, **extra
        ),
    )


def _thawed(part: Part, covered: Sequence[str]) -> list[str]:
    """What of the covered paths is not to stay frozen.

    Raises:
      UserError: a pattern of `frozen` matches none of them, or all are frozen.
    """
    left = list(covered)
    for pattern in part.frozen:
        if not any(matches(pattern, path) for path in covered):
            layered = "layers_" in pattern and any(STACK in path for path in covered)
            fix = (
                "scan_layers = True keeps all layers of a stack in one array: set it False"
                if layered
                else f"{part.pattern!r} covers {covered[0]}, ..."
            )
            raise UserError(f"Part.frozen = {pattern!r} matches no array: {fix}")
        left = [path for path in left if not matches(pattern, path)]
    if not left:
        raise UserError(
            f"Part.frozen = {list(part.frozen)} leaves nothing of {part.pattern!r} to be trained:"
            " take a pattern out"
        )
    return left


def assign(parts: Sequence[Part], paths: Iterable[str]) -> dict[str, int]:
    """For every path that is trained, the index of its part.

    Raises:
      UserError: a pattern without match, or a path with two parts.
    """
    paths = list(paths)
    owner: dict[str, int] = {}
    for index, part in enumerate(parts):
        covered = [path for path in paths if matches(part.pattern, path)]
        covered = _thawed(part, covered) if covered else []
        if not covered:
            raise UserError(
                f"Part.pattern = {part.pattern!r} matches no array"
                f"{hint(part.pattern, paths)}; the collections are"
                f" {sorted({p.split('/')[0] for p in paths})}"
            )
        for path in covered:
            if path in owner:
                first = parts[owner[path]].pattern
                raise UserError(
                    f"Part.pattern {first!r} and {part.pattern!r} both cover {path}: narrow one of"
                    " them"
                )
            owner[path] = index
    return owner

"""From the table to runs: each a list of gin files and bindings, and the runs that go before it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.forgetting.table import METHODS, PAIRS, TARGETS, Method

SETTINGS = "bench/forgetting/lab.gin"
SHIPPED = {0: "promot_jax/assets/lab/base"}  # seed of pre-training -> its base
SECOND_STAGE = "run.Run.stages = [@model/run.Stage()]"
WITHOUT_PROMPT = "INPUT_LENGTH = 32"  # there is no prompt that the rows need room for
NAMED = {method.name: method for method in METHODS}
BASE, PRETRAINING = "base", "pretraining"
# Names of the table of results -> whose runs they are read off.
OWNERS = NAMED | {name: method for method in METHODS for name in method.sweeps.values()}
STARTED_FROM = {PRETRAINING, *(method.after for method in METHODS)}


class Run(NamedTuple):
    """One run of the benchmark.

    Attributes:
      name: of its directory and its row: `<target>/base<b>-seed<s>/<method>-<settings>`.
      about: method, target, base, seed, knobs: what its row says.
      files: gin files, in order.
      bindings: gin bindings, all but WORKDIR.
      before: runs that must be there: BASE is the work directory of the last one.
    """

    name: str
    about: Mapping[str, object]
    files: tuple[str, ...]
    bindings: tuple[str, ...]
    before: tuple["Run", ...] = ()

    def command(self, root: Path) -> list[str]:
        """`promot run` with all it takes, in a directory of the benchmark's."""
        return [
            "promot", "run", *(f"--gin_file={file}" for file in self.files),
            *(f"--gin.{x.replace(' = ', '=', 1)}" for x in self.all_bindings(root)),
        ]  # fmt: skip

    def all_bindings(self, root: Path) -> list[str]:
        """With the directories: where it is, and where it starts from."""
        base = [] if not self.before else [f"BASE = {str(root / self.before[-1].name)!r}"]
        return [*self.bindings, *base, f"WORKDIR = {str(root / self.name)!r}"]

    def drift_from(self, root: Path) -> tuple[str, str, str, bool] | None:
        """The last arguments of `drift.measure`; None: it makes a base."""
        base, target = self.about["base"], self.about["target"]
        if target is None:
            return None
        method = NAMED[self.about["method"]]
        attached = method.recipe != "lora_promot"  # which takes LoRA away
        where = SHIPPED.get(base, str(root / f"base{base}"))
        return where, target, f"{target}{method.variant}", attached


def everything(quick: bool = False, only: str | None = None) -> list[Run]:
    """All runs in the order in which they are best done: seed for seed, tier for tier.

    Args:
      quick: those of one pair and target that are quick.
      only: pattern (of `re.search`) in the names of those that are wanted.
    """
    places = [
        (seed, tier, base, target)
        for tier, targets in PAIRS.items()
        for target, pairs in targets.items()
        for base, seed in pairs
    ]
    quickest = (0, 1, 0, TARGETS[0])
    found = [
        run
        for seed, tier, base, target in sorted(places)
        for method in METHODS
        if method.tier == tier
        if not quick or (method.quick and (seed, tier, base, target) == quickest)
        for run in runs_of(method, target, base, seed)
    ]
    unique = {run.name: run for run in found}  # the base is the same for all seeds
    return [run for name, run in unique.items() if only is None or re.search(only, name)]


def runs_of(method: Method, target: str, base: int, seed: int) -> Iterator[Run]:
    """The runs of one method with one pair and target, one for each choice of its grid."""
    before = (*_bases(base), *_stage_one(method, target, base, seed))
    for knobs in method.choices():
        slug = "-".join([_slug(method.name), *(f"{_short(k)}{v}" for k, v in knobs.items())])
        of_base = method.name == BASE  # which has no seed of its own
        pair = f"base{base}" if of_base else f"base{base}-seed{seed}"
        about = {"method": method.name, "target": target, "base": base}
        about["seed"] = None if of_base else seed
        yield Run(
            f"{target}/{pair}/{slug}",
            about | {"knobs": dict(knobs)},
            tuple(_files(method)),
            tuple(_bindings(method, target, None if before else base, seed, knobs)),
            before,
        )


def _files(method: Method) -> Iterator[str]:
    yield f"gin/recipes/{method.recipe}.gin"
    yield SETTINGS
    yield from (f"gin/remedies/{name}.gin" for name in method.remedies)
    if method.then is not None:
        yield f"bench/forgetting/{method.then}.gin"


def _bindings(method: Method, target: str, base: int | None, seed: int, knobs) -> Iterator[str]:
    yield f"TASK = {target + method.variant!r}"
    if method.recipe != "evaluate":
        yield f"SEED = {seed}"
    if base is not None:
        yield f"BASE = {SHIPPED[base]!r}"
    if method.recipe.startswith("promot"):
        yield SECOND_STAGE
    elif method.recipe == "finetune":
        yield WITHOUT_PROMPT
    yield from method.settings
    yield from (f"{name} = {value!r}" for name, value in knobs.items())


def _bases(base: int) -> Iterator[Run]:
    """The run that makes a base, unless it is shipped."""
    if base not in SHIPPED:
        about = {"method": PRETRAINING, "target": None, "base": base, "seed": base, "knobs": {}}
        yield Run(f"base{base}", about, ("gin/runs/lab_pretrain.gin",), (f"SEED = {base}",))


def _stage_one(method: Method, target: str, base: int, seed: int) -> Iterator[Run]:
    """The run that a method starts from."""
    if method.after is None:
        return
    if method.other:
        target = next(each for each in TARGETS if each != target)
    runs = list(runs_of(NAMED[method.after], target, base, seed))
    yield next(run for run in runs if method.of.items() <= run.about["knobs"].items())


def with_those_before(runs: Iterable[Run]) -> dict[str, Run]:
    """Runs by name, each behind those that go before it."""
    found: dict[str, Run] = {}
    for run in runs:
        found |= with_those_before(run.before)
        found[run.name] = run
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _short(setting: str) -> str:
    return {"LEARNING_RATE": "lr"}.get(setting, setting.lower())

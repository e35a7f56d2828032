"""Where a stage's variables come from. In this order, written once:

1. the stage's own newest checkpoint: it is resumed;
2. the best checkpoint of the stage before;
3. the run's base;
4. random values from the run's seed, and prompts and LoRA from their initialisers.

What a checkpoint does not hold comes from what it refers to, whose digest is compared.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding
from jax.stages import Lowered

from promot_jax.console import say
from promot_jax.errors import UserError
from promot_jax.files import read_json
from promot_jax.models import (
    Config,
    Model,
    Prompt,
    Variables,
    abstract,
    init,
    init_lora,
    init_prompts,
    logical_axes,
    stack_layers,
    unstack_layers,
)
from promot_jax.paths import as_path, resolve
from promot_jax.training.bases import Bases
from promot_jax.training.checkpoints import Checkpoints, steps_in
from promot_jax.training.description import Description, is_running
from promot_jax.training.digests import digest
from promot_jax.training.mesh import shardings

# How a model is computed, not what it is: a base of other settings serves as well.
CHANGEABLE = {"dropout_rate", "dtype", "param_dtype", "scan_layers", "remat", "attention", "lora"}
EMBEDDING = "params/token_embedder/embedding"
ADDED = ("prompt/", "lora/")  # collections that a model may have or not, whatever its base has
ANYWHERE = Bases()  # where they were, and beside
LOOKS = 5
Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A model on a mesh: shape, dtype and sharding of every variable."""

    model: Model
    mesh: Mesh

    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes with shardings; costs nothing."""
        shapes = abstract(self.model)
        places = shardings(self.mesh, shapes, logical_axes(self.model))
        return {
            p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[p]) for p, x in shapes.items()
        }

    def shardings(self) -> dict[str, NamedSharding]:
        """The sharding of every variable."""
        return {path: leaf.sharding for path, leaf in self.abstract().items()}

    def random(self, seed: int) -> Variables:
        """Random variables, each array made where it will lie; prompts are zeros."""
        return self.lower_random().compile()(jax.random.key(seed))  # a large program, not kept

    def lower_random(self) -> Lowered:
        """The program that makes them, from a key."""
        make = jax.jit(lambda key: init(self.model, key), out_shardings=self.shardings())
        return make.lower(jax.eval_shape(jax.random.key, 0))

    def with_scan(self, scan: bool) -> "Layout":
        """The same model with scanned or unrolled layers."""
        config = dataclasses.replace(self.model.config, scan_layers=scan)
        return Layout(self.model.clone(config=config), self.mesh)


def stage_directory(path: str, setting: str = "WORKDIR") -> tuple[str, Path]:
    """The work directory and stage directory that a path means; `setting` named it.

    Raises:
      UserError: there is no checkpoint.
    """
    given = as_path(resolve(path), setting)
    if (given / "run.json").exists():
        stages = [given / name for name in Description.read(str(given)).stages]
        # A stage that only evaluates, or has just begun, has none.
        done = [stage for stage in stages if _has_checkpoint(stage)]
        if done:
            _check_lost(given, stages[stages.index(done[-1]) + 1 :])
            return str(given), done[-1]
        raise UserError(f"{setting} = {path!r} has no checkpoint yet: finish that run first")
    if (given.parent / "run.json").exists() and (given / "checkpoints").is_dir():
        return str(given.parent), given
    raise UserError(
        f"{setting} = {path!r} is no work directory (it has no run.json), nor a stage in one:"
        " check the path"
    )


def checkpoint_name(path: str) -> str:
    """Which checkpoint a path means and when it was written, e.g. "2-model/1000 of <ns>"."""
    home, stage = stage_directory(path)

    def look() -> str:
        with contextlib.closing(Checkpoints(stage / "checkpoints", read_only=True)) as checkpoints:
            step = checkpoints.best()
            return f"{stage.name}/{step} of {checkpoints.written(step)}"

    return _while_it_runs(home, look)


def check_base(path: str, model: Config) -> None:
    """Raises UserError unless a base has a checkpoint, and of a model of this architecture."""
    theirs = Description.read(stage_directory(path, "BASE")[0]).model
    if theirs.kind != model.kind:
        raise UserError(
            f"BASE = {path!r} is of another kind of model ({theirs.kind}) than MODEL"
            f" ({model.kind}): set the MODEL that it was made with"
        )
    name = type(model).__name__
    for field in dataclasses.fields(model):
        ours, other = getattr(model, field.name), getattr(theirs, field.name)
        if field.name not in CHANGEABLE and ours != other:
            raise UserError(
                f"BASE = {path!r} is of another model: its {field.name} is {other!r}, but"
                f" {name}.{field.name} = {ours!r}: set the MODEL that it was made with"
            )
    if theirs.lora is not None and model.lora is None:
        say(f"the LoRA of BASE = {path!r} is left out: gin/models/of_base.gin would keep it")
    elif theirs.lora is not None and theirs.lora != model.lora:
        raise UserError(
            f"BASE = {path!r} has LoRA of other settings ({theirs.lora}) than this run"
            f" ({model.lora}): set them, or start from its export by promot export --merge"
        )


def _has_checkpoint(stage: Path) -> bool:
    """Whether a stage has a complete checkpoint."""
    return bool(steps_in(stage / "checkpoints"))


def _check_lost(workdir: Path, stages: Sequence[Path]) -> None:
    """Raises UserError where a stage without a checkpoint has results of one that it trained."""
    with contextlib.suppress(FileNotFoundError):
        for row in read_json(workdir / "results.json", list):
            stage = workdir / str(row.get("stage")) if isinstance(row, dict) else None
            if stage in stages and row.get("step") and row.get("selected"):
                raise UserError(
                    f"the checkpoint {stage / 'checkpoints' / str(row['step'])} is gone, whose"
                    " scores results.json has: restore it, or give the same run command again"
                )


def load(path: str, layout: Layout, setting: str = "WORKDIR", bases: Bases = ANYWHERE) -> Variables:
    """The variables of a work directory's (or stage directory's) best checkpoint, complete.

    `setting` named the path; `bases`: where the bases that it refers to are looked for.

    Prompts, and LoRA, that `layout.model` does not declare are left out; what it declares of them
    but the checkpoint lacks is absent from the result.

    Raises:
      UserError: no or damaged checkpoint, or arrays that do not fit the model; all of them named.
    """
    home, directory = stage_directory(path, setting)

    def look() -> tuple[Variables, dict[str, Any]]:
        with contextlib.closing(
            Checkpoints(directory / "checkpoints", read_only=True)
        ) as checkpoints:
            step = checkpoints.best()
            if step is None:
                raise UserError(f"{path!r} has no complete checkpoint: finish that run first")
            return read(checkpoints, step, layout, where=path), checkpoints.note(step)

    stored, note = _while_it_runs(home, look)
    return _complete(stored, note["reference"], layout, home, bases)


def _while_it_runs(workdir: str, look: Callable[[], Found]) -> Found:
    """`look()`, again where a run that goes on there may have removed what it looked at.

    One host's alone: several would have to agree on what they saw.
    """
    for _ in range(LOOKS):
        try:
            return look()
        except UserError:
            if not is_running(workdir) or jax.process_count() > 1:
                raise
        time.sleep(1)
    return look()


def read(checkpoints: Checkpoints, step: int, layout: Layout, where: str) -> Variables:
    """A checkpoint's variables in the layout of the model, as far as it has them."""
    shapes = checkpoints.shapes(step)
    scanned = any("/layers/" in path for path in shapes)
    source = layout.with_scan(scanned) if scanned != layout.model.config.scan_layers else layout
    target = source.abstract()
    wanted = {p: leaf for p, leaf in shapes.items() if p in target or not p.startswith(ADDED)}
    if not wanted:
        return {}  # of prompts, or LoRA, that this model does not have
    _check_shapes(wanted, target, where)
    variables = checkpoints.variables(step, {path: target[path] for path in wanted})
    if source is layout:
        return variables
    restack, everywhere = unstack_layers if scanned else stack_layers, layout.shardings()
    places = {path: everywhere[path] for path in jax.eval_shape(restack, variables)}
    return jax.jit(restack, out_shardings=places)(variables)


def _check_shapes(stored: Mapping[str, Any], target: Mapping[str, Any], where: str) -> None:
    surplus = [path for path in stored if path not in target]
    wrong = [
        f"{p} {tuple(stored[p].shape)} instead of {target[p].shape}"
        for p in stored
        if p in target and tuple(stored[p].shape) != target[p].shape
    ]
    if problems := [f"{path} is not in the model" for path in surplus] + wrong:
        raise UserError(
            f"{where!r} does not fit the model: {'; '.join(problems[:4])}"
            f"{f'; and {len(problems) - 4} more' if len(problems) > 4 else ''}:"
            " set the MODEL that it was made with, or for prompts their length or another name"
        )


def _complete(
    stored: Variables,
    reference: Mapping[str, Any],
    layout: Layout,
    workdir: str,
    bases: Bases,
) -> Variables:
    """Adds what a checkpoint only refers to."""
    missing = {p for p in layout.abstract() if p not in stored and not p.startswith(ADDED)}
    if not missing:
        if bases.named and not bases.passed:
            say(f"{workdir!r} holds its whole model: the base that is named is not looked at")
        return stored
    about = Description.read(workdir)

    def take(base: str | None, bases: Bases) -> Variables:
        rest = origin(base, about.seed, layout, bases)
        rest = {path: rest[path] for path in missing}
        verify(rest, reference, base)
        return stored | rest

    if about.base is None:
        return take(None, bases)
    return bases.first_that_fits(workdir, about, take)


def origin(base: str | None, seed: int, layout: Layout, bases: Bases = ANYWHERE) -> Variables:
    """A run's beginning: its base's variables, or random ones; prompts and LoRA only of the base.

    `bases`: where what the base itself refers to is looked for.
    """
    if base is None:
        return {p: x for p, x in layout.random(seed).items() if not p.startswith(ADDED)}
    variables = load(base, layout, "BASE", bases)
    if missing := [p for p in layout.abstract() if p not in variables and not p.startswith(ADDED)]:
        raise UserError(
            f"BASE = {base!r} lacks {missing[0]} and {len(missing) - 1} more: set the MODEL it"
            " was made with"
        )
    return variables


def reference(seed: int, untouched: Variables) -> dict[str, Any]:
    """What a checkpoint's note says of the variables that it does not hold."""
    dtypes = sorted({str(x.dtype) for x in untouched.values()})
    return {
        "seed": seed,
        "dtypes": dtypes,
        "digest": digest(untouched) if untouched else None,
    }


def verify(variables: Variables, note: Mapping[str, Any], base: str | None) -> None:
    """Raises UserError unless the variables, of `base`, are those a reference was made of.

    Variables read as another type than they were trained in cannot be compared and are not.
    """
    comparable = sorted({str(x.dtype) for x in variables.values()}) == note["dtypes"]
    if comparable and digest(variables) != note["digest"]:
        source = f"base {base!r}" if base else f"random weights of seed {note['seed']}"
        raise UserError(
            f"the {source} is no longer what this checkpoint was trained on (digests differ):"
            " restore it"
        )


def add_prompts(
    variables: Variables, prompts: Sequence[Prompt], layout: Layout, seed: int
) -> Variables:
    """Variables with every prompt they lack drawn from its initialiser."""
    if all(f"prompt/{prompt.name}" in variables for prompt in prompts):
        return variables
    places = {p.name: layout.abstract()[f"prompt/{p.name}"].sharding for p in prompts}
    scale = layout.model.embedding_scale
    make = jax.jit(
        lambda key, table: init_prompts(key, table if scale == 1 else table * scale, prompts),
        out_shardings=places,
    )
    fresh = make(jax.random.fold_in(jax.random.key(seed), 1), variables[EMBEDDING])
    return {f"prompt/{name}": value for name, value in fresh.items()} | variables


def add_lora(variables: Variables, layout: Layout, seed: int) -> Variables:
    """Variables with the LoRA that the model declares, where they lack it, as training begins."""
    lacking = {
        path: leaf.sharding
        for path, leaf in layout.abstract().items()
        if path.startswith("lora/") and path not in variables
    }
    if not lacking:
        return variables
    make = jax.jit(lambda key: init_lora(layout.model, key), out_shardings=lacking)
    return variables | make(jax.random.fold_in(jax.random.key(seed), 2))

"""`promot plan`: whether a run fits chips that nobody has yet, and how long it takes."""

import argparse
import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promot_jax.errors import UserError

if TYPE_CHECKING:
    from promot_jax.plan.planning import RunPlan
    from promot_jax.plan.rows import Rows
    from promot_jax.plan.search import Instead
    from promot_jax.run import Run


def add_arguments(plan: argparse.ArgumentParser) -> None:
    """The arguments beside those of `promot run`."""
    plan.add_argument("--topology", required=True, help="chips, such as v5e:16x16 or h100:8")
    plan.add_argument("--slices", type=int, default=1, help="so many slices of them; default: 1")
    plan.add_argument("--json", action="store_true", help="for programs")


def plan(args: argparse.Namespace, given: Sequence[str]) -> int:
    """`promot plan`; `given`: the settings of the command line."""
    from promot_jax.plan.topology import stay_on_cpu, topology

    stay_on_cpu()
    chips = topology(args.topology, args.slices)
    from promot_jax.console import say
    from promot_jax.plan.planning import plan as make_plan
    from promot_jax.plan.rows import Rows
    from promot_jax.plan.search import search
    from promot_jax.plan.table import as_json

    rows = Rows()
    run, text = build(args.gin_file, given, rows)
    begun = lambda program: say(f"compiling {program}")  # noqa: E731
    known: dict = {}
    found = make_plan(run, chips, rows, begun, known)
    instead = None if found.fits else search(run, chips, found, begun, known)
    flags = None if instead is None else _flags(instead.settings, text)
    if args.json:
        print(json.dumps(as_json(found) | {"instead": flags}))
        return 0
    _print(found, instead, flags)
    return 0


def build(files: Sequence[str], given: Sequence[str], rows: "Rows") -> tuple["Run", str]:
    """The run of gin files and settings, and these as text; `rows` notes what is assumed."""
    from promot_jax.cli import settings

    defaults = ["WORKDIR = 'planned'", "VOCABULARY_FILE = ''"]  # which a plan does without
    text = settings.parse(files, given, defaults)
    settings.parse(files, [*given, *_without_files(rows)], defaults)
    run = settings.build("Run")
    settings.check_reached(given, text)
    return run, text


def _print(found: "RunPlan", instead: "Instead | None", flags: Sequence[str] | None) -> None:
    from rich.console import Console

    from promot_jax.console import AS_IT_IS, output
    from promot_jax.plan.table import full_width, summary, table

    made = table(found)
    Console(width=max(output.width, full_width(made)), **AS_IT_IS).print(made)
    lines = [*(f"- {assumption}" for assumption in found.assumptions), summary(found)]
    if instead is not None:
        lines += [f"with {' '.join(flags)} it {summary(instead.plan)}"]
    elif not found.fits:
        chips = found.topology
        lines += [f"no remat, MESH, ACCUMULATE and EVAL_BATCH_SIZE do on {chips}: take more chips"]
    for line in lines:
        output.print(line, soft_wrap=True)


def _flags(settings: Mapping[str, Any], text: str) -> list[str]:
    """Settings as flags; `text`: the settings in force, which say where MODEL has its own."""
    model = re.search(r"^MODEL = @([\w.]+)", text, re.MULTILINE)
    names = {"remat": f"{model[1] if model else 'MODEL'}.remat"}
    return [f'--gin.{names.get(name, name)}="{value}"' for name, value in settings.items()]


def _without_files(rows: "Rows") -> Iterator[str]:
    """Settings in the place of those that read files: only sizes count in a plan.

    Any vocabulary gives the same programs. A task whose files are not here is a name.
    """
    import gin

    text = gin.config_str()
    yield "VOCABULARY = @data.byte()"
    if "DATA_DIR =" in text:
        yield "DATA_DIR = None"
    for name in ("TASK", "FIRST_TASK", "HELD_OUT", "REPLAY_TASK", "EWC_TASK", "KL_TASK"):
        try:
            copy.deepcopy(gin.query_parameter(f"%{name}"))  # which calls what it refers to
        except UserError as error:
            if _of_absent_file(error):
                said = str(error).partition("\n")[0]
                rows.assume(f"{name} is not here ({said}): a task of unknown size stands for it")
                yield f"{name} = {name!r}"
        except ValueError:
            pass  # not set


def _of_absent_file(error: BaseException | None) -> bool:
    from promot_jax.data.quiet import tf

    while error is not None:
        if isinstance(error, OSError | tf.errors.NotFoundError):
            return True
        error = error.__cause__ or error.__context__  # gin has its own in between
    return False

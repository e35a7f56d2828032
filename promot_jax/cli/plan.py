"""`promot plan`: whether a run fits chips that nobody has yet, and how long it takes."""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence

import gin
from promot_jax.console import output, say
from promot_jax.errors import UserError


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
    from promot_jax.cli import settings
    from promot_jax.plan.planning import plan as make_plan
    from promot_jax.plan.rows import Rows
    from promot_jax.plan.table import as_json, summary, table

    rows = Rows()
    given = ["WORKDIR = 'planned'", *given]
    text = settings.parse(args.gin_file, given)
    settings.parse(args.gin_file, [*given, *_without_files(rows)])
    run = settings.build("Run")
    settings.check_reached(given, text)
    found = make_plan(run, chips, rows, lambda program: say(_compiling(program)))
    if args.json:
        print(json.dumps(as_json(found)))
        return 0
    output.print(table(found), crop=False, soft_wrap=True)
    for assumption in found.assumptions:
        output.print(f"- {assumption}", soft_wrap=True)
    output.print(summary(found), soft_wrap=True)
    return 0


def _compiling(program) -> str:
    return f"compiling {' '.join(x for x in (program.stage, program.name, program.size) if x)}"


def _without_files(rows) -> Iterator[str]:
    """Settings in the place of those that read files: only sizes count in a plan.

    Any vocabulary gives the same programs. A task whose files are not here is a name.
    """
    text = gin.config_str()
    yield "VOCABULARY = @data.byte()"
    if "DATA_DIR =" in text:
        yield "DATA_DIR = None"
    for name in ("TASK", "FIRST_TASK", "HELD_OUT"):
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

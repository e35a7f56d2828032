"""One verb a task:

    promot run     --gin_file=gin/recipes/promot.gin --gin_file=gin/models/... --gin.WORKDIR='"..."'
    promot plan    --topology=v5e:4x4 --gin_file=...   whether a run fits, and how long it takes
    promot eval    WORKDIR --gin_file=gin/tasks/...    scores of what lies in a work directory
    promot infer   WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target
    promot report  WORKDIR                             pictures and one page
    promot import  SOURCE WORKDIR                      from Hugging Face, GGUF, PEFT or T5X
    promot export  WORKDIR DEST                        for Transformers and PEFT
    promot inspect PATH                                what a checkpoint of any kind is

Bad input gives one line and exit code 2; a run that diverged, a full or broken disk and too little
memory 1. A run stopped by SIGTERM or Ctrl-C while a stage is at work saves, says how to go on, and
exits with 0, on several hosts with 75, so that what started them knows that there is more to do;
stopped before or after, or by a second Ctrl-C, it ends at once with 143 or 130, as the other verbs
do. Of several hosts one that dies or hangs ends the others (75). Where stdout is closed the rest is
not printed (141).
"""

import argparse
import itertools
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import absl.logging

from promot_jax import lost
from promot_jax.cli import convert as convert_verbs
from promot_jax.cli import infer as infer_verb
from promot_jax.cli import plan as plan_verb
from promot_jax.errors import UserError
from promot_jax.failures import disk_failure, failure, writing
from promot_jax.process import AGAIN, CLOSED, patient


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage in front."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}: see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The arguments of all verbs."""
    top = Parser(prog="promot", description=__doc__, allow_abbrev=False)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = top.add_subparsers(dest="verb", required=True)
    gin_flags = Parser(add_help=False, allow_abbrev=False)
    gin_flags.add_argument(
        "--gin_file",
        action="append",
        default=[],
        help="a gin file: a recipe, a run, a model,"
        " a task, in any order; then settings of your own, of which later ones win",
    )
    gin_flags.add_argument(
        "--multihost",
        action="store_true",
        help="join the other hosts, each of which runs this command: TPU pods, SLURM, Open MPI, or"
        " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    gin_flags.add_argument(
        "--host_timeout",
        type=int,
        metavar="SECONDS",
        help="with --multihost: after how long a host that has died or hangs ends the others"
        " (default: 300)",
    )
    help_ = (
        "run the stages of a recipe; continues what was begun"
        " (--gin.NAME=VALUE overrides a setting)"
    )
    verbs.add_parser("run", parents=[gin_flags], help=help_, description=help_, allow_abbrev=False)
    planned = "what a run needs of chips that need not be here: memory, time, chip-hours"
    plan_verb.add_arguments(
        verbs.add_parser(
            "plan", parents=[gin_flags], help=planned, description=planned, allow_abbrev=False
        )
    )
    evaluate = verbs.add_parser(
        "eval", parents=[gin_flags], help="score a work directory on tasks", allow_abbrev=False
    )
    evaluate.add_argument("workdir", help="work directory, or a stage directory in one")
    evaluate.add_argument("--base", action="append", default=[], help=infer_verb.BASE)
    infer = verbs.add_parser("infer", help="answer a file of inputs", allow_abbrev=False)
    infer_verb.add_arguments(infer)
    report = verbs.add_parser(
        "report", help="make report.html of a work directory", allow_abbrev=False
    )
    report.add_argument("workdir")
    convert_verbs.add_arguments(verbs)
    inspect = verbs.add_parser("inspect", help="say what a checkpoint is", allow_abbrev=False)
    inspect.add_argument(
        "path", help="work directory, stage or checkpoint of ours, Hugging Face, GGUF, PEFT, ..."
    )
    inspect.add_argument("--json", action="store_true", help="for programs")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code."""
    args, rest = parser().parse_known_args(argv)
    try:
        _check_encoding(sys.argv[1:] if argv is None else argv)
        code = VERBS[args.verb](args, rest)
        with writing("stdout"):
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        return CLOSED
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        lost.explain(error)
        said, code = _ending(error, args.verb)
        print(f"promot {args.verb}: {' '.join(said.split())}", file=sys.stderr)
        return code


def _ending(error: BaseException, verb: str) -> tuple[str, int]:
    """What to say of an error, and the exit code. Raises it again where it is the program's own."""
    if isinstance(error, UserError):
        full = disk_failure(error.__cause__) if isinstance(error.__cause__, OSError) else None
        return (full, 1) if full else (str(error), 2)
    if isinstance(error, KeyboardInterrupt):
        number = error.args[0] if error.args else signal.SIGINT
        return ("terminated" if number == signal.SIGTERM else "interrupted"), 128 + number
    if isinstance(error, SystemExit):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{frame.filename}, line {frame.lineno}, ended it (sys.exit({error.code!r}))", 1
    if (said := failure(error, verb)) is None:
        raise error
    return said, 1


def _check_encoding(argv: Sequence[str]) -> None:
    """Raises UserError for names that are not UTF-8, which not every library can open."""
    for text in (*argv, os.getcwd()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{text!r} is not UTF-8: rename it, or type it in UTF-8") from error


def bindings(args: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """`--gin.NAME=VALUE` arguments as gin bindings.

    Raises:
      UserError: another unknown argument.
    """
    found = []
    for argument in rest:
        name, equals, value = argument.removeprefix("--gin.").partition("=")
        if not argument.startswith("--gin.") or not equals or not hasattr(args, "gin_file"):
            raise UserError(f"unknown argument {argument!r}: see promot {args.verb} --help")
        found.append(f"{name} = {value}")
    return found


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot run`."""
    if not args.gin_file:
        raise UserError("give at least one --gin_file, such as gin/recipes/promot.gin")
    _quiet()
    _join(args)
    return _run(args, args.gin_file, bindings(args, rest))


def plan(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot plan`."""
    if not args.gin_file:
        raise UserError("give at least one --gin_file, such as gin/recipes/promot.gin")
    _quiet()
    return plan_verb.plan(args, bindings(args, rest))


def evaluate(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot eval`: the recipe `evaluate` on a work directory.

    Its own work directory is `evaluation` in that one, or, where this holds an evaluation of
    another checkpoint or with other settings, the first free one of `evaluation-2`, ...
    """
    _quiet()
    _join(args)
    from promot_jax.cli.settings import parse
    from promot_jax.paths import as_path, expand
    from promot_jax.run.workdir import changed_settings
    from promot_jax.training.variables import checkpoint_name

    files = ["gin/recipes/evaluate.gin", *args.gin_file]
    given = [f"BASE = {args.workdir!r}", f"CHECKPOINT = {checkpoint_name(args.workdir)!r}"]
    given.append(f"BASE_PLACES = {args.base!r}")
    home, own, numbers = as_path(expand(args.workdir)), bindings(args, rest), itertools.count(2)
    root = home / "evaluation"

    def settings() -> list[str]:
        return [*given, f"WORKDIR = {str(root)!r}", *own]

    while _scored(root) and changed_settings(root, parse(files, settings())):
        root = home / f"evaluation-{next(numbers)}"
    return _run(args, files, settings())


def _scored(root: Path) -> bool:
    """Whether an evaluation's work directory has scores, or will have them soon."""
    from promot_jax.training.description import is_running

    return (root / "results.json").exists() or is_running(str(root))


def _run(args: argparse.Namespace, files: Sequence[str], given: Sequence[str]) -> int:
    from promot_jax.cli import settings

    text = settings.parse(files, given)
    from promot_jax.console import say
    from promot_jax.hosts import is_first
    from promot_jax.run import run as run_stages
    from promot_jax.training import Diverged, Interrupted

    try:
        made = settings.build("Run")
        settings.check_reached(given, text)
        workdir = run_stages(made, text)
    except Interrupted as stop:
        print(f"promot: {stop}", file=sys.stderr)
        return AGAIN if args.multihost else 0
    except Diverged as error:
        print(f"promot: {error}", file=sys.stderr)
        return 1
    if is_first() and (workdir / "results.json").exists():
        say(f"results: {workdir / 'results.json'}  page: {_report(str(workdir))}")
    return 0


def _report(workdir: str) -> Path:
    """Makes the page, says what it says, and returns its path."""
    from promot_jax.console import say, show
    from promot_jax.report import report as make_report
    from promot_jax.report import summary

    with writing(workdir):
        page = make_report(workdir)
    table, notes = summary(workdir)
    show(table)
    for note in notes:
        say(note)
    return page


def _quiet() -> None:
    """Orbax warns, through absl, of what it was asked to do; what is bad it raises.

    A read that failed also leaves coroutines behind, which complain when they are collected.
    """
    sys.unraisablehook = lambda _: None
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    absl.logging.set_verbosity(absl.logging.FATAL)


def _join(args: argparse.Namespace) -> None:
    """Joins the other hosts, of which the first one speaks for all."""
    if args.multihost:
        from promot_jax.hosts import TIMEOUT, is_first, join

        join(TIMEOUT if args.host_timeout is None else args.host_timeout)
        from promot_jax.console import console

        console.quiet = not is_first()
    elif args.host_timeout is not None:
        raise UserError(
            f"--host_timeout = {args.host_timeout}: it is for --multihost, give that too"
        )


def infer(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot infer`."""
    bindings(args, rest)
    _quiet()
    with writing(args.output):
        return infer_verb.infer(args)


def report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot report`."""
    bindings(args, rest)
    print(_report(args.workdir))
    return 0


def convert(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot import` and `promot export`."""
    bindings(args, rest)
    _quiet()
    made = args.destination if args.verb == "export" else args.workdir
    with writing(made), patient():  # so that what is half written is removed
        return convert_verbs.convert(args)


def inspect(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot inspect`."""
    bindings(args, rest)
    _quiet()
    from promot_jax.console import output
    from promot_jax.convert.inspect import inspect as facts_of
    from promot_jax.convert.inspect import table

    facts = facts_of(args.path)
    if args.json:
        print(json.dumps(facts))
    else:
        output.print(table(facts))
    return 0


VERBS = {
    "run": run,
    "plan": plan,
    "eval": evaluate,
    "infer": infer,
    "report": report,
    "import": convert,
    "export": convert,
    "inspect": inspect,
}

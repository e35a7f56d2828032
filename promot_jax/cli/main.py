"""One verb a task:

    promot run     --gin_file=gin/recipes/promot.gin --gin_file=gin/models/... --gin.WORKDIR='"..."'
    promot eval    WORKDIR --gin_file=gin/tasks/...    scores of what lies in a work directory
    promot infer   WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target
    promot report  WORKDIR                             pictures and one page

Bad input gives one line and exit code 2, a run that diverged or a damaged one 1. A run stopped by
SIGTERM or Ctrl-C saves, says how to go on, and exits with 0.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import absl.logging

from promot_jax.errors import UserError


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
        "--gin_file", action="append", default=[], help="a gin file; later ones win"
    )
    help_ = (
        "run the stages of a recipe; continues what was begun"
        " (--gin.NAME=VALUE overrides a setting)"
    )
    verbs.add_parser("run", parents=[gin_flags], help=help_, allow_abbrev=False)
    evaluate = verbs.add_parser(
        "eval", parents=[gin_flags], help="score a work directory on tasks", allow_abbrev=False
    )
    evaluate.add_argument("base", help="work directory, or a stage directory in one")
    infer = verbs.add_parser("infer", help="answer a file of inputs", allow_abbrev=False)
    infer.add_argument("workdir")
    infer.add_argument(
        "--input", required=True, type=Path, help=".jsonl with 'inputs' (and 'prompt'), or text"
    )
    infer.add_argument(
        "--output", required=True, type=Path, help=".jsonl; an unfinished one is continued"
    )
    infer.add_argument("--prompt", help="soft prompt of the lines that name none")
    infer.add_argument("--batch_size", type=int, default=64)
    infer.add_argument("--max_length", type=int, default=64, help="most tokens of an output")
    infer.add_argument("--beams", type=int, default=1)
    infer.add_argument("--temperature", type=float, default=0.0)
    infer.add_argument("--top_k", type=int, default=0)
    infer.add_argument("--top_p", type=float, default=1.0)
    infer.add_argument("--seed", type=int, default=0)
    report = verbs.add_parser(
        "report", help="make report.html of a work directory", allow_abbrev=False
    )
    report.add_argument("workdir")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code."""
    args, rest = parser().parse_known_args(argv)
    try:
        return {"run": run, "eval": evaluate, "infer": infer, "report": report}[args.verb](
            args, rest
        )
    except UserError as error:
        print(f"promot {args.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"promot {args.verb}: interrupted", file=sys.stderr)
        return 130


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
    return _run(args.gin_file, bindings(args, rest))


def evaluate(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot eval`: the recipe `evaluate` on a work directory."""
    given = [f"BASE = {args.base!r}", f"WORKDIR = {os.path.join(args.base, 'evaluation')!r}"]
    return _run(["gin/recipes/evaluate.gin", *args.gin_file], [*given, *bindings(args, rest)])


def _run(files: Sequence[str], given: Sequence[str]) -> int:
    from promot_jax.cli import settings

    _quiet()
    _join_pod()
    text = settings.parse(files, given)
    from promot_jax.report import report as make_report
    from promot_jax.run import run as run_stages
    from promot_jax.training import Diverged, Interrupted, console

    try:
        workdir = run_stages(settings.build("Run"), text)
    except Interrupted as stop:
        print(f"promot: {stop}", file=sys.stderr)
        return 0
    except Diverged as error:
        print(f"promot: {error}", file=sys.stderr)
        return 1
    if (workdir / "results.json").exists():
        console.print(f"results: {workdir / 'results.json'}  page: {make_report(str(workdir))}")
    return 0


def _quiet() -> None:
    """Orbax warns, through absl, of what it was asked to do; what is bad it raises.

    A read that failed also leaves coroutines behind, which complain when they are collected.
    """
    sys.unraisablehook = lambda _: None
    absl.logging.set_verbosity(absl.logging.ERROR)


def _join_pod() -> None:
    """On a TPU pod or another cluster, joins the other hosts before JAX sees its devices."""
    if (
        os.environ.get("JAX_COORDINATOR_ADDRESS")
        or len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
    ):
        import jax

        jax.distributed.initialize()


def infer(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot infer`."""
    bindings(args, rest)
    if args.batch_size < 1:
        raise UserError(f"--batch_size = {args.batch_size}: set at least 1")
    _quiet()
    from promot_jax.models import Decoding
    from promot_jax.run import LanguageModel
    from promot_jax.run import infer as infer_file
    from promot_jax.run.inference import read_records
    from promot_jax.training import Bar, console

    names = ("max_length", "beams", "temperature", "top_k", "top_p", "seed")
    decoding = Decoding(**{name: getattr(args, name) for name in names})
    total = sum(1 for _ in read_records(args.input, args.prompt))
    model = LanguageModel(args.workdir)
    with contextlib.closing(Bar("infer", 0, total, 10 * args.batch_size)) as bar:
        done = infer_file(
            model, args.input, args.output, args.prompt, decoding, args.batch_size,
            lambda done: bar.update(done, ""),
        )  # fmt: skip
    console.print(f"{done} outputs in {args.output}")
    return 0


def report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """`promot report`."""
    bindings(args, rest)
    from promot_jax.report import report as make_report

    print(make_report(args.workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main())

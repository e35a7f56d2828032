"""The forgetting experiment on the lab: the base model, then methods x learning rates x seeds.

    python -m bench.demo                                       one seed, a few minutes: `make demo`
    python -m bench.demo --seeds 0 1 2 3 4 --workdir runs/five
    python -m bench.demo --learning_rates 1e-4 3e-4 1e-3 3e-3 --methods finetune promot

Each run is `promot run` with a recipe and gin/runs/lab.gin, in a directory of its own. The prompt
is tuned once for a seed; ProMoT's second stages start from it (BASE), which is what its recipe does
in one go. The rows of all runs go into one results.json, and its page is made.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import absl.logging
import jax

from promot_jax.cli import settings
from promot_jax.console import console
from promot_jax.errors import UserError
from promot_jax.process import restart_as_wished
from promot_jax.report import report, terminal_table
from promot_jax.run import run

LAB = "gin/runs/lab.gin"
SECOND_STAGE = "run.Run.stages = [@model/run.Stage()]"
MODEL_METHODS = ("finetune", "promot", "promot_joint")
SHORT = (
    "STEPS = 20",
    "PROMPT_STEPS = 20",
    "UNFREEZE = 5",
    "EVAL_LIMIT = 20",
    "EVALUATE_EVERY = 20",
)


def main(argv: Sequence[str] | None = None) -> Path:
    """Runs the experiment; returns its work directory."""
    args = parser().parse_args(argv)
    args.workdir = args.workdir or ("runs/demo_short" if args.short else "runs/demo")
    root = Path(args.workdir)
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it was asked to do
    # The runs share most of their programs: compile each once.
    jax.config.update("jax_compilation_cache_dir", str(root.resolve() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not args.resume and root.exists():
        shutil.rmtree(root)
    rows = []
    for name, recipe, bindings in runs(args):
        console.rule(name)
        short = SHORT if args.short else ()
        text = settings.parse([f"gin/recipes/{recipe}.gin", LAB], [*short, *bindings, *args.gin])
        workdir = run(settings.build("Run"), text)
        rows += json.loads((workdir / "results.json").read_text(encoding="utf-8"))
        lines = ",\n".join(map(json.dumps, rows))
        (root / "results.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    page = report(str(root))
    console.print(terminal_table(rows))
    console.print(f"results: {root / 'results.json'}  page: {page}")
    return root


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", help="default: runs/demo, and for --short runs/demo_short")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--learning_rates",
        type=float,
        nargs="+",
        default=[None],
        help="of the model; default: lab.gin's",
    )
    parser.add_argument("--methods", nargs="+", choices=MODEL_METHODS, default=MODEL_METHODS)
    parser.add_argument(
        "--short", action="store_true", help="a few steps: shows that it runs, not what it learns"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on in --workdir instead of starting anew"
    )
    parser.add_argument("--gin", nargs="+", default=[], help="further settings, as NAME=VALUE")
    return parser


def runs(args: argparse.Namespace) -> Iterator[tuple[str, str, list[str]]]:
    """(directory, recipe, settings) of every run, in order."""
    several = len(args.seeds) > 1

    def one(recipe: str, seed: int, rate: float | None, *more: str) -> tuple[str, str, list[str]]:
        at_rate = [] if rate is None else [f"lr{rate:g}"]
        name = "-".join([recipe, *at_rate, *([f"seed{seed}"] if several else [])])
        given = [f"WORKDIR = {str(Path(args.workdir) / name)!r}", f"SEED = {seed}", *more]
        return name, recipe, given + ([] if rate is None else [f"LEARNING_RATE = {rate}"])

    yield "base", "evaluate", one("base", args.seeds[0], None)[2]
    for seed in args.seeds:
        tuned = one("prompt_tuning", seed, None)
        yield tuned
        for rate in args.learning_rates:
            for method in args.methods:
                base = f"BASE = {str(Path(args.workdir) / tuned[0])!r}"
                second = () if method == "finetune" else (base, SECOND_STAGE)
                yield one(method, seed, rate, *second)


if __name__ == "__main__":
    restart_as_wished()  # as the console script does
    try:
        main()
    except UserError as error:
        raise SystemExit(f"bench.demo: {error}") from error

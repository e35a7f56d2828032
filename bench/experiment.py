"""Runs of one experiment: each `promot run`'s way, all rows in one results.json, one page.

`bench.demo` and `bench.real` are lists of such runs.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import absl.logging
import jax

from promot_jax.cli import settings
from promot_jax.console import console
from promot_jax.paths import resolve
from promot_jax.report import report, terminal_table
from promot_jax.run import run

SECOND_STAGE = "run.Run.stages = [@model/run.Stage()]"
MODEL_METHODS = ("finetune", "promot", "promot_joint", "lora_promot")
OWN_STAGE_ONE = ("finetune", "lora_promot")  # that have no prompt to begin with


def arguments(doc: str, methods: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments that experiments share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=None)
    parser.add_argument(
        "--learning_rates",
        type=float,
        nargs="+",
        default=None,
        help="of the model; default: the settings file's",
    )
    parser.add_argument(
        "--methods", nargs="+", type=method, default=methods, metavar="METHOD",
        help=f"recipes ({', '.join(MODEL_METHODS)}), with remedies of gin/remedies behind them:\n"
        f"finetune+l2sp; default: {' '.join(methods)}",
    )  # fmt: skip
    parser.add_argument(
        "--short", action="store_true", help="a few steps: shows that it runs, not what it learns"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on in --workdir instead of starting anew"
    )
    parser.add_argument("--gin", nargs="+", default=[], help="further settings, as NAME=VALUE")
    return parser


def method(text: str) -> str:
    """A recipe, and remedies behind it, as "promot+lora+wise_ft".

    Raises:
      ArgumentTypeError: there is no such recipe or remedy.
    """
    recipe, *remedies = text.split("+")
    if recipe not in MODEL_METHODS:
        raise argparse.ArgumentTypeError(f"{recipe!r} is none of {', '.join(MODEL_METHODS)}")
    known = sorted(path.stem for path in Path(resolve("gin/remedies")).glob("*.gin"))
    for remedy in remedies:
        if remedy not in known:
            raise argparse.ArgumentTypeError(f"{remedy!r} is no remedy: {', '.join(known)}")
    return text


def start(root: Path, resume: bool) -> None:
    """Makes room for the runs, and compiles once what they share."""
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it was asked to do
    jax.config.update("jax_compilation_cache_dir", str(root.resolve() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not resume and root.exists():
        shutil.rmtree(root)


def carry_out(
    root: Path, runs: Iterable[tuple[str, str, list[str]]], file: str, first: Sequence[str] = ()
) -> Iterator[tuple[str, list[dict]]]:
    """Carries runs out and yields each one's directory and rows of results.

    Args:
      root: where results.json with the rows of all, and the page, are made.
      runs: (directory, method, settings) of each; see `methods`.
      file: gin file behind the recipe, and before the remedies.
      first: settings before each run's own.
    """
    rows = []
    for name, method, bindings in runs:
        console.rule(name)
        recipe, *remedies = method.split("+")
        files = [f"gin/recipes/{recipe}.gin", file, *(f"gin/remedies/{x}.gin" for x in remedies)]
        text = settings.parse(files, [*first, *bindings])
        workdir = run(settings.build("Run"), text)
        new = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
        rows += new
        lines = ",\n".join(map(json.dumps, rows))
        (root / "results.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        yield name, new
    page = report(str(root))
    console.print(terminal_table(rows))
    console.print(f"results: {root / 'results.json'}  page: {page}")


def methods(
    root: Path, seeds: Sequence[int], rates: Sequence[float | None], names: Sequence[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """(directory, method, settings) of the base and of every method, rate and seed, in order.

    The prompt is tuned once for a seed; ProMoT's second stages start from it (BASE), which is what
    its recipe does in one go.
    """

    def one(method: str, seed: int, rate: float | None, *more: str) -> tuple[str, str, list[str]]:
        at_rate = [] if rate is None else [f"lr{rate:g}"]
        name = "-".join([method, *at_rate, *([f"seed{seed}"] if len(seeds) > 1 else [])])
        given = [f"WORKDIR = {str(root / name)!r}", f"SEED = {seed}", *more]
        if "+" in method:
            given += [f"run.Run.method = {method!r}"]
        # LoRA has a rate of its own
        rated = "LORA_LEARNING_RATE" if "lora" in method.split("+")[1:] else "LEARNING_RATE"
        return name, method, given + ([] if rate is None else [f"{rated} = {rate}"])

    yield "base", "evaluate", one("base", seeds[0], None)[2]
    for seed in seeds:
        tuned = one("prompt_tuning", seed, None)
        yield tuned
        for rate in rates:
            for method in names:
                base = f"BASE = {str(root / tuned[0])!r}"
                second = () if method.split("+")[0] in OWN_STAGE_ONE else (base, SECOND_STAGE)
                yield one(method, seed, rate, *second)

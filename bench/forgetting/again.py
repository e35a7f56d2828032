"""A sample of the benchmark's runs, done again here: do they give the answers that were kept?

    python -m bench.forgetting.again              5 runs, from all over the table
    python -m bench.forgetting.again --runs 20

Compared are the answers, right or wrong, to every row of every evaluation. On another processor
sums are rounded in another order, after which trainings drift apart: then the scores are compared.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.forgetting import plan, rows
from bench.forgetting.scheduler import Scheduler
from bench.forgetting.work import cores
from bench.starting import start
from promot_jax.console import say
from promot_jax.errors import UserError


def sample(known: Mapping[str, Any], count: int) -> list[plan.Run]:
    """Runs whose rows are there and of today's table, evenly from first to last."""
    there = [run for run in plan.everything() if run.name in known]
    if not there:
        raise UserError("there are no rows of runs in the table: run python -m bench.forgetting")
    places = np.linspace(0, len(there) - 1, min(count, len(there))).astype(int)
    return [there[place] for place in dict.fromkeys(places.tolist())]


def same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The share of all answers that are alike, right or wrong, in two rows of one run."""
    alike = [
        np.mean(rows.unpack(a["right"][task], a["rows"]) == rows.unpack(text, b["rows"]))
        for a, b in zip(ours["points"], theirs["points"], strict=True)
        for task, text in b["right"].items()
    ]
    return float(np.mean(alike))


def main(argv: Sequence[str] | None = None) -> None:
    """Does them again, and says what is alike."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", default=str(rows.ROWS), help=f"default: {rows.ROWS}")
    args = parser.parse_args(argv)
    known = rows.read(Path(args.rows))
    wanted = sample(known, args.runs)
    with tempfile.TemporaryDirectory() as root:
        made = Scheduler(wanted, Path(root), Path(root) / "rows.jsonl.xz", cores())
        made.carry_out()
    for run in wanted:
        if run.name in made.failed:
            say(f"{run.name}: failed: {made.failed[run.name]}")
        else:
            share = same(made.rows[run.name], known[run.name])
            say(f"{run.name}: {share:.2%} of the answers are alike")


if __name__ == "__main__":
    start(main, "bench.forgetting.again")

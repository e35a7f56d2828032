"""A sample of the benchmark's runs, done again here: do they give the answers that were kept?

    python -m bench.forgetting.again                    5 runs, from all over the table
    python -m bench.forgetting.again --only base0 --runs 3     no base is pre-trained for those

Compared are the answers, right or wrong, to every row of every evaluation, and the scores at the
end, on test rows. On another kind of processor sums are rounded in another order, after which
trainings drift apart: answers differ, and scores as those of another seed do. The exit code is 1
where a run fails, or a score is another by more than --within.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.forgetting import analysis, plan, rows
from bench.forgetting.scheduler import Scheduler
from bench.forgetting.work import cores
from bench.starting import start
from promot_jax.console import say
from promot_jax.errors import UserError


def sample(known: Mapping[str, Any], count: int, only: str | None = None) -> list[plan.Run]:
    """Runs whose rows are there and of today's table, evenly from first to last.

    Args:
      known: rows by name.
      count: how many.
      only: pattern in their names.
    """
    there = [run for run in plan.everything(only=only) if run.name in known]
    if not there:
        raise UserError(
            "there are no rows of such runs in the table: run python -m bench.forgetting, or see"
            " its --list"
        )
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


def main(argv: Sequence[str] | None = None) -> int:
    """Does them again, and says what is alike. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", metavar="PATTERN", help="runs with this in their name")
    parser.add_argument("--within", type=float, default=0.05, help="scores; default: 0.05")
    parser.add_argument("--rows", default=str(rows.ROWS), help=f"default: {rows.ROWS}")
    args = parser.parse_args(argv)
    known = rows.read(Path(args.rows))
    wanted = sample(known, args.runs, args.only)
    with tempfile.TemporaryDirectory() as root:
        made = Scheduler(wanted, Path(root), Path(root) / "rows.jsonl.xz", cores())
        made.carry_out()
    others = len(made.failed)
    for name, why in made.failed.items():
        say(f"{name}: failed: {why}")
    for run in [run for run in wanted if run.name not in made.failed]:
        ours, theirs = made.rows[run.name], known[run.name]
        now, then = map(analysis.scores, (ours, theirs))
        far = max(abs(a - b) for a, b in zip(now, then, strict=True)) > args.within
        others += far
        say(
            f"{run.name}: {same(ours, theirs):.2%} of the answers are alike; target {then[0]:.3f},"
            f" now {now[0]:.3f}; held out {then[1]:.3f}, now {now[1]:.3f}{': another' * far}"
        )
    return 1 if others else 0


if __name__ == "__main__":
    start(main, "bench.forgetting.again")

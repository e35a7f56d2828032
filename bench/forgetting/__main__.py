"""The forgetting benchmark: every remedy at equal target score, with intervals.

    python -m bench.forgetting                  what is missing of all runs: hours
    python -m bench.forgetting --minutes 60     begins nothing after an hour; goes on another time
    python -m bench.forgetting --quick          a few methods, one seed: within 10 minutes
    python -m bench.forgetting --only 'lab_nli/base0.*promot'    --list says what there is
    python -m bench.forgetting.page             docs/forgetting.md, of the rows

The runs are those of bench/forgetting/table.py; each leaves a row in rows.jsonl.xz beside it.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.forgetting import plan, rows
from bench.forgetting.scheduler import Scheduler, summary
from bench.forgetting.work import cores
from bench.starting import start
from promot_jax.console import say
from promot_jax.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 where a run failed."""
    args = _parser().parse_args(argv)
    root = Path(args.workdir or ("runs/forgetting_quick" if args.quick else "runs/forgetting"))
    file = root / rows.ROWS.name if args.quick else Path(args.rows)
    wanted = plan.everything(args.quick, args.only)
    if not wanted:
        raise UserError(f"--only {args.only!r}: no run has that in its name; see --list")
    scheduler = Scheduler(wanted, root, file, cores()[: args.cores])
    if args.list:
        missing = {run.name for run in scheduler.missing()}
        for run in wanted:
            print(f"{'missing' if run.name in missing else 'done':8s}{run.name}")
        print(summary(scheduler))
        return 0
    until = time.monotonic() + 60 * args.minutes
    scheduler.carry_out(until)
    say(f"{summary(scheduler)}: {file}")
    for name, why in scheduler.failed.items():
        say(f"failed: {name}: {why}")
    return 1 if scheduler.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.forgetting", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few methods, one seed and target")
    parser.add_argument("--only", metavar="PATTERN", help="runs with this in their name")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing later")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--cores", type=int, help="how many to use; default: all")
    parser.add_argument("--workdir", help="default: runs/forgetting, with --quick .._quick")
    parser.add_argument("--rows", default=str(rows.ROWS), help=f"default: {rows.ROWS}")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    start(main, "bench.forgetting")

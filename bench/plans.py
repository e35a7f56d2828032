"""The line `# Hardware:` of gin files, by `promot plan`.

    python -m bench.plans gin/runs/paper_*.gin [--write]

plans each file on the chips that its line names: a run by the first command of its header, a model
as ProMoT on RTE. It prints the lines, and rows of the table in docs/pods.md; with --write it puts
the lines into the files. A plan of mT5 XXL takes minutes on two cores.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from bench.starting import start
from promot_jax.cli.main import bindings, parser
from promot_jax.cli.plan import build
from promot_jax.plan.planning import RunPlan, plan
from promot_jax.plan.rows import Rows
from promot_jax.plan.table import short, summary
from promot_jax.plan.topology import stay_on_cpu, topology

LINE = re.compile(r"^# Hardware: .*?((?:\d+ slices of )?)(\b[a-z]\w*:\d[\dx]*).*$", re.MULTILINE)
MODEL = "promot run --gin_file=gin/recipes/promot.gin --gin_file={} --gin_file=gin/tasks/rte.gin"
FSDP = "--gin_file=gin/meshes/fsdp.gin"


def command(path: Path, text: str) -> list[str]:
    """The arguments of the run that a file is planned as."""
    found = re.search(r"^#\s+(promot run (?:.*\\\n#)*.*)$", text, re.MULTILINE)
    if path.parent.name == "models" or found is None:
        return shlex.split(f"{MODEL.format(path)} {FSDP}")[1:]
    return shlex.split(found[1].replace("\\\n#", " "))[1:]


def planned(path: Path, known: dict) -> RunPlan:
    """The plan of a file, on the chips that its line names."""
    text = path.read_text(encoding="utf-8")
    slices, name = LINE.search(text).groups()
    args, rest = parser().parse_known_args(command(path, text))
    rows = Rows()
    run, _ = build(args.gin_file, bindings(args, rest), rows)
    chips = topology(name, int(slices.split()[0]) if slices else 1)
    return plan(run, chips, rows, lambda program: print(f"  {program}", file=sys.stderr), known)


def line(path: Path, found: RunPlan) -> str:
    """What a header says."""
    what = "ProMoT on RTE " if path.parent.name == "models" else ""
    return f"# Hardware: {what}{summary(found)}."


def row(path: Path, found: RunPlan) -> str:
    """What the table in docs/pods.md says."""
    used = max(found.topology.chip.memory - x.memory.free for x in found.programs) / 2**30
    times = dict.fromkeys(("prompt", "model", "evaluation"), "")
    for each in found.programs:
        name = each.name if each.name in times else "prompt" if "prompt" in each.stage else "model"
        times[name] = f"{short(each.seconds.total)} s, {each.seconds.bound}"
    cells = [f"[{path.stem}](../{path})", found.topology.name, f"{used:.1f}", *times.values()]
    return f"| {' | '.join(cells)} | {short(found.hours)} | {short(found.chip_hours)} |"


def main() -> None:
    """Plans the files that are given."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--write", action="store_true", help="put the lines into the files")
    args = options.parse_args()
    stay_on_cpu()
    known: dict = {}
    for path in args.files:
        found = planned(path, known)
        said = line(path, found)
        print(said, *([row(path, found)] if found.fits else []), sep="\n", flush=True)
        if args.write:
            text = path.read_text(encoding="utf-8")
            path.write_text(LINE.sub(lambda _: said, text, count=1), encoding="utf-8")  # noqa: B023


if __name__ == "__main__":
    start(main, "bench.plans")

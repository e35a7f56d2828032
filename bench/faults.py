"""A fault injector: damaged files, disks that fail, kills. Nothing may go wrong in silence.

    python -m bench.faults                                   200 faults of all kinds
    python -m bench.faults --seed 17 --count 1               fault 17 again
    python -m bench.faults --kinds kill --count 25           100 kills: four a run
    python -m bench.faults --model decoder                   of a run of a decoder

Each fault belongs to its seed. It meets a small run, of the recipe promot or promot_joint, through
the command line in a process of its own:

  damage  a bit flipped in, a file cut off or removed from a work directory that was stopped at some
          moment, or is finished; then the same command again, and `promot infer`
  write   the n-th call that writes below the work directory fails, and so do all after it, with
          ENOSPC, EIO, ...; then the same command again, on a disk that works
  kill    SIGKILL at random moments, and the same command again each time

and must end in one of two ways: with the results of a run that met no fault, scores, answers and
checkpoints bit by bit; or, where something was damaged or could not be written, with one line and
exit code 1 or 2. After a failed write or a kill the run must go on to the same results.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import errno
import functools
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import absl.logging
from rich.progress import track
from rich.table import Table

from bench.small_run import (
    MODELS,
    RECIPES,
    STEPS,
    Disk,
    Promot,
    Result,
    Said,
    World,
    arrays,
    same_arrays,
    wait_for,
)  # fmt: skip
from promot_jax.console import console, say

KINDS = ("damage", "write", "kill")
KILLS = 4
ERRORS = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "ESTALE", "EROFS")


class Outcome(NamedTuple):
    """How a fault ended: `good` is whether it may end so; `said` is what was printed."""

    kind: str
    fault: str
    ending: str
    good: bool
    said: str = ""


def damage(world: World, recipe: str, rng: random.Random, name: str) -> Outcome:
    """A file of a work directory is changed, cut off or removed."""
    moment = rng.choice(world.moments[recipe])
    directory = world.copy(moment, name)
    files = sorted(path for path in (directory / "work").rglob("*") if path.is_file())
    file = rng.choice(files)
    how = rng.choice([flip, flip, cut, remove])
    done = how(file, rng)
    fault = f"{recipe} {moment.name}: {done} of {file.relative_to(directory / 'work')}"
    said = world.promot(world.command(recipe), directory)
    if said.code != 0:
        return Outcome("damage", fault, f"run: {ending(said)}", said.one_line, said.text)
    result = world.result(directory)
    if isinstance(result, Said):
        return Outcome("damage", fault, f"infer: {ending(result)}", result.one_line, result.text)
    return Outcome("damage", fault, *compare(world, recipe, result), said.text)


def flip(file: Path, rng: random.Random) -> str:
    """One bit of a file; an empty one is removed."""
    content = bytearray(file.read_bytes())
    if not content:
        return remove(file, rng)
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {place}"


def cut(file: Path, rng: random.Random) -> str:
    size = file.stat().st_size
    left = rng.randrange(size) if size else 0
    os.truncate(file, left)
    return f"all but {left} of {size} bytes"


def remove(file: Path, rng: random.Random) -> str:
    file.unlink()
    return "removal"


def write(world: World, recipe: str, rng: random.Random, name: str) -> Outcome:
    """A disk that begins to fail."""
    directory = world.fresh(name)
    error = rng.choice(ERRORS)
    disk = Disk(rng.randrange(world.calls[recipe]), getattr(errno, error))
    fault = f"{recipe}: {error} after {disk.after} of {world.calls[recipe]} calls"
    failed = world.promot(world.command(recipe), directory, disk)
    if failed.code != 0 and not failed.one_line:
        return Outcome("write", fault, ending(failed), False, failed.text)
    again = world.promot(world.command(recipe), directory)
    if again.code != 0:
        return Outcome("write", fault, f"again: {ending(again)}", False, failed.text + again.text)
    how, good = compare(world, recipe, world.result(directory))
    good = good and same_arrays(arrays(directory / "work"), world.arrays[recipe])
    return Outcome("write", fault, f"{ending(failed)}, then {how}", good, failed.text)


def kill(world: World, recipe: str, rng: random.Random, name: str) -> Outcome:
    """kill -9 at random moments: while training, in an evaluation, as a checkpoint is written."""
    directory = world.fresh(name)
    moments = sorted(rng.sample(range(2 * STEPS), KILLS))
    killed = 0
    for moment in moments:
        process = world.promot.start(world.command(recipe), directory)
        wait_for(process, directory, moment)
        time.sleep(rng.uniform(0, 0.4))
        killed += process.is_alive()
        process.kill()
        process.join()
    fault = f"{recipe}: {killed} kills after steps {', '.join(map(str, moments))}"
    said = world.promot(world.command(recipe), directory)
    if said.code != 0:
        return Outcome("kill", fault, ending(said), False, said.text)
    how, good = compare(world, recipe, world.result(directory))
    good = good and same_arrays(arrays(directory / "work"), world.arrays[recipe])
    return Outcome("kill", fault, how, good, said.text)


def ending(said: Said) -> str:
    """How a command ended, for people."""
    if said.code == 0:
        return "no error"
    if said.code < 0:
        return f"signal {-said.code}: it hung, or crashed"
    return (
        f"one line, exit code {said.code}"
        if said.one_line
        else f"exit code {said.code}, not one line"
    )


def compare(world: World, recipe: str, result: Result | Said) -> tuple[str, bool]:
    """Whether results are those of a run without a fault."""
    if isinstance(result, Said):
        return f"infer: {ending(result)}", False
    different = [
        name
        for name, ours, theirs in zip(Result._fields, result, world.expected[recipe], strict=True)
        if ours != theirs
    ]
    return (f"other {' and '.join(different)}, in silence", False) if different else ("same", True)


FAULTS: dict[str, Callable[[World, str, random.Random, str], Outcome]] = {
    "damage": damage, "write": write, "kill": kill,
}  # fmt: skip


def inject(world: World, kinds: Sequence[str], seed: int) -> Outcome:
    """The fault of a seed."""
    rng = random.Random(seed)
    # A kill takes as long as four of the others.
    kind = rng.choices(kinds, [{"damage": 6, "write": 3, "kill": 1}[kind] for kind in kinds])[0]
    name = f"fault-{seed}"
    try:
        return FAULTS[kind](world, rng.choice(list(world.expected)), rng, name)
    finally:
        shutil.rmtree(world.root / name, ignore_errors=True)


def inject_all(
    world: World, kinds: Sequence[str], seeds: Sequence[int], workers: int
) -> Iterator[tuple[int, Outcome]]:
    """The faults of all seeds, each with its seed."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            todo = functools.partial(inject, world, kinds)
            yield from zip(seeds, pool.map(todo, seeds), strict=True)
        finally:  # Ctrl-C: the rest need not be begun
            pool.shutdown(cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Injects faults; returns 1 where one ended as it must not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="of faults")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--model", choices=list(MODELS), default="t5", help="whose run it is")
    parser.add_argument("--workers", type=int, default=2, help="faults at a time")
    args = parser.parse_args(argv)
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it was asked to do
    with tempfile.TemporaryDirectory(prefix="faults-") as root:
        world = World(Path(root), Promot(Path(root)), args.model)
        if world.promot.library is None and "write" in args.kinds:
            say("no C compiler, or no Linux: no disk can be made to fail")
            return 2
        with console.status("runs without faults"):
            for recipe in RECIPES:
                world.prepare(recipe)
        seeds = range(args.seed, args.seed + args.count)
        say(f"seeds {seeds.start} to {seeds.stop - 1}, kinds {', '.join(args.kinds)}")
        found: list[tuple[int, Outcome]] = []
        todo = inject_all(world, args.kinds, seeds, args.workers)
        with contextlib.suppress(KeyboardInterrupt):
            for each in track(todo, "faults", len(seeds), console=console):
                found.append(each)
                if not each[1].good:
                    say(report(*each))
        return summary(found)


def report(seed: int, outcome: Outcome) -> str:
    """All of a fault that ended as it must not."""
    return f"\nseed {seed}, {outcome.fault}: {outcome.ending}\n{outcome.said[-3000:]}"


def summary(found: Sequence[tuple[int, Outcome]]) -> int:
    """Prints how the faults ended."""
    table = Table("kind", "ending", "faults", box=None)
    counts = collections.Counter((outcome.kind, outcome.ending) for _, outcome in found)
    for (kind, how), count in sorted(counts.items()):
        table.add_row(kind, how, str(count))
    bad = [outcome for _, outcome in found if not outcome.good]
    console.print(table)
    say(f"{len(found)} faults, {len(bad)} of them ended as they must not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

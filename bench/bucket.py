"""The lab's run in a bucket, killed at random moments of both stages: is it the run on a disk?

    python -m bench.bucket                            ten kills
    python -m bench.bucket --kills 4 --trouble 0.02   and so many of all requests fail

The bucket is Google's storage API in this process (tests/bucket_server.py). It kills the run itself
at a random request that writes, half of them before that is done and half after; the same command
goes on. At the end scores, answers and every array of the checkpoints must be bit by bit those of a
run on a disk.
"""

import argparse
import functools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import absl.logging

from bench.small_run import STAGES, Promot, Said, arrays, finish, same_arrays
from promot_jax.console import say

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import bucket_server

SMALL = {
    "PROMPT_STEPS": 12, "STEPS": 12, "BATCH_SIZE": 4, "PROMPT_EVALUATE_EVERY": 3,
    "EVALUATE_EVERY": 3, "EVAL_LIMIT": 4, "EVAL_BATCH_SIZE": 4,
}  # fmt: skip
MOST = 40  # writes of a process before it is killed; a checkpoint has about 30
FAULTS = (503, 429, "drop", "lose")


def command(verb: str, workdir: str) -> list[str]:
    """`promot run` or `promot infer` of the lab, in a work directory."""
    if verb == "infer":
        more = ["--input=asked.txt", "--output=answers.jsonl", "--prompt=target", "--max_length=4"]
        return ["infer", workdir, *more]
    settings = SMALL | {"WORKDIR": workdir, "run.Stage.log_every": 1}
    files = [f"--gin_file=gin/{name}.gin" for name in ("recipes/promot", "runs/lab")]
    return ["run", *files, *(f"--gin.{name}={value!r}" for name, value in settings.items())]


def killed(
    start: Callable[[], Any], server: bucket_server.Server, rng: random.Random, stage: str
) -> str:
    """Runs until the bucket kills it in a stage. Returns the moment."""
    count, after = rng.randrange(1, MOST), rng.random() < 0.5
    killer = bucket_server.Killer(stage, count, after)
    server.fault = killer
    killer.process = start()
    killer.process.join()
    how = "after" if after else "before"
    return f"{stage}, {how} write {count}" if killer.left <= 0 else f"{stage}: it ended before"


def finished(said: Said) -> None:
    """Raises AssertionError, with what it said, where a command failed."""
    assert said.code == 0, said.text


def result(promot: Promot, folder: Path, workdir: Any) -> tuple[bytes, bytes, dict[str, Any]]:
    """What a run is for: scores, answers, and all arrays."""
    (folder / "answers.jsonl").unlink(missing_ok=True)
    finished(promot(command("infer", str(workdir)), folder))
    answers = (folder / "answers.jsonl").read_bytes()
    return (workdir / "results.json").read_bytes(), answers, arrays(workdir)


def main(argv: Sequence[str] | None = None) -> int:
    """Kills and compares; returns 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trouble", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it was asked to do
    rng, server = random.Random(args.seed), bucket_server.start()
    from promot_jax.buckets import BucketPath

    with tempfile.TemporaryDirectory(prefix="bucket-") as root:
        folder, promot, there = Path(root), Promot(Path(root)), BucketPath("gs://lab-bucket/run")
        (folder / "asked.txt").write_text("question: who is Karl?\n" * 3, encoding="utf-8")
        finished(promot(command("run", str(folder / "work")), folder))
        expected = result(promot, folder, folder / "work")
        start = functools.partial(promot.start, command("run", str(there)), folder)
        for number in range(args.kills):
            stage = STAGES[number >= (args.kills + 1) // 2]
            say(f"kill {number + 1}: {killed(start, server, rng, stage)}")
        trouble = lambda *_: rng.choice(FAULTS) if rng.random() < args.trouble else None  # noqa: E731
        server.fault, begun = trouble, time.monotonic()
        finished(finish(start(), folder))
        say(f"then to its end in {time.monotonic() - begun:.0f} s")
        server.fault = lambda *_: None
        found = result(promot, folder, there)
    same = found[:2] == expected[:2] and same_arrays(found[2], expected[2])
    say(f"scores, answers and {len(expected[2])} arrays: {'the same' if same else 'NOT THE SAME'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

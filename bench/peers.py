"""Our steps and generation beside Transformers' (and PEFT's) on the same work, in turns.

    python -m bench.peers
    python -m bench.peers --model smollm2_135m --works finetune
    python -m bench.peers --model t5_1_1_base --dtype bfloat16 --works finetune prompt_tuning

One JSON line for each tool and round, each in a process of its own; then one for each work with the
medians' ratios: how many times as fast ours is, and its share of their memory. Neither has dropout.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from bench.sizes import SIZES

NEEDED = ("torch", "transformers", "peft")
WORKS = ("finetune", "prompt_tuning", "generate")


def main(argv: Sequence[str] | None = None) -> list[dict]:
    """Measures, prints the lines, and returns those of the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=SIZES, default="t5")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args(argv)
    return [beside(work, args) for work in args.works]


def beside(work: str, args: argparse.Namespace) -> dict:
    """One work by both tools."""
    tools = {"promot_jax": ours(work, args)}
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"no {', '.join(missing)} here: ours alone", file=sys.stderr)
    else:
        tools["transformers"] = theirs(work, args)
    found = {name: [] for name in tools}
    for _ in range(args.rounds):
        for name, arguments in tools.items():
            found[name].append(measured(arguments))
            print(json.dumps({"tool": name, "work": work} | found[name][-1]), flush=True)
    speed = "tokens_per_second" if work == "generate" else "examples_per_second"
    keys = (speed, "peak_rss_gib", "peak_device_gib")
    medians = {
        name: {key: statistics.median(line.get(key, 0) for line in lines) for key in keys}
        for name, lines in found.items()
    }
    one, other = medians["promot_jax"], medians.get("transformers")
    if other is None:
        return one
    line = {"model": args.model, "work": work, "times_as_fast": round(one[speed] / other[speed], 3)}
    for key in ("peak_rss_gib", "peak_device_gib"):
        if other[key]:
            line[f"share_of_{key}"] = round(one[key] / other[key], 3)
    print(json.dumps(line), flush=True)
    return line


def ours(work: str, args: argparse.Namespace) -> list[str]:
    """The command's arguments."""
    if work == "generate":
        return ["bench.generation", "--model", args.model]
    rest = ["--steps", str(args.steps), "--dtype", args.dtype]
    if SIZES[args.model].config.kind == "encoder_decoder":
        rest += ["--dropout", "0"]
    return ["bench.train_step", "--model", args.model, "--method", work, *rest]


def theirs(work: str, args: argparse.Namespace) -> list[str]:
    """The command's arguments."""
    rest = ["--steps", str(args.steps), "--dtype", args.dtype]
    return ["bench.transformers_peer", "--model", args.model, "--work", work, *rest]


def measured(arguments: list[str]) -> dict:
    """What a command prints last."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

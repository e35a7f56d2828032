"""The forgetting experiment on the lab: the base model, then methods x learning rates x seeds.

    python -m bench.demo                                       one seed, a few minutes: `make demo`
    python -m bench.demo --seeds 0 1 2 3 4 --workdir runs/five
    python -m bench.demo --learning_rates 1e-4 3e-4 1e-3 3e-3 --methods finetune promot

Each run is `promot run` with a recipe and gin/runs/lab.gin, in a directory of its own. The rows of
all runs go into one results.json, and its page is made.
"""

from collections.abc import Sequence
from pathlib import Path

from bench import experiment
from bench.starting import start

LAB = "gin/runs/lab.gin"
SHORT = (
    "STEPS = 20",
    "PROMPT_STEPS = 20",
    "UNFREEZE = 5",
    "EVAL_LIMIT = 20",
    "EVALUATE_EVERY = 20",
)


def main(argv: Sequence[str] | None = None) -> Path:
    """Runs the experiment; returns its work directory."""
    parser = experiment.arguments(__doc__, ("finetune", "promot", "promot_joint"))
    parser.add_argument("--workdir", help="default: runs/demo, and for --short runs/demo_short")
    args = parser.parse_args(argv)
    root = Path(args.workdir or ("runs/demo_short" if args.short else "runs/demo"))
    experiment.start(root, args.resume)
    runs = experiment.methods(root, args.seeds or [0], args.learning_rates or [None], args.methods)
    short = SHORT if args.short else ()
    listed = ((name, recipe, [*short, *given, *args.gin]) for name, recipe, given in runs)
    for _ in experiment.carry_out(root, listed, LAB):
        pass
    return root


if __name__ == "__main__":
    start(main, "bench.demo")

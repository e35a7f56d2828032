"""`promot infer`: answers or scores a file of inputs, line by line.

    promot infer WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target --beams=4
    promot infer WORKDIR --input=in.jsonl --output=out.jsonl --score    lines have "targets" too

Started again, it goes on where it stopped.
"""

import argparse
import contextlib
from pathlib import Path

DECODING = {
    "max_length": (64, "most tokens of an output"),
    "beams": (1, "beam search; 1 for greedy search or sampling"),
    "length_penalty": (0.6, "of beam search; Hugging Face's default is 1"),
    "beam_search": ("t5x", "whose rules: t5x or huggingface"),
    "temperature": (0.0, "above 0 samples"),
    "top_k": (0, "sample among so many tokens; 0 for all"),
    "top_p": (1.0, "sample among the tokens that hold this probability"),
    "seed": (0, "of the sampling"),
}
BASE = "where the base of WORKDIR lies now, if it was moved; again for the base of that base"


def add_arguments(infer: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    infer.add_argument("workdir")
    infer.add_argument(
        "--input", required=True, type=Path, help=".jsonl with 'inputs' (and 'prompt'), or text"
    )
    infer.add_argument(
        "--output", required=True, type=Path, help=".jsonl; an unfinished one is continued"
    )
    infer.add_argument("--prompt", help="soft prompt of the lines that name none")
    infer.add_argument(
        "--score", action="store_true", help="log-likelihood of each line's 'targets', no outputs"
    )
    infer.add_argument("--batch_size", type=int, default=64)
    infer.add_argument(
        "--input_length", type=int, help="most tokens of an input with its prompt (no limit)"
    )
    infer.add_argument(
        "--too_long", default="error", help="inputs of more tokens: error, or flag and go on"
    )
    infer.add_argument("--base", action="append", default=[], help=BASE)
    infer.add_argument("--mesh", type=mesh, help="such as fsdp=4,tensor=2 (all devices as data)")
    for name, (default, help_) in DECODING.items():
        infer.add_argument(f"--{name}", type=type(default), default=default, help=help_)


def mesh(text: str) -> dict[str, int]:
    """`axis=size,...` as a mesh's shape."""
    pairs = (part.partition("=") for part in text.split(","))
    try:
        return {axis: int(size) for axis, _, size in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like fsdp=4,tensor=2: give axis=size, separated by commas"
        ) from error


def infer(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from promot_jax.console import say
    from promot_jax.models import Decoding
    from promot_jax.run import Answering, LanguageModel
    from promot_jax.run import infer as infer_file
    from promot_jax.run.answers import read_records
    from promot_jax.training import Bar

    how = Answering(
        args.prompt,
        Decoding(**{name: getattr(args, name) for name in DECODING}),
        args.score,
        args.batch_size,
        args.input_length,
        args.too_long,
    )
    total = sum(1 for _ in read_records(args.input, how))
    model = LanguageModel(args.workdir, args.mesh, args.base)
    with contextlib.closing(Bar("infer", 0, total, 1)) as bar:
        done = infer_file(model, args.input, args.output, how, lambda done: bar.update(done, ""))
    say(f"{done} {'scores' if args.score else 'outputs'} in {args.output}")
    return 0

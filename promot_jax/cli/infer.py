"""`promot infer`: answers or scores a file of inputs, line by line.

    promot infer WORKDIR --input=in.jsonl --output=out.jsonl --prompt=target --beams=4
    promot infer WORKDIR --input=in.jsonl --output=out.jsonl --score    lines have "targets" too

Started again, it goes on where it stopped. An input of more than --input_length tokens is named and
not answered: its output is null, and its line says "too_long".
"""

import argparse
import contextlib
from typing import TYPE_CHECKING

from promot_jax.errors import UserError
from promot_jax.paths import as_path, expand

if TYPE_CHECKING:
    from promot_jax.run import Answering
    from promot_jax.run.brought import Brought

# Defaults are those of `models.Decoding`, which must not be imported for --help.
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
SAMPLING, BEAMS = ("top_k", "top_p", "seed"), ("length_penalty", "beam_search")
COLUMNS = (".tsv", ".csv")  # are not told apart: a line is an input
NAMED = 5  # long lines; of the rest only the number


def add_arguments(infer: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    infer.add_argument("workdir", type=path, help="work directory, a stage in one, or an export")
    infer.add_argument(
        "--input",
        required=True,
        type=path,
        help=".jsonl with 'inputs' (and 'prompt'), or text, a line an input; UTF-8",
    )
    infer.add_argument(
        "--output", required=True, type=path, help=".jsonl; an unfinished one is continued"
    )
    infer.add_argument("--prompt", help="soft prompt of the lines that name none")
    infer.add_argument(
        "--lora",
        type=float,
        default=1.0,
        help="what the model's LoRA is multiplied by; 0: answers come without it (1)",
    )
    infer.add_argument(
        "--score", action="store_true", help="log-likelihood of each line's 'targets', no outputs"
    )
    infer.add_argument(
        "--batch_size",
        type=int,
        default=64,
        help="rows at once, of up to 512 tokens; of longer ones fewer (64)",
    )
    infer.add_argument(
        "--input_length",
        type=int,
        default=4096,
        help="most tokens of an input with its prompt, and of targets to score (4096)",
    )
    infer.add_argument(
        "--too_long",
        default="flag",
        help="inputs of more tokens: flag them and answer the others, or error before any (flag)",
    )
    infer.add_argument("--base", action="append", default=[], help=BASE)
    infer.add_argument("--mesh", type=mesh, help="such as fsdp=4,tensor=2 (all devices as data)")
    for name, (default, help_) in DECODING.items():
        infer.add_argument(f"--{name}", type=type(default), help=f"{help_} ({default})")
    infer.add_argument(
        "--stop_text", action="append", default=[], help="ends an output where it begins; repeat"
    )


def path(text: str) -> str:
    """A path, its `~` expanded."""
    try:
        return expand(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def mesh(text: str) -> dict[str, int]:
    """`axis=size,...` as a mesh's shape."""
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        sizes = {axis: int(size) for axis, _, size in pairs}
        if len(sizes) < len(pairs):
            raise ValueError("an axis that comes twice")
        return sizes
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like fsdp=4,tensor=2: give axis=size for each, separated by commas"
        ) from error


def infer(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from promot_jax.models import Decoding
    from promot_jax.run import Answering
    from promot_jax.run.brought import brought

    given = {name: getattr(args, name) for name in DECODING if getattr(args, name) is not None}
    try:
        how = Answering(
            args.prompt,
            Decoding(**given, stop_texts=tuple(args.stop_text)),
            args.score,
            args.batch_size,
            args.input_length,
            args.too_long,
        )
    except UserError as error:  # of the classes, whose fields are these options
        raise UserError(
            str(error).replace("Decoding.", "--").replace("Answering.", "--")
        ) from error
    if args.score and args.stop_text:
        raise UserError(
            f"--stop_text = {args.stop_text[0]!r} has no effect: --score generates nothing: leave"
            " it out"
        )
    _check_options(args.score, {name: getattr(how.decoding, name) for name in DECODING})
    with brought(as_path(args.input, "--input"), as_path(args.output, "--output")) as here:
        _infer(args, how, here)
    return 0


def _infer(args: argparse.Namespace, how: "Answering", here: "Brought") -> None:
    """Answers, or goes on answering."""
    from promot_jax.console import say
    from promot_jax.run import LanguageModel
    from promot_jax.run import infer as infer_file
    from promot_jax.run.answers import read_records
    from promot_jax.run.output import check_files
    from promot_jax.training import Bar

    check_files(here.source, here.output)
    total, long, shown = sum(1 for _ in read_records(here.source, how)), 0, 0
    every, source = max(1, total // 100), here.named(str(here.source))

    def on_rows(done: int) -> None:
        nonlocal shown
        here.bring_back()
        if bar.interactive or done // every > shown // every or done == total:
            bar.update(shown := done, "")

    def on_long(line: int, tokens: int) -> None:
        nonlocal long
        if (long := long + 1) <= NAMED:
            say(
                f"--input {source}, line {line}, is not answered: {tokens} tokens, more than"
                + (
                    f" --input_length = {how.input_length}"
                    if tokens > how.input_length
                    else " the model's context has room for"
                )
            )

    model = LanguageModel(args.workdir, args.mesh, args.base, lora=args.lora)
    if here.source.suffix.lower() in COLUMNS and not args.score:
        say(
            f"--input {source} is read as text: each line as it is, columns and header, is an input"
        )
    with contextlib.closing(Bar("infer", 0, total, 1)) as bar:
        done = infer_file(model, here.source, here.output, how, on_rows, on_long)
    nulls = f', {long} of them null ("too_long")' if long else ""
    say(f"{done} {'scores' if args.score else 'outputs'} in {here.named(str(here.output))}{nulls}")


def _check_options(score: bool, decoding: dict[str, int | float | str]) -> None:
    """Raises UserError for options that would have no effect."""
    why = {}
    if decoding["temperature"] == 0:
        why |= dict.fromkeys(SAMPLING, "nothing is sampled: add --temperature=1, or leave it out")
    if decoding["beams"] == 1:
        why |= dict.fromkeys(BEAMS, "there is one beam: add --beams=4, or leave it out")
    if score:
        why = dict.fromkeys(DECODING, "--score generates nothing: leave it out")
    for name, reason in why.items():
        if decoding[name] != DECODING[name][0]:
            raise UserError(f"--{name} = {decoding[name]} has no effect, {reason}")

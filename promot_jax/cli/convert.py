"""`promot import` and `promot export`."""

import argparse

from promot_jax.cli.infer import BASE
from promot_jax.errors import UserError

DTYPES = ("float32", "bfloat16")
ACTIVATIONS = ("relu", "gelu", "silu")


def add_arguments(verbs: argparse._SubParsersAction) -> None:
    """The arguments of both verbs."""
    make = verbs.add_parser(
        "import", help="make a work directory of another system's checkpoint", allow_abbrev=False
    )
    make.add_argument("source", help="of Hugging Face (or a hub name), GGUF, PEFT, T5X, or .npy")
    make.add_argument("workdir", help="the work directory to make")
    make.add_argument(
        "--vocabulary",
        help="SentencePiece model, tokenizer.json of a decoder, or byte; default: the source's",
    )
    make.add_argument("--extra_ids", type=int, help="sentinels behind --vocabulary; default: 100")
    make.add_argument(
        "--activation", choices=ACTIVATIONS, help="T5X does not say it; default: relu, gated gelu"
    )
    make.add_argument("--dtype", choices=DTYPES, help="of the parameters; default: the source's")
    make.add_argument("--base", help="of a prompt or LoRA: the work directory of its model")
    make.add_argument("--prompt_name", help="of a prompt: what to call it; default: prompt")
    write = verbs.add_parser(
        "export", help="write a work directory for Transformers and PEFT", allow_abbrev=False
    )
    write.add_argument("workdir", help="work directory, or a stage directory in one")
    write.add_argument("destination", help="the directory to make; NAME.npy: only a prompt")
    write.add_argument("--dtype", choices=DTYPES, help="of the numbers; default: the model's")
    write.add_argument("--prompt", help="which prompt goes to NAME.npy; default: the only one")
    write.add_argument("--lora", action="store_true", help="the model's LoRA alone, a PEFT adapter")
    write.add_argument(
        "--merge",
        type=float,
        nargs="?",
        const=1.0,
        metavar="SCALE",
        help="add the model's LoRA, times SCALE (1), to its weights",
    )
    write.add_argument("--base", action="append", default=[], help=BASE)
    write.add_argument("--shard_size", help="most bytes of a file, such as 500MB; default: 5GB")


def convert(args: argparse.Namespace) -> int:
    """`promot import` and `promot export`."""
    from promot_jax.console import say
    from promot_jax.convert import (
        export_lora,
        export_model,
        export_prompt,
        import_adapter,
        import_checkpoint,
    )

    _check_options(args)
    if args.verb == "export" and args.destination.endswith(".npy"):
        made = export_prompt(args.workdir, args.destination, args.prompt)
    elif args.verb == "export" and args.lora:
        made = export_lora(args.workdir, args.destination)
    elif args.verb == "export":
        size = args.shard_size or "5GB"
        made = export_model(args.workdir, args.destination, args.dtype, size, args.base, args.merge)
    elif args.base is None:
        names = ("vocabulary", "extra_ids", "dtype", "prompt_name", "activation")
        given = {name: getattr(args, name) for name in names}
        options = {name: value for name, value in given.items() if value is not None}
        made = import_checkpoint(args.source, args.workdir, **options)
    else:
        made = import_adapter(args.source, args.workdir, args.base, args.prompt_name)
    say(f"made {made}")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Raises UserError for options that would have no effect."""
    useless, why = (), ""
    if args.verb == "export":
        useless, why = ("prompt",), "a model has all prompts"
        if args.destination.endswith(".npy"):
            useless = ("dtype", "shard_size", "base", "lora", "merge")
            why = "NAME.npy holds one prompt in float32"
        elif args.lora:
            useless = ("dtype", "shard_size", "base", "prompt", "merge")
            why = "--lora writes an adapter in float32"
    elif args.base is not None:
        useless = ("vocabulary", "extra_ids", "dtype", "activation")
        why = "an adapter has all but its name of --base"
    elif args.vocabulary is None:
        useless, why = ("extra_ids",), "only a --vocabulary takes it"
    if given := [name for name in useless if getattr(args, name) not in (None, [], False)]:
        raise UserError(f"--{given[0]} has no effect here ({why}): leave it out")

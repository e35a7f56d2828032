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
    make.add_argument("--base", help="of a prompt: the work directory of its model")
    make.add_argument("--prompt_name", default="prompt", help="of a prompt: what to call it")
    write = verbs.add_parser(
        "export", help="write a work directory for Transformers and PEFT", allow_abbrev=False
    )
    write.add_argument("workdir", help="work directory, or a stage directory in one")
    write.add_argument("destination", help="the directory to make; NAME.npy: only a prompt")
    write.add_argument("--dtype", choices=DTYPES, help="of the numbers; default: the model's")
    write.add_argument("--prompt", help="which prompt goes to NAME.npy; default: the only one")
    write.add_argument("--base", action="append", default=[], help=BASE)
    write.add_argument("--shard_size", help="most bytes of a file, such as 500MB; default: 5GB")


def convert(args: argparse.Namespace) -> int:
    """`promot import` and `promot export`."""
    from promot_jax.console import say
    from promot_jax.convert import export_model, export_prompt, import_checkpoint, import_prompt

    _check_options(args)
    if args.verb == "export" and args.destination.endswith(".npy"):
        made = export_prompt(args.workdir, args.destination, args.prompt)
    elif args.verb == "export":
        size = args.shard_size or "5GB"
        made = export_model(args.workdir, args.destination, args.dtype, size, args.base)
    elif args.base is None:
        names = ("vocabulary", "extra_ids", "dtype", "prompt_name", "activation")
        given = {name: getattr(args, name) for name in names}
        options = {name: value for name, value in given.items() if value is not None}
        made = import_checkpoint(args.source, args.workdir, **options)
    else:
        made = import_prompt(args.source, args.workdir, args.base, args.prompt_name)
    say(f"made {made}")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Raises UserError for options that would have no effect."""
    useless, why = (), ""
    if args.verb == "export":
        only_prompt = args.destination.endswith(".npy")
        useless = ("dtype", "shard_size", "base") if only_prompt else ("prompt",)
        why = "NAME.npy holds one prompt in float32" if only_prompt else "a model has all prompts"
    elif args.base is not None:
        useless = ("vocabulary", "extra_ids", "dtype", "activation")
        why = "a prompt has all but its name of --base"
    elif args.vocabulary is None:
        useless, why = ("extra_ids",), "only a --vocabulary takes it"
    if given := [name for name in useless if getattr(args, name) not in (None, [])]:
        raise UserError(f"--{given[0]} has no effect here ({why}): leave it out")

"""A work directory as a directory of Hugging Face's Transformers, prompts and LoRA for PEFT.

DEST/                           config.json, generation_config.json, tokenizer, safetensors
DEST/prompts/<name>/            a PEFT adapter for each soft prompt
DEST/lora/                      a PEFT adapter of the model's LoRA, unless it is merged
"""

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from promot_jax.convert import huggingface, kept, peft
from promot_jax.convert.source import new_path
from promot_jax.convert.weights import write_weights
from promot_jax.errors import UserError, check_range
from promot_jax.models import Variables, unstack_layers
from promot_jax.models.config import Config
from promot_jax.models.lora import COLLECTION, merged
from promot_jax.paths import check_name, expand
from promot_jax.training import Bar, Checkpoints, make_mesh
from promot_jax.training.bases import Bases
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load, stage_directory

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def export_model(
    workdir: str,
    destination: str,
    dtype: str | None = None,
    shard_size: str = "5GB",
    bases: Sequence[str] = (),
    merge: float | None = None,
) -> Path:
    """Writes a work directory's best checkpoint for Transformers and PEFT.

    Args:
      workdir: work directory, or a stage directory in one.
      destination: the directory to make; it must not exist, or be empty.
      dtype: of the model's numbers, "float32" or "bfloat16"; None: the parameters' own. Prompts
        are float32.
      shard_size: most bytes of a file, such as "500MB".
      bases: where the bases that the work directory refers to may lie, if they were moved.
      merge: adds the model's LoRA, times this, to its weights; None: it becomes an adapter.

    Returns:
      The directory.

    Raises:
      UserError: no checkpoint, a destination that holds something, or a malformed size or type.
    """
    size = _bytes(shard_size)
    home, _ = stage_directory(workdir)
    description = Description.read(home)
    config = huggingface.unrolled(description.model)
    kind = huggingface.KINDS[config.kind]
    kind.check_exportable(config, workdir)
    _check(workdir, config, dtype, merge)
    dtype = config.param_dtype if dtype is None else dtype
    vocabulary = description.load_vocabulary(home)
    described = dataclasses.replace(description, model=config)
    layout = Layout(described.module(), make_mesh({"fsdp": -1}))
    with _new_directory(destination) as directory:
        variables = load(workdir, layout, bases=Bases(tuple(bases)))
        if merge is not None:
            variables = merged(variables, config.lora, merge)
        kind.write(
            directory, config, vocabulary, dtype, kept.read(home), kept.read_files(home, vocabulary)
        )
        _write_variables(directory, destination, config, variables, dtype, size)
    return Path(expand(destination))


def _check(workdir: str, config: Config, dtype: str | None, merge: float | None) -> None:
    """Raises UserError for options that cannot be."""
    if dtype not in (None, "float32", "bfloat16"):
        raise UserError(f"--dtype={dtype}: give float32 or bfloat16 (models overflow float16)")
    if merge is not None and config.lora is None:
        raise UserError(f"--merge: {workdir!r} has no LoRA: leave it out")
    check_range("--merge", 1.0 if merge is None else merge, -10, 10)


@contextlib.contextmanager
def _new_directory(destination: str) -> Iterator[Path]:
    """A directory that takes DEST's place when all is written; else nothing of it is left."""
    final = Path(os.path.realpath(new_path(destination, "DEST")))
    part = final.parent / f".{final.name}.part"
    try:
        there = final.exists() or final.is_symlink()  # the latter is one that leads nowhere
        if there and (not final.is_dir() or any(final.iterdir())):
            raise UserError(
                f"DEST = {destination!r} exists and is not empty: give another directory"
            )
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if final.exists():
            final.rmdir()
        part.replace(final)
    except OSError as error:
        raise UserError(
            f"DEST = {destination!r} cannot be written ({error.strerror}): choose another"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]B)", text)
    if not match or float(match[1]) == 0:
        raise UserError(f"--shard_size={text}: give a size such as 500MB or 5GB")
    return int(float(match[1]) * UNITS[match[2]])


def _write_variables(
    directory: Path,
    name: str,
    config: Config,
    variables: Variables,
    dtype: str,
    shard_size: int,
) -> None:
    paths = {theirs: ours for ours, theirs in huggingface.names(config).items()}

    def read(theirs: str) -> np.ndarray:
        return huggingface.transposed(paths[theirs], np.asarray(variables[paths[theirs]]))

    shapes = {theirs: variables[ours].shape for theirs, ours in paths.items()}
    bar = Bar("export", 0, len(paths), max(1, len(paths) // 4))
    written = write_weights(directory, shapes, read, dtype, shard_size)
    for count, _ in enumerate(written, start=1):
        bar.update(count, "")
    bar.close()
    for path, prompt in variables.items():
        if path.startswith("prompt/"):
            own = check_name(path.removeprefix("prompt/"), "the prompt")
            peft.write(prompt, config, name, directory / "prompts" / own)
    if any(path.startswith(COLLECTION) for path in variables):
        peft.write_lora(variables, config, huggingface.names(config), name, directory / "lora")


def export_lora(workdir: str, destination: str) -> Path:
    """Writes the LoRA of a work directory's best checkpoint, and nothing else, as a PEFT adapter.

    Args:
      workdir: work directory, or a stage directory in one.
      destination: the directory to make; it must not exist, or be empty.

    Raises:
      UserError: no checkpoint, no LoRA in it, or a destination that holds something.
    """
    home, stage = stage_directory(workdir)
    config = huggingface.unrolled(Description.read(home).model)
    with contextlib.closing(Checkpoints(stage / "checkpoints", read_only=True)) as checkpoints:
        step = checkpoints.best()
        shapes = checkpoints.shapes(step)
        wanted = {path: x for path, x in shapes.items() if path.startswith(COLLECTION)}
        if not wanted or config.lora is None:
            raise UserError(f"--lora: {workdir!r} has no LoRA in its checkpoint: leave it out")
        variables = unstack_layers(checkpoints.variables(step, wanted))
    with _new_directory(destination) as directory:
        peft.write_lora(variables, config, huggingface.names(config), None, directory)
    return Path(expand(destination))

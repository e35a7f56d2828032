"""Prompts of google-research/prompt-tuning: one array [length, embed], as NumPy writes it.

That project saves them beside its checkpoints (`numpy_checkpoints/checkpoint_<step>/
encoder.prompt.prompt.prompt`, without an ending), publishes them as `.npy`, and reads them with
`prompt_init/prompts.np_load.path`.
"""

import contextlib
from pathlib import Path

import numpy as np

from promot_jax.convert.source import Source, Tensor, check_downloaded, check_finite, new_path
from promot_jax.errors import UserError, near
from promot_jax.training import Checkpoints
from promot_jax.training.variables import stage_directory

MAGIC = b"\x93NUMPY"


def is_npy(path: str) -> bool:
    """Whether a path is a file of NumPy's, whatever its ending."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: str, prompt_name: str = "prompt") -> Source:
    """Opens a prompt; its numbers are mapped into memory.

    Raises:
      UserError: it is no array [length, embed] of floating-point numbers, or cut off.
    """
    check_downloaded(Path(path))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} is no readable .npy file ({error}): restore it") from error
    if array.ndim != 2 or not array.size or array.dtype.kind != "f":
        raise UserError(
            f"{path!r} holds {array.dtype.name} of shape {array.shape}, but a prompt is"
            " floating-point numbers [length, embed]: give another file"
        )
    tensor = Tensor(Path(path).name, array.shape, array.dtype.name, lambda: np.array(array))
    return Source("npy", "prompt", None, {f"prompt/{prompt_name}": tensor})


def export_prompt(workdir: str, destination: str, name: str | None = None) -> Path:
    """Writes a prompt of a work directory's best checkpoint as an array of float32.

    Args:
      workdir: work directory, or a stage directory in one.
      destination: the file; one that is there is replaced.
      name: the prompt; None: the only one.

    Raises:
      UserError: no checkpoint, no such prompt, numbers that are not finite, or the file
        cannot be written.
    """
    target = new_path(destination, "DEST")
    _, stage = stage_directory(workdir)
    with contextlib.closing(Checkpoints(stage / "checkpoints", read_only=True)) as checkpoints:
        step = checkpoints.best()
        shapes = {p: x for p, x in checkpoints.shapes(step).items() if p.startswith("prompt/")}
        path = _chosen(workdir, [p.removeprefix("prompt/") for p in shapes], name)
        prompt = checkpoints.variables(step, {path: shapes[path]})[path]
    array = check_finite(path, np.asarray(prompt, np.float32))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("wb") as file:  # np.save would give a name the ending .npy
            np.save(file, array)
        temporary.replace(target)
    except OSError as error:
        raise UserError(
            f"DEST = {destination!r} cannot be written ({error.strerror}): choose another"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return target


def _chosen(workdir: str, names: list[str], name: str | None) -> str:
    """The path of the prompt that is meant."""
    if not names:
        raise UserError(f"{workdir!r} has no prompt in its checkpoint: give another stage")
    if name is None and len(names) > 1:
        raise UserError(f"{workdir!r} has the prompts {', '.join(names)}: choose one by --prompt")
    if name is not None and name not in names:
        raise UserError(
            f"--prompt={name}: {workdir!r} has only {', '.join(names)}{near(name, names)}"
        )
    return f"prompt/{name or names[0]}"

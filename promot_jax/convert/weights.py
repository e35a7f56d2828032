"""Weight files of the PyTorch world: safetensors, or PyTorch's own, whole or in shards.

A tensor is read alone, with its file opened for it: what a file mapped into memory has touched
counts as used until it is closed, and would add up to the whole model.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from promot_jax.console import say
from promot_jax.convert.source import (
    Tensor,
    check_downloaded,
    check_finite,
    first_few,
    read_json,
)
from promot_jax.errors import UserError
from promot_jax.paths import check_name

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def open_weights(directory: Path, stems: tuple[str, str]) -> dict[str, Tensor]:
    """The tensors of a directory by their names, in their orientation.

    Args:
      directory: where the files lie.
      stems: names of the safetensors and of the PyTorch file without their endings; an index
        file beside them names the shards.

    Raises:
      UserError: no file, one that is damaged or absent, PyTorch's where torch is not installed, or
        numbers of a type that models cannot have.
    """
    for stem, ending, read in zip(
        stems, ("safetensors", "bin"), (_safetensors, _pytorch), strict=True
    ):
        if files := _files(directory, f"{stem}.{ending}"):
            for file in files:
                check_downloaded(file)
            return {name: tensor for file in files for name, tensor in read(file)}
    raise UserError(
        f"{str(directory)!r} has neither {stems[0]}.safetensors nor {stems[1]}.bin (nor an index"
        " of shards): give the directory that save_pretrained wrote"
    )


def _files(directory: Path, name: str) -> list[Path]:
    """The file, or else its shards, in Transformers' order; empty where there is neither."""
    whole, index = directory / name, directory / f"{name}.index.json"
    if whole.is_file():
        if index.exists():
            say(f"{whole} is read, as Transformers do; {index.name} and its shards are not")
        return [whole]
    return _shards(directory, index) if index.exists() else []


def _shards(directory: Path, index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index} is damaged (it has no weight_map): download it again")
    where = f"{index}: the shard"
    files = sorted({directory / check_name(name, where) for name in names.values()})
    if absent := [file.name for file in files if not file.is_file()]:
        raise UserError(
            f"{index} names {first_few(absent, ', ')}, absent from {str(directory)!r}: add them"
        )
    return files


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    def read(name):
        with safe_open(path, "numpy") as file:
            return file.get_tensor(name)

    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                dtype = DTYPES.get(part.get_dtype(), part.get_dtype())
                yield name, _tensor(path, name, part.get_shape(), dtype, lambda n=name: read(n))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): download it again") from error


def _pytorch(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is PyTorch's own format, which needs torch: pip install torch, or save the"
            " model again with save_pretrained, which writes safetensors"
        ) from error
    try:  # tensors alone: pickled code is refused
        mapped = zipfile.is_zipfile(path)
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many kinds
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path} cannot be read as weights alone ({reason})") from error

    if not (isinstance(stored, dict) and all(map(torch.is_tensor, stored.values()))):
        raise UserError(f"{path} holds no table of tensors: save the model's state_dict() in it")

    def read(x):
        x = x.detach()
        if x.dtype == torch.bfloat16:
            return x.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return x.numpy()

    for name, x in stored.items():
        dtype = str(x.dtype).removeprefix("torch.")
        yield name, _tensor(path, name, x.shape, dtype, lambda x=x: read(x))


def _tensor(path: Path, name: str, shape, dtype: str, read) -> Tensor:
    if dtype not in DTYPES.values():
        raise UserError(
            f"{path}: {name} is of type {dtype}: only {', '.join(DTYPES.values())} can be imported;"
            " save the model unquantised"
        )
    return Tensor(name, tuple(shape), dtype, read)


def write_weights(
    directory: Path, shapes: Mapping[str, tuple[int, ...]], read, dtype: str, shard_size: int
) -> Iterator[str]:
    """Writes `model.safetensors`, or shards of at most `shard_size` bytes and their index.

    Args:
      directory: where to.
      shapes: name -> shape (its axes in any order), in the order in which they are written.
      read: name -> array [shape]; called once for each, a shard at a time.
      dtype: of all numbers in the files.
      shard_size: bytes; a tensor larger than this has a shard of its own.

    Yields:
      A name for each tensor written.

    Raises:
      UserError: a number is NaN or infinite.
    """
    itemsize = np.dtype(dtype).itemsize
    shards, room = [], 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * itemsize
        if not shards or size > room:
            shards.append([])
            room = shard_size
        shards[-1].append(name)
        room -= size
    files = {}
    for k, names in enumerate(shards, start=1):
        file = (
            f"model-{k:05}-of-{len(shards):05}.safetensors" if shards[1:] else "model.safetensors"
        )
        arrays = {
            n: check_finite(n, np.ascontiguousarray(read(n).astype(dtype, copy=False)))
            for n in names
        }
        save_file(arrays, directory / file, metadata={"format": "pt"})
        files |= dict.fromkeys(names, file)
        yield from names
    if shards[1:]:
        total = sum(int(np.prod(shape)) for shape in shapes.values()) * itemsize
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (directory / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=1), encoding="utf-8"
        )

"""Directories of Hugging Face's Transformers, in both directions: what all models have in common.

What differs between the kinds of models lies in a module for each, `hf_t5` and `hf_decoders`:

MODEL_TYPES                       what config.json calls them
ROOTS                             what names of their tensors begin with
TABLES                            the tensor of the embedding table, and names of copies of it
IGNORED                           pattern of tensors that a model here does without
TIES_WITHOUT_HEAD                 whether a model without a head is tied, whatever config.json says
renamed(stored, where)            the model's tensors, under the names that `names` has
settings(values, stored, where)   config.json as our configuration, tied where it may be
names(config)                     our path -> their name, for every parameter
read_vocabulary(directory, values, rows), given_vocabulary(given, rows, extra_ids)
VOCABULARY                        the file that --vocabulary names
kept(directory, values)           what an export gives back of the settings
kept_files(directory)             and which files, as they are
check_exportable(config, where)
write(directory, config, vocabulary, dtype, kept, files)

Transformers' matrices lie [out, in], ours [in, out]; embedding tables lie alike.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from promot_jax.convert import hf_decoders, hf_t5, peft, peft_lora
from promot_jax.convert.source import EMBEDDING, Source, Tensor, family_of, read_json
from promot_jax.convert.weights import open_weights
from promot_jax.errors import UserError, near
from promot_jax.models.config import Config

FILES = ("model", "pytorch_model")
LM_HEAD = "lm_head.weight"
KINDS = {"encoder_decoder": hf_t5, "decoder_only": hf_decoders}


def read(path: str) -> Source:
    """Opens a directory of Transformers' `save_pretrained`.

    Raises:
      UserError: a file is absent or damaged, or the model is none that there is here.
    """
    directory = Path(path)
    values = read_json(directory / "config.json")
    kind = _kind(values, path)
    _check(values, path)
    stored = open_weights(directory, FILES)
    _check_prefix(stored, kind.ROOTS, path)
    stored = kind.renamed(stored, path)
    config = kind.settings(values, stored, path)
    stored = _with_embedding(stored, kind.TABLES, config.logits_via_embedding, path)
    tied = _tied(kind, stored, config.logits_via_embedding)
    config = dataclasses.replace(config, logits_via_embedding=tied)
    table = kind.names(config)
    tensors = {ours: orient(ours, stored[name]) for ours, name in table.items() if name in stored}
    dtypes = {tensor.dtype for tensor in tensors.values()}
    dtype = "bfloat16" if dtypes == {"bfloat16"} else "float32"  # the one that holds them all
    config = dataclasses.replace(config, param_dtype=dtype)
    known = {*table.values(), LM_HEAD}
    surplus = [n for n in stored if n not in known and not kind.IGNORED.fullmatch(n)]
    adapted, config = _lora(directory, config, table)
    vocabulary = kind.read_vocabulary(directory, values, config.vocab_size)
    return Source(
        kind="huggingface",
        family=family_of(config, vocabulary and vocabulary.settings()),
        config=config,
        tensors=tensors
        | {f"?{name}": stored[name] for name in surplus}
        | _prompts(directory)
        | adapted,
        vocabulary=vocabulary,
        names=table,
        about={"transformers": values.get("transformers_version")},
        kept=kind.kept(directory, values),
        files=kind.kept_files(directory),
    )


def _kind(values: Mapping[str, Any], where: str) -> ModuleType:
    """The module of a model type."""
    given = values.get("model_type")
    for kind in KINDS.values():
        if given in kind.MODEL_TYPES:
            return kind
    known = [name for kind in KINDS.values() for name in kind.MODEL_TYPES]
    raise UserError(
        f"{where!r} is a model of type {given!r:.80}{near(str(given), known)}: only"
        f" {', '.join(known)} convert"
    )


def _check(values: Mapping[str, Any], where: str) -> None:
    for name in ("transformers_weights", "quantization_config"):
        if values.get(name) is not None:
            raise UserError(
                f"{where!r}: config.json has {name} = {values[name]!r:.80}: save the model again,"
                " unquantised and with its weights in model.safetensors"
            )
    for name in ("tie_word_embeddings", "scale_decoder_outputs"):
        if not isinstance(values.get(name), bool | None):
            raise UserError(
                f"{where!r}: config.json has {name} = {values[name]!r:.80}: set true or false"
            )


def _check_prefix(stored: Mapping[str, Tensor], roots: set[str], where: str) -> None:
    """Raises UserError for tensors that are the model's but for what all names begin with."""
    prefixes = {name.partition(".")[0] for name in stored}
    if len(prefixes) == 1 and not prefixes & roots:
        raise UserError(
            f"{where!r}: the names of all {len(stored)} tensors begin with '{prefixes.pop()}.',"
            " where Transformers do not look for them: save the model without this prefix, as"
            " save_pretrained of the model itself does"
        )


def _prompts(directory: Path) -> dict[str, Tensor]:
    """The adapters that our export writes beside a model, `prompts/<name>/`."""
    found = sorted(directory.glob(f"prompts/*/{peft.SETTINGS}"))
    adapters = [peft.read(str(path.parent), path.parent.name) for path in found]
    return {name: tensor for source in adapters for name, tensor in source.tensors.items()}


def _lora(
    directory: Path, config: Config, table: Mapping[str, str]
) -> tuple[dict[str, Tensor], Config]:
    """The adapter that our export writes beside a model, `lora/`, and the settings with it."""
    path = directory / "lora"
    if not (path / peft.SETTINGS).exists():
        return {}, config
    lora, source = peft_lora.onto(str(path), peft.read(str(path)), config, table)
    return dict(source.tensors), dataclasses.replace(config, lora=lora)


def _with_embedding(
    stored: dict[str, Tensor], tables: tuple[str, ...], may_tie: bool, where: str
) -> dict[str, Tensor]:
    """The tensors with the embedding under its name: some savers keep one name of several.

    Transformers 5 read what lies under a stack's own name as that stack's table, whatever
    `shared.weight` says, where it is no copy.

    Raises:
      UserError: the stacks, or the head that is tied, would have tables that differ.
    """
    found = [name for name in [*tables, *[LM_HEAD] * may_tie] if name in stored]
    if not found:
        return stored
    copies = [name for name in found if name != LM_HEAD]
    if len({_digest(stored[name]) for name in copies[1:] and copies}) > 1:
        raise UserError(
            f"{where!r}: the embedding tables {', '.join(copies)} differ, and Transformers give"
            " encoder and decoder each its own: only models with one table can be imported; leave"
            " the stale one out of the file"
        )
    return {tables[0]: stored[found[0]]} | stored


def _tied(kind: ModuleType, stored: Mapping[str, Tensor], may_tie: bool) -> bool:
    """Whether the head is the embedding: it is absent, or, where it may be, a copy of it."""
    head, table = stored.get(LM_HEAD), stored.get(kind.TABLES[0])
    if head is None:
        return may_tie or kind.TIES_WITHOUT_HEAD
    if table is None or not may_tie or head.shape != table.shape:
        return False
    return _digest(head) == _digest(table)


def _digest(tensor: Tensor) -> bytes:
    """One at a time: two tables of the largest models are much memory."""
    return hashlib.sha256(tensor.read().tobytes()).digest()


def names(config: Config) -> dict[str, str]:
    """Our path -> Transformers' name, for every parameter of a model."""
    return KINDS[config.kind].names(config)


def orient(path: str, tensor: Tensor) -> Tensor:
    """A tensor of theirs as ours lies."""
    shape = tensor.shape if path == EMBEDDING else tensor.shape[::-1]
    return Tensor(tensor.theirs, shape, tensor.dtype, lambda: transposed(path, tensor.read()))


def transposed(path: str, array: np.ndarray) -> np.ndarray:
    """An array as the other side has it: matrices transposed, except the embedding table."""
    return array if path == EMBEDDING else array.T


def unrolled(config: Config) -> Config:
    """The settings of the same model with a parameter for each layer, as `names` has them."""
    return dataclasses.replace(config, scan_layers=False, remat=False)

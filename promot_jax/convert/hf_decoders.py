"""Directories of decoder-only models: what there is beside the settings and names of `decoders`.

What is not ours is carried through an export as it was: the values of config.json that no setting
here has, the settings of generation, and all files of the tokenizer. Of a multimodal model the text
model is taken, and that is what an export writes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promot_jax.console import say
from promot_jax.convert import decoders, tokenizer, tokenizer_files
from promot_jax.convert.decoders import FAMILIES, IGNORED, MULTIMODAL, names
from promot_jax.convert.source import Tensor, read_json, write_json
from promot_jax.errors import UserError
from promot_jax.models.config import DecoderConfig
from promot_jax.paths import resolve
from promot_jax.vocabularies import Tokenizer, Vocabulary

MODEL_TYPES = (*FAMILIES, *MULTIMODAL)
# Of a model with its head, of a multimodal one, and of one that was saved without its head.
ROOTS = {"model", "lm_head", "language_model", "layers"}
TABLES = ("model.embed_tokens.weight",)
VOCABULARY = "tokenizer.json"
TIES_WITHOUT_HEAD = False
OF_PICTURES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")
# Of a multimodal config.json, what stands beside text_config and is the text model's too.
ABOVE = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "initializer_range"),
    *("dtype", "torch_dtype", "transformers_version", "quantization_config"),
)
GENERATION = "generation_config.json"

__all__ = ["IGNORED", "names"]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of the text model alone."""
    kind = MULTIMODAL.get(values["model_type"])
    inner = values.get("text_config")
    if kind is None or not isinstance(inner, Mapping):
        return dict(values)
    above = {name: values[name] for name in ABOVE if values.get(name) is not None}
    own = {"model_type": kind, "architectures": [FAMILIES[kind].architecture]}
    return {**inner, **above, **own}


def renamed(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The text model's tensors, under the names that a text model with a head has."""
    text = {n: tensor for n, tensor in stored.items() if not OF_PICTURES.fullmatch(n)}
    if left := len(stored) - len(text):
        say(
            f"{where!r} is a multimodal model: its text model is imported, without {left} tensors"
            " of vision_tower and multi_modal_projector"
        )
    text = {decoders.text_name(name): tensor for name, tensor in text.items()}
    if any(name.startswith("model.") for name in text):
        return text
    # Transformers find what was saved of the model without its head, too.
    return {name if name.startswith("lm_head.") else f"model.{name}": x for name, x in text.items()}


def settings(values: Mapping[str, Any], stored: Mapping[str, Tensor], where: str) -> DecoderConfig:
    """config.json as our settings, with as many rows as the embedding table has."""
    values = plain(values)
    if table := next((stored[n] for n in (*TABLES, "lm_head.weight") if n in stored), None):
        rows, told = table.shape[0], values.get("vocab_size")
        if told not in (None, rows):
            say(f"{where!r}: config.json has vocab_size = {told!r:.80}, its table {rows} rows")
        values["vocab_size"] = rows
    return decoders.settings(values, where)


def read_vocabulary(directory: Path, values: Mapping[str, Any], rows: int) -> Vocabulary | None:
    """The tokenizer of a directory; None where it has none."""
    gemma = plain(values)["model_type"].startswith("gemma")
    return tokenizer_files.read_vocabulary(directory, rows, gemma)


def given_vocabulary(given: str, rows: int, extra_ids: int) -> Vocabulary:
    """What --vocabulary names, for a model of so many embeddings.

    Raises:
      UserError: it cannot be read, or does not fit.
    """
    if given == "byte":
        return tokenizer.byte_vocabulary(rows)
    path = Path(resolve(given))
    found = tokenizer_files.read_vocabulary(path, rows) if path.is_dir() else None
    if found is None and not path.name.endswith(".json"):
        raise UserError(
            f"--vocabulary={given}: the vocabulary of a decoder is a {VOCABULARY}: give its path"
        )
    return found or tokenizer_files.within(Tokenizer.read(path), rows, given)


def kept(directory: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What an export gives back of config.json."""
    values = plain(values)
    return {"model_type": values["model_type"], "config": values}


def kept_files(directory: Path) -> dict[str, bytes]:
    """The files that an export gives back as they are."""
    files = tokenizer_files.read_files(directory)
    path = directory / GENERATION
    if path.is_file():
        read_json(path)  # so that what is given back can be read
        files[GENERATION] = path.read_bytes()
    return files


def check_exportable(config: DecoderConfig, where: str) -> None:
    """Raises UserError for a model that Transformers have not."""
    try:
        decoders.family_of(config)
    except UserError as error:
        raise UserError(f"{where!r}: {error}") from error


def write(
    directory: Path,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    dtype: str,
    kept: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Writes config.json, generation_config.json and the tokenizer."""
    write_json(directory / "config.json", config_json(config, vocabulary, dtype, kept, files))
    if GENERATION in files:
        (directory / GENERATION).write_bytes(files[GENERATION])
    else:
        write_json(directory / GENERATION, _special_ids(vocabulary))
    if vocabulary.kind == "tokenizer":
        tokenizer_files.write_vocabulary(directory, vocabulary, files)
    else:
        tokenizer.write_vocabulary(directory, vocabulary)


def config_json(
    config: DecoderConfig,
    vocabulary: Vocabulary,
    dtype: str,
    kept: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """The settings as the source has them, as far as they are still the model's; else our own.

    Special ids are the source's where its files are the vocabulary's.
    """
    theirs = dict(kept.get("config", {}))
    own = decoders.config_json(config, dtype, kept.get("model_type"))
    if not theirs:
        return own | _special_ids(vocabulary)
    spelt = "dtype" if "dtype" in theirs else "torch_dtype"
    now = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.logits_via_embedding,
        spelt: dtype,
    } | ({} if files else _special_ids(vocabulary))
    if _same(config, theirs | now):
        return theirs | now
    return {n: x for n, x in theirs.items() if n not in OTHER_SPELLINGS} | own | now


OTHER_SPELLINGS = {
    "rope_parameters", "sliding_window_pattern", "_sliding_window_pattern", "dtype",
}  # fmt: skip


def _same(config: DecoderConfig, values: Mapping[str, Any]) -> bool:
    """Whether config.json says the same model."""
    try:
        other = decoders.settings(values, "")
    except UserError:
        return False
    ours, theirs = (decoders.config_json(x, "", values["model_type"]) for x in (config, other))
    return ours == theirs


def _special_ids(vocabulary: Vocabulary) -> dict[str, Any]:
    """What Transformers call a vocabulary's special ids."""
    stops = list(vocabulary.stop_ids)
    return {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": stops if len(stops) > 1 else vocabulary.eos_id,
        "pad_token_id": vocabulary.pad_id,
    }

"""T5 as Hugging Face's Transformers keep it: settings and names, in both directions.

Whether the head is the embedding is read from the file, as Transformers 5 does: it is where there
is no other or, with `tie_word_embeddings`, a copy. Whether the output is scaled in front of it is
read from config.json: up to version 4 `tie_word_embeddings` said both. Version 5 has
`scale_decoder_outputs` for T5 and never scales mT5. It always scales umT5, which the published
umT5, whose config.json says no, was trained without; here config.json is followed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from promot_jax.console import say
from promot_jax.convert import tokenizer
from promot_jax.convert.source import (
    EMBEDDING,
    HEAD,
    Tensor,
    check_downloaded,
    family_of,
    read_json,
    write_json,
)
from promot_jax.errors import UserError
from promot_jax.models import T5Config
from promot_jax.paths import as_path, resolve
from promot_jax.vocabularies import Byte, SentencePiece

# The table, and the names of copies of it.
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Copies of the embedding, and a table that old releases saved and none has used.
IGNORED = re.compile(
    r"(en|de)coder\.embed_tokens\.weight"
    r"|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
)
SETTINGS = {
    "vocab_size": "vocab_size",
    "emb_dim": "d_model",
    "num_heads": "num_heads",
    "num_encoder_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "dropout_rate": "dropout_rate",
    "relative_attention_num_buckets": "relative_attention_num_buckets",
    "relative_attention_max_distance": "relative_attention_max_distance",
}
# Transformers' "gelu" is the exact one, which no T5 has; its "gated-gelu" is the approximate one.
ACTIVATIONS = {
    "relu": ("relu",),
    "gelu_new": ("gelu",),
    "silu": ("silu",),
    "gated-relu": ("relu", "linear"),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}
CLASSES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
MODEL_TYPES = tuple(CLASSES)
ROOTS = {"encoder", "decoder", "shared", "lm_head"}
VOCABULARY = "SentencePiece model"
TIES_WITHOUT_HEAD = True  # whatever config.json says
FIXED = {
    "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
}
ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}


def renamed(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors as they are.

    Raises:
      UserError: half of a model.
    """
    prefixes = {name.partition(".")[0] for name in stored}
    if "encoder" in prefixes and "decoder" not in prefixes:
        raise UserError(
            f"{where!r} holds an encoder alone, and no decoder: only whole models, as"
            " T5ForConditionalGeneration saves them, can be imported"
        )
    return dict(stored)


def settings(values: Mapping[str, Any], stored: Mapping[str, Tensor], where: str) -> T5Config:
    """config.json as our settings; the head is tied where it may be.

    Args:
      values: what the file says, of a model type in `CLASSES`.
      stored: the tensors.
      where: for messages.

    Raises:
      UserError: a setting that no T5 of ours has.
    """
    kind = values["model_type"]
    for name, value in FIXED.items():
        if values.get(name, value) not in (value, None):
            raise UserError(
                f"{where!r}: config.json has {name} = {values[name]!r:.80}, not {value!r}"
            )
    defaults = {"num_decoder_layers": values.get("num_layers"), "dropout_rate": 0.1}
    defaults |= {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
    given = defaults | {name: x for name, x in values.items() if x is not None}
    if absent := [name for name in SETTINGS.values() if given.get(name) is None]:
        raise UserError(f"{where!r}: config.json lacks {', '.join(absent)}: download it again")
    projection = given.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu")
    if str(projection) not in ACTIVATIONS:
        raise UserError(
            f"{where!r}: config.json has feed_forward_proj = {projection!r:.80}, which is none of"
            f" {', '.join(ACTIVATIONS)}"
        )
    for name, meant in _meaning(projection).items():
        if given.get(name, meant) != meant:
            raise UserError(
                f"{where!r}: config.json has feed_forward_proj = {projection!r:.80}, but {name} ="
                f" {given[name]!r:.80}: correct one of them"
            )
    try:
        return T5Config(
            **{ours: given[theirs] for ours, theirs in SETTINGS.items()},
            mlp_activations=ACTIVATIONS[projection],
            logits_via_embedding=values.get("tie_word_embeddings", True) is not False,
            scale_decoder_outputs=_scaled(kind, given),
            relpos_per_layer=kind == "umt5",
        )
    except UserError as error:
        raise UserError(f"{where!r}: config.json does not make a T5: {error}") from error


def _meaning(projection: str) -> dict[str, Any]:
    """What Transformers derives from `feed_forward_proj`, unless config.json contradicts it."""
    act = "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    return {"dense_act_fn": act, "is_gated_act": projection.startswith("gated-")}


def _scaled(kind: str, given: Mapping[str, Any]) -> bool:
    tied = given.get("tie_word_embeddings", True)
    if kind == "mt5":
        return False
    return given.get("scale_decoder_outputs", tied) if kind == "t5" else tied


def read_vocabulary(directory: Path, values: Mapping[str, Any], rows: int):
    """T5's vocabulary; None where there is none."""
    return tokenizer.read_vocabulary(directory, values)


def given_vocabulary(given: str, rows: int, extra_ids: int) -> Byte | SentencePiece:
    """What --vocabulary names, for a model of so many embeddings.

    Raises:
      UserError: it cannot be read, or does not fit.
    """
    if given == "byte":
        return tokenizer.byte_vocabulary(rows)
    try:
        path = as_path(resolve(given))
        model = path.read_bytes()
        check_downloaded(path)
    except OSError as error:
        raise UserError(f"--vocabulary={given} cannot be read ({error.strerror})") from error
    return tokenizer.sentencepiece_vocabulary(model, rows, extra_ids, given)


def kept(directory: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What an export gives back."""
    return {"model_type": values["model_type"], "generation_config": _generation(directory)}


def _generation(directory: Path) -> dict[str, Any] | None:
    """The source's own settings of generation; None where it has none."""
    path = directory / "generation_config.json"
    if not path.exists():
        return None
    values = read_json(path)
    for name in ("decoder_start_token_id", "eos_token_id"):
        if values.get(name) not in (None, FIXED[name], [FIXED[name]]):
            say(
                f"{path} has {name} = {values[name]!r:.80}: kept for Transformers; promot itself"
                f" generates with {FIXED[name]}"
            )
    return values


def kept_files(directory: Path) -> dict[str, bytes]:
    """No file is given back as it was: ours has the same content."""
    return {}


def check_exportable(config: T5Config, where: str) -> None:
    """Raises UserError for a model that Transformers have not."""
    if config.mlp_activations not in ACTIVATIONS.values():
        raise UserError(
            f"{where!r}: Transformers' T5 has no mlp_activations = {config.mlp_activations}: only"
            f" {', '.join(map(str, ACTIVATIONS.values()))} can be exported"
        )


def write(
    directory: Path,
    config: T5Config,
    vocabulary: Byte | SentencePiece,
    dtype: str,
    kept: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Writes config.json, generation_config.json and the tokenizer."""
    values = config_json(config, vocabulary, dtype, kept.get("model_type"))
    generation = kept.get("generation_config")
    if generation is None:
        names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
        generation = {name: values[name] for name in names}
    write_json(directory / "config.json", values)
    write_json(directory / "generation_config.json", generation)
    tokenizer.write_vocabulary(directory, vocabulary)


def config_json(
    config: T5Config,
    vocabulary: Byte | SentencePiece,
    dtype: str,
    model_type: str | None = None,
) -> dict[str, Any]:
    """Our settings as config.json; `model_type` is the source's, where there was one."""
    family = family_of(config, vocabulary.settings())
    kind = model_type or (family if family in CLASSES else "t5")
    projection = next(k for k, v in ACTIVATIONS.items() if v == config.mlp_activations)
    return {
        "architectures": [f"{CLASSES[kind]}ForConditionalGeneration"],
        "model_type": kind,
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        **FIXED,
        "feed_forward_proj": projection,
        "initializer_factor": 1.0,
        "use_cache": True,
        "tie_word_embeddings": config.scale_decoder_outputs,
        "scale_decoder_outputs": config.scale_decoder_outputs,
        "tokenizer_class": "ByT5Tokenizer" if vocabulary.kind == "byte" else "T5Tokenizer",
        "torch_dtype": dtype,
    }


def names(config: T5Config) -> dict[str, str]:
    """Our path -> Transformers' name, for every parameter of a model."""
    table = {EMBEDDING: "shared.weight"}
    for stack in ("encoder", "decoder"):
        for layer in range(getattr(config, f"num_{stack}_layers")):
            for ours, theirs in _layer(stack, config):
                block = f"{stack}.block.{layer}.layer.{theirs}.weight"
                table[f"params/{stack}/layers_{layer}/{ours}"] = block
        if not config.relpos_per_layer:
            bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            table[f"params/{stack}/relpos_bias/rel_embedding"] = bias
        table[f"params/{stack}/{stack}_norm/scale"] = f"{stack}.final_layer_norm.weight"
    return table if config.logits_via_embedding else table | {HEAD: "lm_head.weight"}


def _layer(stack: str, config: T5Config) -> Iterator[tuple[str, str]]:
    """(our path, their name) inside a layer, which is two or three blocks with a norm each."""
    cross = [("encoder_decoder_attention", "cross_attention", "EncDecAttention")]
    own = "attention" if stack == "encoder" else "self_attention"
    blocks = [(own, own, "SelfAttention"), *(cross if stack == "decoder" else [])]
    for k, (ours, norm, theirs) in enumerate(blocks):
        yield f"pre_{norm}_layer_norm/scale", f"{k}.layer_norm"
        for letter, name in ATTENTION.items():
            yield f"{ours}/{name}/kernel", f"{k}.{theirs}.{letter}"
    if config.relpos_per_layer:
        yield "relpos_bias/rel_embedding", "0.SelfAttention.relative_attention_bias"
    k, gated = len(blocks), len(config.mlp_activations) == 2
    yield "pre_mlp_layer_norm/scale", f"{k}.layer_norm"
    for name in ("wi_0", "wi_1", "wo") if gated else ("wi", "wo"):
        yield f"mlp/{name}/kernel", f"{k}.DenseReluDense.{name}"

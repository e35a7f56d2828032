"""T5 as Hugging Face's Transformers keep it: settings, names and orientation, in both directions.

Transformers' matrices lie [out, in], ours [in, out]; embedding tables lie alike.

Whether the head is the embedding is read from the file, as Transformers 5 does: it is where there
is no other or, with `tie_word_embeddings`, a copy. Whether the output is scaled in front of it is
read from config.json: up to version 4 `tie_word_embeddings` said both. Version 5 has
`scale_decoder_outputs` for T5 and never scales mT5. It always scales umT5, which the published
umT5, whose config.json says no, was trained without; here config.json is followed.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from promot_jax.console import say
from promot_jax.convert import peft
from promot_jax.convert.source import Source, Tensor, Vocabulary, family_of, read_json
from promot_jax.convert.tokenizer import read_vocabulary
from promot_jax.convert.weights import open_weights
from promot_jax.errors import UserError
from promot_jax.models import T5Config

EMBEDDING, HEAD = "params/token_embedder/embedding", "params/decoder/logits_dense/kernel"
FILES = ("model", "pytorch_model")
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
FIXED = {
    "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
}
ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}


def read(path: str) -> Source:
    """Opens a directory of Transformers' `save_pretrained`.

    Raises:
      UserError: a file is absent or damaged, or the model is no T5.
    """
    directory = Path(path)
    values = read_json(directory / "config.json")
    _check_kind(values, path)
    may_tie = values.get("tie_word_embeddings", True) is not False
    stored = open_weights(directory, FILES)
    _check_names(stored, path)
    stored = _with_embedding(stored, may_tie, path)
    tied = _tied(stored, may_tie)
    config = settings(values, tied, {x.dtype for x in stored.values()}, path)
    table = names(config)
    tensors = {ours: orient(ours, stored[name]) for ours, name in table.items() if name in stored}
    known = {*table.values(), "lm_head.weight"}
    surplus = [name for name in stored if name not in known and not IGNORED.fullmatch(name)]
    vocabulary = read_vocabulary(directory, values)
    return Source(
        kind="huggingface",
        family=family_of(config, vocabulary),
        config=config,
        tensors=tensors | {f"?{name}": stored[name] for name in surplus} | _prompts(directory),
        vocabulary=vocabulary,
        names=table,
        about={"transformers": values.get("transformers_version")},
        kept={"model_type": values["model_type"], "generation_config": _generation(directory)},
    )


def _check_kind(values: Mapping[str, Any], where: str) -> None:
    kind = values.get("model_type")
    if str(kind) not in CLASSES:
        raise UserError(
            f"{where!r} is a model of type {kind!r:.80}: only {', '.join(CLASSES)} convert"
        )
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


def _check_names(stored: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError for weights that are a T5's but for what is wrong with all of them."""
    prefixes = {name.partition(".")[0] for name in stored}
    if len(prefixes) == 1 and not prefixes & {"encoder", "decoder", "shared", "lm_head"}:
        raise UserError(
            f"{where!r}: the names of all {len(stored)} tensors begin with '{prefixes.pop()}.',"
            " where Transformers do not look for them: save the model without this prefix, as"
            " save_pretrained of the T5 itself does"
        )
    if "encoder" in prefixes and "decoder" not in prefixes:
        raise UserError(
            f"{where!r} holds an encoder alone, and no decoder: only whole models, as"
            " T5ForConditionalGeneration saves them, can be imported"
        )


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


def _prompts(directory: Path) -> dict[str, Tensor]:
    """The adapters that our export writes beside a model, `prompts/<name>/`."""
    found = sorted(directory.glob(f"prompts/*/{peft.SETTINGS}"))
    adapters = [peft.read(str(path.parent), path.parent.name) for path in found]
    return {name: tensor for source in adapters for name, tensor in source.tensors.items()}


def _with_embedding(stored: dict[str, Tensor], may_tie: bool, where: str) -> dict[str, Tensor]:
    """The tensors with the embedding under its name: some savers keep one name of several.

    Transformers 5 read what lies under a stack's own name as that stack's table, whatever
    `shared.weight` says, where it is no copy.

    Raises:
      UserError: the stacks, or the head that is tied, would have tables that differ.
    """
    own = ["shared", "encoder.embed_tokens", "decoder.embed_tokens"]
    found = [f"{x}.weight" for x in [*own, *["lm_head"] * may_tie] if f"{x}.weight" in stored]
    if not found:
        return stored
    copies = [name for name in found if name != "lm_head.weight"]
    if len({_digest(stored[name]) for name in copies[1:] and copies}) > 1:
        raise UserError(
            f"{where!r}: the embedding tables {', '.join(copies)} differ, and Transformers give"
            " encoder and decoder each its own: only models with one table can be imported; leave"
            " the stale one out of the file"
        )
    return {"shared.weight": stored[found[0]]} | stored


def _tied(stored: Mapping[str, Tensor], may_tie: bool) -> bool:
    """Whether the head is the embedding: it is absent, or, where it may be, a copy of it."""
    head, table = stored.get("lm_head.weight"), stored.get("shared.weight")
    if head is None or table is None or not may_tie or head.shape != table.shape:
        return head is None
    return _digest(head) == _digest(table)


def _digest(tensor: Tensor) -> bytes:
    """One at a time: two tables of the largest models are much memory."""
    return hashlib.sha256(tensor.read().tobytes()).digest()


def settings(values: Mapping[str, Any], tied: bool, dtypes: set[str], where: str) -> T5Config:
    """config.json as our settings.

    Args:
      values: what the file says, of a model type in `CLASSES`.
      tied: whether the head is the embedding.
      dtypes: of the tensors; the parameters take the one that holds them all.
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
            logits_via_embedding=tied,
            scale_decoder_outputs=_scaled(kind, given),
            relpos_per_layer=kind == "umt5",
            param_dtype="bfloat16" if dtypes == {"bfloat16"} else "float32",
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


def config_json(
    config: T5Config, vocabulary: Vocabulary, dtype: str, model_type: str | None = None
) -> dict[str, Any]:
    """Our settings as config.json; `model_type` is the source's, where there was one."""
    family = family_of(config, vocabulary)
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


def orient(path: str, tensor: Tensor) -> Tensor:
    """A tensor of theirs as ours lies."""
    shape = tensor.shape if path == EMBEDDING else tensor.shape[::-1]
    return Tensor(tensor.theirs, shape, tensor.dtype, lambda: transposed(path, tensor.read()))


def transposed(path: str, array: np.ndarray) -> np.ndarray:
    """An array as the other side has it: matrices transposed, except the embedding table."""
    return array if path == EMBEDDING else array.T


def unrolled(config: T5Config) -> T5Config:
    """The settings of the same model with a parameter for each layer, as `names` has them."""
    return dataclasses.replace(config, scan_layers=False, remat=False)

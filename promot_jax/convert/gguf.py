"""Models in GGUF files, llama.cpp's format: their tensors as ours, one at a time.

Most GGUF files are quantised, and what was rounded away is gone: the model that is imported is the
quantised one, in float32. Three conventions of llama.cpp are undone. Its rope turns neighbours, so
the rows of Llama's queries and keys lie interleaved. Gemma's norms are stored with their 1 added.
Matrices lie [out, in], as Transformers'.
"""

import dataclasses
from collections import Counter

import numpy as np

from promot_jax.console import say
from promot_jax.convert import decoders, gguf_settings
from promot_jax.convert.gguf_file import PLAIN, File, Stored, open_file
from promot_jax.convert.gguf_tokenizer import read_tokenizer
from promot_jax.convert.source import Source, Tensor
from promot_jax.errors import UserError
from promot_jax.models.config import DecoderConfig

TABLE, OUTPUT, FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
# Our path inside a layer -> llama.cpp's name in a block.
LAYER = {
    "pre_self_attention_layer_norm/scale": "attn_norm.weight",
    "post_self_attention_layer_norm/scale": "post_attention_norm.weight",
    "pre_mlp_layer_norm/scale": "ffn_norm.weight",
    "post_mlp_layer_norm/scale": "post_ffw_norm.weight",
    "self_attention/query/kernel": "attn_q.weight",
    "self_attention/query/bias": "attn_q.bias",
    "self_attention/key/kernel": "attn_k.weight",
    "self_attention/key/bias": "attn_k.bias",
    "self_attention/value/kernel": "attn_v.weight",
    "self_attention/value/bias": "attn_v.bias",
    "self_attention/out/kernel": "attn_output.weight",
    "self_attention/q_norm/scale": "attn_q_norm.weight",
    "self_attention/k_norm/scale": "attn_k_norm.weight",
    "mlp/wi_0/kernel": "ffn_gate.weight",
    "mlp/wi_1/kernel": "ffn_up.weight",
    "mlp/wo/kernel": "ffn_down.weight",
}
OUTSIDE = {
    decoders.EMBEDDING: TABLE,
    decoders.HEAD: OUTPUT,
    "params/decoder/decoder_norm/scale": "output_norm.weight",
}
INTERLEAVED = ("llama",)  # architectures with rows of queries and keys in llama.cpp's own order


def read(path: str) -> Source:
    """Opens a GGUF file, and says what it was quantised to.

    Raises:
      UserError: it is no GGUF file, or damaged, or holds another architecture, or what our model
        has no place for.
    """
    file = open_file(path)
    gguf_settings.check_kind(file.settings, path)
    config = _config(file)
    table = names(config)
    kind = file.settings["general.architecture"]
    tensors = {
        ours: _tensor(file, kind, ours, file.tensors[name], config)
        for ours, name in table.items()
        if name in file.tensors
    }
    known = {*table.values(), OUTPUT, FACTORS}
    surplus = {f"?{n}": _untouched(file, x) for n, x in file.tensors.items() if n not in known}
    quantised = Counter(x.kind for x in file.tensors.values() if x.kind not in PLAIN)
    vocabulary = read_tokenizer(file.settings, config.vocab_size, path)
    if tensors.keys() == table.keys() and not surplus:  # else import refuses it
        _say(path, quantised)
    return Source(
        kind="gguf",
        family=gguf_settings.MODEL_TYPES[kind].removesuffix("_text"),
        config=config,
        tensors=tensors | surplus,
        vocabulary=vocabulary,
        names=table,
        about={"name": file.settings.get("general.name"), "quantised": dict(quantised)},
        kept={"model_type": gguf_settings.MODEL_TYPES[kind]},
    )


def _say(path: str, quantised: Counter) -> None:
    if quantised:
        types = ", ".join(f"{count} {name}" for name, count in quantised.most_common())
        say(
            f"{path}: its weights are quantised ({types}): what is read is the quantised model, not"
            " the one that it was made from"
        )


def _config(file: File) -> DecoderConfig:
    """The settings, and the type of the parameters."""
    table, factors = file.tensors.get(TABLE), file.tensors.get(FACTORS)
    if table is None or len(table.shape) != 2:
        raise UserError(f"{file.path!r} has no matrix {TABLE}, the embedding: download it again")
    matrices = {x.kind for x in file.tensors.values() if len(x.shape) > 1}
    config = gguf_settings.settings(
        file.settings,
        rows=table.shape[0],
        tied=_tied(file),
        factors=None if factors is None else file.read(factors),
        where=file.path,
    )
    # llama.cpp keeps norms in float32 beside matrices of bfloat16
    dtype = "bfloat16" if matrices == {"BF16"} else "float32"
    return dataclasses.replace(config, param_dtype=dtype)


def _tied(file: File) -> bool:
    """Whether the head is the embedding: it is absent, or a copy."""
    head, table = file.tensors.get(OUTPUT), file.tensors[TABLE]
    if head is None:
        return True
    if (head.kind, head.shape) != (table.kind, table.shape):
        return False
    return np.array_equal(file.raw(head), file.raw(table))


def names(config: DecoderConfig) -> dict[str, str]:
    """Our path -> llama.cpp's name, for every parameter of a model."""
    found = {}
    for ours in decoders.names(config):
        if ours in OUTSIDE:
            found[ours] = OUTSIDE[ours]
        else:
            layer, inside = ours.removeprefix("params/decoder/layers_").split("/", 1)
            found[ours] = f"blk.{layer}.{LAYER[inside]}"
    return found


def _tensor(file: File, kind: str, ours: str, stored: Stored, config: DecoderConfig) -> Tensor:
    """A tensor as ours lies."""

    def read() -> np.ndarray:
        array = file.read(stored)
        if kind in INTERLEAVED and ours.endswith(("/query/kernel", "/key/kernel")):
            heads = config.num_heads if "/query/" in ours else config.num_kv_heads
            array = _straight(array, heads)
        if config.norm_offset and ours.endswith("/scale"):
            return array - np.ones((), array.dtype)
        return array.T if ours.endswith("/kernel") else array

    shape = stored.shape[::-1] if ours.endswith("/kernel") else stored.shape
    return Tensor(stored.name, shape, stored.dtype, read)


def _straight(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows [heads * head_dim, in] with the halves of a head behind each other, not interleaved."""
    rows, width = array.shape
    return array.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _untouched(file: File, stored: Stored) -> Tensor:
    """A tensor that has no place in the model, for the message that says so."""
    return Tensor(stored.name, stored.shape, stored.dtype, lambda: file.read(stored))

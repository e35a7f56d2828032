"""Tiny GGUF files of every architecture, as llama.cpp's converter writes them.

Weights are numbers drawn by NumPy, for each of Transformers' names; the tokenizer is trained here.
"""

import functools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

TEXT = (
    "The quick brown fox jumps over 13 lazy dogs, doesn't it? It's 2024.\n"
    "def main(argv):\n    for i in range(10):\n        print(f'{i:>4}')\n\n\treturn None  # done\n"
    "Größe, naïve café — „schön“. Ελληνικά και кириллица; עברית العربية हिन्दी ไทย 한국어 "
    "日本語です。中文字符测试！ 😀👍🏽 e\u0301 ﬁ ½ \u200b x²\r\n"
) * 3
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<think>", "</think>")
VOCABULARY = 512
HIDDEN, HEADS, KV_HEADS, FFN, CONTEXT = 64, 4, 2, 256, 128
LLAMA = {
    "rope.freq_base": 1e5,
    "rope.dimension_count": 32,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
QWEN = {"rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6}
GEMMA = {
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.sliding_window": 8,
    "attention.layer_norm_rms_epsilon": 1e-6,
}
# Architecture -> width of a head, layers, and the settings beside those that all have.
ARCHITECTURES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "llama": (32, 2, LLAMA),
    "qwen2": (16, 2, QWEN),
    "qwen3": (128, 2, QWEN | {"attention.key_length": 128, "attention.value_length": 128}),
    "gemma2": (
        32,
        3,
        GEMMA | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3": (32, 7, GEMMA | {"rope.freq_base": 1e6}),
}
SENTENCEPIECE = ("gemma2", "gemma3")
# Types by the end of a name; K-quants need rows of 256.
MIXED = {
    "attn_q.weight": "Q4_1",
    "attn_k.weight": "Q5_0",
    "attn_output.weight": "Q4_0",
    "ffn_gate.weight": "F16",
    "ffn_up.weight": "Q5_1",
    "token_embd.weight": "Q8_0",
}


def weights(kind: str, tied: bool = True) -> dict[str, np.ndarray]:
    """Transformers' names -> float32 arrays, matrices [out, in]."""
    width, layers, _ = ARCHITECTURES[kind]
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    if not tied:
        shapes["lm_head.weight"] = (VOCABULARY, HIDDEN)
    norms = ["input_layernorm", "post_attention_layernorm"]
    if kind in SENTENCEPIECE:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes |= {f"{layer}{norm}.weight": (HIDDEN,) for norm in norms}
        for letter, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            shapes[f"{layer}self_attn.{letter}_proj.weight"] = (heads * width, HIDDEN)
            if kind == "qwen2":
                shapes[f"{layer}self_attn.{letter}_proj.bias"] = (heads * width,)
            if kind in ("qwen3", "gemma3") and letter != "v":
                shapes[f"{layer}self_attn.{letter}_norm.weight"] = (width,)
        shapes[f"{layer}self_attn.o_proj.weight"] = (HIDDEN, HEADS * width)
        shapes[f"{layer}mlp.gate_proj.weight"] = (FFN, HIDDEN)
        shapes[f"{layer}mlp.up_proj.weight"] = (FFN, HIDDEN)
        shapes[f"{layer}mlp.down_proj.weight"] = (HIDDEN, FFN)
    return {name: _draw(name, shape, kind in SENTENCEPIECE) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], offset: bool) -> np.ndarray:
    draws = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) == 1:
        # multiples of 1/64: adding the 1 of Gemma's norms, and taking it away, changes no bit
        draws = np.round(draws * 8) / 64
        return draws if offset or name.endswith("bias") else 1 + draws
    return draws * np.float32(0.3 if "embed" in name or "lm_head" in name else shape[1] ** -0.5)


def write(
    path: Path,
    kind: str,
    types: Mapping[str, str] | str = "F32",
    tied: bool = True,
    settings: Mapping[str, Any] = {},
    tokenizer: Mapping[str, Any] | None = None,
    factors: np.ndarray | None = None,
    leave_out: str = "",
    copied_head: bool = False,
) -> Path:
    """Writes a file.

    Args:
      path: where.
      kind: its architecture.
      types: of its matrices, for all or by the ends of their names (others are float32).
      tied: without a head.
      settings: of its architecture, in the place of the usual ones; None leaves one out.
      tokenizer: its tables; None: those of the architecture's kind.
      factors: of rope_freqs.weight.
      leave_out: a tensor that is left out.
      copied_head: with a head that is a copy of the embedding.
    """
    width, layers, own = ARCHITECTURES[kind]
    writer = gguf.GGUFWriter(path, kind)
    usual = {
        "embedding_length": HIDDEN,
        "block_count": layers,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "context_length": CONTEXT,
    }
    for name, value in (usual | own | dict(settings)).items():
        _put(writer, f"{kind}.{name}", value)
    if tokenizer is None:
        tokenizer = sentencepiece() if kind in SENTENCEPIECE else byte_level("qwen2")
    for name, value in tokenizer.items():
        _put(writer, f"tokenizer.{name}", value)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    for name, array in stored(kind, tied).items():
        if name != leave_out:
            _add(writer, name, array, types)
    if copied_head:
        _add(writer, "output.weight", weights(kind)["model.embed_tokens.weight"], types)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(kind: str, tied: bool = True) -> dict[str, np.ndarray]:
    """llama.cpp's names -> arrays as it keeps them."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], ARCHITECTURES[kind][1])
    found = {}
    for name, array in weights(kind, tied).items():
        stem, _, ending = name.rpartition(".")
        if kind == "llama" and stem.endswith(("q_proj", "k_proj")):
            heads = HEADS if stem.endswith("q_proj") else KV_HEADS
            halves = array.reshape(heads, 2, len(array) // heads // 2, -1)
            array = np.swapaxes(halves, 1, 2).reshape(array.shape)
        if kind in SENTENCEPIECE and stem.endswith("norm"):
            array = array + 1
        found[f"{names.get_name(stem)}.{ending}"] = array
    return found


def _add(
    writer: gguf.GGUFWriter, name: str, array: np.ndarray, types: Mapping[str, str] | str
) -> None:
    if isinstance(types, str):
        type_ = types
    else:
        type_ = next((t for end, t in types.items() if name.endswith(end)), "F32")
    if array.ndim == 1 or type_ == "F32":
        writer.add_tensor(name, array)
    elif type_ == "F16":
        writer.add_tensor(name, array.astype(np.float16))
    else:
        kind = gguf.GGMLQuantizationType[type_]
        writer.add_tensor(name, _blocks(array, kind), raw_dtype=kind)


def _blocks(array: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Blocks that hold the array; of types that the package cannot make, blocks that hold some."""
    try:
        return gguf.quants.quantize(array, kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.random.default_rng(0).integers(0, 256, (array.size // block, size), np.uint8)
        places = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q3_K": (108,), "Q2_K": (80, 82)}
        for place in places[kind.name]:  # a block's scales
            blocks[:, place : place + 2] = np.float16([1e-4]).view(np.uint8)
        return blocks.reshape(len(array), -1)


def _put(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, list | tuple):
        writer.add_array(name, list(value))
    else:
        add = {bool: "bool", int: "uint32", float: "float32", str: "string"}[type(value)]
        getattr(writer, f"add_{add}")(name, value)


@functools.cache
def _trained(words: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens by their ids, and merges, of byte-level BPE trained on the text."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = VOCABULARY - len(SPECIAL) - len(ADDED)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT, words], trainer)
    vocab = tokenizer.get_vocab()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tuple(sorted(vocab, key=vocab.get)), tuple(" ".join(pair) for pair in merges)


def byte_level(pre: str, **changes: Any) -> dict[str, Any]:
    """Tables of byte-level BPE."""
    words, merges = _trained("")
    tokens = [*SPECIAL, *words, *ADDED]
    types = [3] * len(SPECIAL) + [1] * len(words) + [4] * len(ADDED)
    return {
        "ggml.model": "gpt2",
        "ggml.pre": pre,
        "ggml.tokens": tokens,
        "ggml.token_type": types,
        "ggml.merges": list(merges),
        "ggml.bos_token_id": 1,
        "ggml.eos_token_id": 2,
        "ggml.padding_token_id": 0,
        "ggml.add_bos_token": False,
    } | changes


def sentencepiece(**changes: Any) -> dict[str, Any]:
    """Tables of a SentencePiece model with bytes, as Gemma's."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    text = TEXT.replace(" ", "▁")
    letters = sorted(set(text))
    room = VOCABULARY - len(special) - len(bytes_) - len(letters) - len(ADDED)
    found = dict.fromkeys(text[i : i + n] for n in (2, 3, 4) for i in range(0, len(text) // 3, 3))
    words = [w for w in found if w not in letters][:room]
    spaces = [w.replace("▁", " ") if not w.strip("▁") else w for w in words]
    tokens = [*special, *bytes_, *spaces, *letters, *ADDED]
    types = [3] * len(special) + [6] * 256 + [1] * (len(words) + len(letters)) + [4] * len(ADDED)
    return {
        "ggml.model": "llama",
        "ggml.pre": "default",
        "ggml.tokens": tokens,
        "ggml.scores": [-float(i % 97) for i in range(len(tokens))],
        "ggml.token_type": types,
        "ggml.bos_token_id": 2,
        "ggml.eos_token_id": 1,
        "ggml.unknown_token_id": 3,
        "ggml.padding_token_id": 0,
    } | changes

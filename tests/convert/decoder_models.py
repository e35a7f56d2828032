"""Tiny decoder-only checkpoints of every family, as Transformers save them, with real tokenizers.

Sizes are awkward on purpose: heads times head_dim is not the width, there may be one kv head, rope
is scaled, windows are short, the table has more rows than the tokenizer ids.
"""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
ROWS = 640  # of the embedding table
SIZES = {
    "vocab_size": ROWS, "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
    "initializer_range": 0.3,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
LOCAL_AND_GLOBAL = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
# family -> class without its ending, settings, kind of tokenizer
FAMILIES = {
    "llama": ("Llama", {"head_dim": 16, "rope_parameters": LLAMA3}, "llama3"),
    "llama_tied": ("Llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}, "llama3"),
    "smollm3": ("SmolLM3", {"tie_word_embeddings": True}, "llama3"),
    "qwen2": ("Qwen2", {}, "qwen"),
    "qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}, "qwen"),
    "olmo2": ("Olmo2", {"num_key_value_heads": 4}, "llama3"),
    "gemma2": (
        "Gemma2", {"head_dim": 16, "query_pre_attn_scalar": 12, "sliding_window": 5}, "gemma",
    ),
    "gemma3": (
        "Gemma3",
        {"head_dim": 16, "num_key_value_heads": 1, "sliding_window": 5, "num_hidden_layers": 7,
         "query_pre_attn_scalar": 12, "rope_parameters": LOCAL_AND_GLOBAL},
        "gemma",
    ),
}  # fmt: skip
CONFIGS = {"Gemma3": "Gemma3TextConfig"}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SCRIPTS = [
    "The capital of France is Paris, isn't it? 12,345 people don't know.",
    "Где живёт Анна? Она живёт в Москве с 1998 года.",
    "東京は日本の首都です。東京タワーは高い。", "서울은 대한민국의 수도이다.",
    "القاهرة هي عاصمة مصر.",
    "दिल्ली भारत की राजधानी है।", "กรุงเทพเป็นเมืองหลวง", "Η Αθήνα είναι η πρωτεύουσα.",
    "naïve café – “quotes” … ½ ﬁne", "def f(x):\n\treturn x ** 2  # 🙂👩‍👩‍👧 ok",
    "   two  spaces   ",
]  # fmt: skip


def lines(count: int = 1000) -> list[str]:
    """Lines of many scripts, cut and mixed at random."""
    rng = np.random.default_rng(0)
    text = " ".join(SCRIPTS)
    made = []
    for _ in range(count):
        parts = []
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(0, len(text)))
            parts.append(text[start : start + int(rng.integers(0, 40))])
        made.append(str(rng.choice(["", " ", "\n", "é"])).join(parts))  # the last one decomposed
    return made


@functools.cache
def tokenizer(kind: str) -> tuple[Tokenizer, dict[str, Any]]:
    """A trained tokenizer as a family has it, and its tokenizer_config.json."""
    return {"gemma": _gemma, "llama3": _llama3, "qwen": _qwen}[kind]()


def _byte_level(special: list[str], normalizer=None) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if normalizer is not None:
        made.normalizer = normalizer
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 - len(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SCRIPTS * 3, trainer)
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return made


def _llama3() -> tuple[Tokenizer, dict[str, Any]]:
    made = _byte_level(["<|begin|>", "<|endoftext|>", "<|start|>", "<|end|>"])
    bos = made.token_to_id("<|begin|>")
    made.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", bos)]
    )
    told = {
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return made, told | {"pad_token": "<|endoftext|>", "chat_template": TEMPLATE}


def _qwen() -> tuple[Tokenizer, dict[str, Any]]:
    made = _byte_level(["<|endoftext|>", "<|start|>", "<|end|>"], normalizers.NFC())
    told = {"bos_token": None, "eos_token": "<|end|>", "tokenizer_class": "Qwen2Tokenizer"}
    told |= {"pad_token": "<|endoftext|>", "add_bos_token": False, "unk_token": None}
    return made, told | {"chat_template": TEMPLATE.replace("{{ bos_token }}", "")}


def _gemma() -> tuple[Tokenizer, dict[str, Any]]:
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    turns = ["<|start|>", "<|end|>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*special, *turns, *pieces],
        limit_alphabet=60, show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(SCRIPTS * 3, trainer)
    # the bytes are pieces of the model, and no tokens that are looked for in text
    told = json.loads(made.to_str())
    told["added_tokens"] = [t for t in told["added_tokens"] if t["content"] not in pieces]
    made = Tokenizer.from_str(json.dumps(told))
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk", "mask")}
    told = names | {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True}
    return made, told | {"chat_template": TEMPLATE}


def save_tokenizer(kind: str, directory: Path) -> None:
    """Writes a tokenizer's files, as a published model has them."""
    made, told = tokenizer(kind)
    template, told = told["chat_template"], {n: x for n, x in told.items() if n != "chat_template"}
    made.save(str(directory / "tokenizer.json"))
    write(directory / "tokenizer_config.json", told)
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    special = {n: x for n, x in told.items() if n.endswith("_token") and isinstance(x, str)}
    write(directory / "special_tokens_map.json", special)
    ids = special_ids(kind)
    stops = list(dict.fromkeys([made.token_to_id("<|end|>"), ids["eos_token_id"]]))
    generation = ids | {"eos_token_id": stops, "temperature": 0.6, "do_sample": True}
    write(directory / "generation_config.json", generation)


def special_ids(kind: str) -> dict[str, int | None]:
    """BOS, EOS and padding of a kind of tokenizer."""
    made, told = tokenizer(kind)
    return {
        f"{name}_token_id": told[f"{name}_token"] and made.token_to_id(told[f"{name}_token"])
        for name in ("bos", "eos", "pad")
    }


def write(path: Path, values: Any) -> None:
    """Writes JSON."""
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def model(family: str, dtype: str = "float32", seed: int = 0) -> Any:
    """Transformers' own model of a family, of random weights, norms and biases among them."""
    import torch
    import transformers

    name, settings, kind = FAMILIES[family]
    ids = special_ids(kind)
    kind = getattr(transformers, CONFIGS.get(name, f"{name}Config"))
    config = kind(**SIZES | ids | settings)
    made = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:  # norms and biases, which begin at 0 or 1
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                spread = parameter.shape[1] ** -0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return made.to(getattr(torch, dtype))


def save(family: str, directory: Path, dtype: str = "float32", shard: str = "5GB") -> Path:
    """Makes a family's checkpoint directory, with a tokenizer."""
    model(family, dtype).save_pretrained(directory, max_shard_size=shard)
    save_tokenizer(FAMILIES[family][2], directory)
    return directory

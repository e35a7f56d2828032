"""Small tokenizers of the kinds that decoder-only models have, as directories of Transformers."""

import json
from collections import Counter

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

TEXTS = [
    "The capital of France is Paris. What's 12345 + 67?  Two  spaces,\ttabs\nand lines.\n\n",
    "Größe, façade, naïve, Ελλάδα, Москва, ישראל, العربية, हिन्दी, ไทย, 한국어",
    "日本語の文章, 中文句子", "def f(x):\n    return x ** 2  # code\n",
    "emoji 😀👩‍👩‍👧 and e\u0301 and ﬁ and x²", " leading",
    "trailing ", "", "'s 're 'LL I'm", "\u200b\ufeff\u00a0", "a" * 50,
    "<s> </s> <unk> <|im_start|>user", "\r\n",
]  # fmt: skip
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
# Its model's turn is called "model", BOS is the template's own, and there is no system's turn.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)


def byte_level(split: str = r"\p{N}{1,3}", normal=None) -> Tokenizer:
    """As Llama 3, Qwen, SmolLM2 and OLMo have it."""
    found = Tokenizer(models.BPE())
    found.normalizer = normal
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    found.train_from_iterator(TEXTS, trainer)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>")
    found.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return found


def _frequent(count: int) -> list[str]:
    """The texts without rarer letters; the trainers' own choice is another in every process."""
    letters = Counter("".join(TEXTS))
    kept = set(sorted(letters, key=lambda x: (-letters[x], x))[:count])
    return ["".join(letter for letter in text if letter in kept) for text in TEXTS]


def gemma_like() -> Tokenizer:
    """SentencePiece's BPE with bytes for what it has no piece for, and no space in front."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trained.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    pieces = names + [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=pieces, show_progress=False)
    trained.train_from_iterator(_frequent(60), trainer)
    told = json.loads(trained.to_str())
    told["added_tokens"] = [t for t in told["added_tokens"] if t["content"] in names]
    return Tokenizer.from_str(json.dumps(told))


def metaspace() -> Tokenizer:
    """A Unigram model with Metaspace, as Llama 2's and T5's translations have it."""
    found = Tokenizer(models.Unigram())
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    found.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>",
            show_progress=False,
        ),
    )  # fmt: skip
    return found


def with_bos(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """It puts a token in front of every text, as Llama 3's and Gemma's do."""
    place = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))]
    )
    own = tokenizer.post_processor
    tokenizer.post_processor = place if own is None else processors.Sequence([own, place])
    return tokenizer


def save(directory, tokenizer: Tokenizer, **files):
    """Writes tokenizer.json and, by name, other files: objects as JSON, texts as they are."""
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        name = "chat_template.jinja" if name == "chat_template" else f"{name}.json"
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def smollm2(directory, **more):
    """As SmolLM2-Instruct: a BOS token that it never writes, `<|endoftext|>` for unknown."""
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>",
        "chat_template": CHATML,
    }  # fmt: skip
    return save(directory, byte_level(), tokenizer_config=told | more)


def qwen(directory):
    """As Qwen 2.5: a BOS id in its config that it never writes, two stop ids."""
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": None,
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML,
    }  # fmt: skip
    tokenizer = byte_level(normal=normalizers.NFC())
    end, im_end = map(tokenizer.token_to_id, ("<|endoftext|>", "<|im_end|>"))
    config = {"bos_token_id": end, "eos_token_id": im_end}
    generation = config | {"eos_token_id": [im_end, end], "pad_token_id": end}
    return save(
        directory, tokenizer, tokenizer_config=told, config=config, generation_config=generation
    )


def llama(directory):
    """As Llama 3: the post-processor puts BOS in front; no padding token, a template in a file."""
    tokenizer = with_bos(byte_level(), "<|begin_of_text|>")
    end, im_end = map(tokenizer.token_to_id, ("<|endoftext|>", "<|im_end|>"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": {"content": "<|begin_of_text|>", "__type": "AddedToken"},
        "eos_token": "<|im_end|>",
    }
    return save(
        directory, tokenizer, tokenizer_config=told,
        generation_config={"eos_token_id": [end, im_end]},
        chat_template="{{ bos_token }}" + CHATML,
    )  # fmt: skip


def gemma(directory, **told):
    """As Gemma 3: BOS is needed, EOS ends a text and another token a turn."""
    tokenizer = with_bos(gemma_like(), "<bos>")
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>",
        "pad_token": "<pad>", "unk_token": "<unk>", "chat_template": GEMMA,
    } | told  # fmt: skip
    return save(
        directory, tokenizer, tokenizer_config=told, generation_config={"eos_token_id": [1, 5]}
    )


def llama2(directory):
    """As Llama 2: Metaspace, a BOS in front, no chat template."""
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "bos_token": "<s>",
        "eos_token": "</s>", "unk_token": "<unk>",
    }  # fmt: skip
    return save(directory, with_bos(metaspace(), "<s>"), tokenizer_config=told)


FAMILIES = {
    "smollm2": smollm2, "qwen": qwen, "llama": llama, "gemma": gemma, "llama2": llama2,
}  # fmt: skip

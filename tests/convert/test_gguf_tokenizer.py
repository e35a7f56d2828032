"""The tokenizer made from a GGUF file's tables: the ids of Transformers, and what is refused."""

import random
from pathlib import Path

import gguf_models
import pytest
from gguf_models import TEXT, byte_level, sentencepiece
from test_gguf import REAL, REAL_MODELS, needs_real, needs_transformers
from tokenizers import Tokenizer

from promot_jax.convert.gguf_file import open_file
from promot_jax.convert.gguf_tokenizer import WORDS, read_tokenizer
from promot_jax.errors import UserError

ALPHABETS = (
    (0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x2000, 0x206F),
    (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x00, 0x1F),
)  # fmt: skip
ROOT = Path(__file__).parents[2]


def texts(count: int, tokens: list[str]) -> list[str]:
    """Lines of code and prose, and of characters drawn from many scripts, with tokens in them."""
    draw = random.Random(0)
    found = [TEXT, "", " ", "  \n\n\t ", *TEXT.splitlines(keepends=True)]
    found += (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    found += Path(__file__).read_text(encoding="utf-8").splitlines()
    for _ in range(count):
        parts = []
        for _ in range(draw.randint(1, 20)):
            first, last = draw.choice(ALPHABETS)
            parts += [chr(draw.randint(first, last)) for _ in range(draw.randint(1, 5))]
            parts.append(draw.choice(("", " ", "  ", "\n", draw.choice(tokens))))
        found.append("".join(parts))
    return found


def whole(told: dict) -> list[str]:
    """The tokens that are found whole in text."""
    pairs = zip(told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"], strict=True)
    return [token for token, kind in pairs if kind in (3, 4)]


def read(path: Path):
    file = open_file(str(path))
    return read_tokenizer(file.settings, file.tensors["token_embd.weight"].shape[0], str(path))


LLAMA2 = sentencepiece(
    **{
        "ggml.tokens": ["<s>", "</s>", "<unk>", "▁a▁", *sentencepiece()["ggml.tokens"][4:]],
        "ggml.token_type": [3, 3, 2, 1, *sentencepiece()["ggml.token_type"][4:]],
        "ggml.bos_token_id": 0,
        "ggml.unknown_token_id": 2,
        "ggml.padding_token_id": None,
    }
)
TABLES = {
    "smollm": ("llama", byte_level("smollm")),
    "llama-bpe": ("llama", byte_level("llama-bpe", **{"ggml.add_bos_token": True})),
    "llama-2": ("llama", LLAMA2),
    "qwen2": ("qwen2", byte_level("qwen2")),
    "qwen3": ("qwen3", byte_level("qwen2")),
    "gemma2": ("gemma2", sentencepiece()),
    "gemma3": ("gemma3", sentencepiece()),
}


@needs_transformers
@pytest.mark.parametrize("name", TABLES)
def test_the_ids_of_transformers(name, tmp_path):
    kind, tables = TABLES[name]
    path = gguf_models.write(tmp_path / "a.gguf", kind, tokenizer=tables)
    compare(path, 500)


@needs_real
@pytest.mark.parametrize("name", REAL_MODELS)
def test_the_ids_of_transformers_for_real_models(name):
    compare(Path(REAL) / name, 2000)


def compare(path: Path, count: int) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    found = read(path)
    ours = Tokenizer.from_str(found.file.decode())
    tokens = whole(open_file(str(path)).settings)
    for text in texts(count, tokens):
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False).ids == wanted, repr(text)
        assert ours.encode(text).ids == theirs(text)["input_ids"], repr(text)
        for special in (True, False):
            text = ours.decode(wanted, skip_special_tokens=special)
            assert text == theirs.decode(wanted, skip_special_tokens=special)
    begins = theirs("a")["input_ids"][0] == theirs.bos_token_id
    assert found.bos_id == (theirs.bos_token_id if begins else None)
    assert found.eos_id == theirs.eos_token_id and found.eos_id in found.stop_ids
    assert theirs.pad_token_id in (found.pad_id, None)
    assert found.unk_id in (theirs.unk_token_id, None)
    assert found.template == theirs.chat_template


def test_every_text_comes_back(tmp_path):
    for kind, tables in (TABLES["qwen2"], TABLES["gemma3"]):
        path = gguf_models.write(tmp_path / "a.gguf", kind, tokenizer=tables)
        ours = Tokenizer.from_str(read(path).file.decode())
        for text in texts(200, [""]):
            text = text.replace("<|", "").replace("▁", " ")  # special, and SentencePiece's
            ids = ours.encode(text, add_special_tokens=False).ids
            assert ours.decode(ids, skip_special_tokens=False) == text


def test_where_bos_stands(tmp_path):
    """As the file says; where it says nothing, as llama.cpp does."""
    silent = {"ggml.add_bos_token": None}
    for kind, tables, bos in (
        ("llama", byte_level("smollm", **silent), None),
        ("llama", byte_level("llama-bpe", **silent), 1),
        ("llama", byte_level("llama-bpe"), None),
        ("gemma3", sentencepiece(), 2),
        ("gemma3", sentencepiece(**{"ggml.add_bos_token": False}), None),
    ):
        path = gguf_models.write(tmp_path / "a.gguf", kind, tokenizer=tables)
        found = read(path)
        assert found.bos_id == bos
        ids = Tokenizer.from_str(found.file.decode()).encode("a").ids
        assert (ids[0] == bos) is (bos is not None)


def test_what_ends_an_output(tmp_path):
    """EOS, the ends of turns that the file names, and those of its chat template."""
    template = "{{ '<|im_start|>user' }}{{ '<|im_end|>' }}"
    for changes, stops in (
        ({}, (2,)),
        ({"ggml.eos_token_id": 0}, (0,)),
        ({"ggml.eos_token_id": 0, "ggml.eot_token_id": 2}, (0, 2)),
        ({"ggml.eos_token_id": 0, "chat_template": template}, (0, 2)),
        ({"chat_template": template}, (2,)),
    ):
        tables = byte_level("qwen2", **changes)
        found = read(gguf_models.write(tmp_path / "a.gguf", "qwen2", tokenizer=tables))
        assert found.stop_ids == stops and found.eos_id == stops[0]
        assert found.template == changes.get("chat_template")


def test_without_padding_it_is_eos(tmp_path):
    tables = byte_level("llama-bpe", **{"ggml.padding_token_id": None})
    assert read(gguf_models.write(tmp_path / "a.gguf", "llama", tokenizer=tables)).pad_id == 2


def test_no_space_in_front_where_the_file_says_so(tmp_path):
    for first, text in ((True, "▁"), (False, "")):
        tables = LLAMA2 | {"ggml.add_space_prefix": first}
        path = gguf_models.write(tmp_path / "a.gguf", "llama", tokenizer=tables)
        ours = Tokenizer.from_str(read(path).file.decode())
        encoded = ours.encode("the", add_special_tokens=False)
        assert "".join(encoded.tokens) == text + "the"
        assert ours.decode(encoded.ids) == "the"


def test_words_of_llama_3_that_no_merge_makes(tmp_path):
    tables = byte_level("llama-bpe")
    tables["ggml.tokens"][-3] = "zqx"
    del tables["ggml.merges"][-1]
    path = gguf_models.write(tmp_path / "a.gguf", "llama", tokenizer=tables)
    ours = Tokenizer.from_str(read(path).file.decode())
    assert ours.encode("zqx", add_special_tokens=False).ids == [gguf_models.VOCABULARY - 3]


BPE = byte_level("qwen2")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ggml.model": "bert"}, "tokenizer.ggml.model = 'bert': only gpt2, llama are known"),
        ({"ggml.model": None}, "tokenizer.ggml.model = None: only gpt2, llama"),
        ({"ggml.pre": "smolm"}, r"ggml.pre = 'smolm': .*\(did you mean 'smollm'"),
        ({"ggml.tokens": None}, "no tokenizer.ggml.tokens"),
        ({"ggml.tokens": "a"}, "ggml.tokens = 'a': it must be a list"),
        ({"ggml.token_type": [1, 2]}, "512 tokens, and 2 of tokenizer.ggml.token_type"),
        ({"ggml.eos_token_id": None}, "no tokenizer.ggml.eos_token_id"),
        ({"ggml.eos_token_id": 512}, "eos_token_id = 512: it must be an id below 512"),
        ({"ggml.add_bos_token": True, "ggml.bos_token_id": None}, "has no bos_token_id"),
        ({"ggml.add_bos_token": 1}, "add_bos_token = 1: it must be true or false"),
        ({"ggml.merges": ["a b", "zz zzz"]}, "tokenizer's tables do not fit"),
        ({"ggml.merges": ["a b c"]}, "tokenizer's tables do not fit"),
        (
            {"ggml.tokens": [*BPE["ggml.tokens"], "more"], "ggml.token_type": None},
            "513 tokens, but the model only 512",
        ),
        ({"ggml.model": "llama", "ggml.merges": None}, "neither merges nor scores"),
    ],
)
def test_tables_that_we_lack(changes, says, tmp_path):
    tables = byte_level("qwen2", **changes)
    path = gguf_models.write(tmp_path / "a.gguf", "llama", tokenizer=tables)
    with pytest.raises(UserError, match=says) as raised:
        read(path)
    assert len(str(raised.value).splitlines()) == 1


def test_names_of_words(tmp_path):
    """All of them make a tokenizer."""
    for pre in WORDS:
        path = gguf_models.write(tmp_path / "a.gguf", "llama", tokenizer=byte_level(pre))
        ours = Tokenizer.from_str(read(path).file.decode())
        assert ours.decode(ours.encode(TEXT, add_special_tokens=False).ids) == TEXT

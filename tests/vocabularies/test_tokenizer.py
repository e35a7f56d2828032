"""Tokenizers of decoder-only models: the ids and texts that Transformers give."""

import copy
import dataclasses
import json
import pickle

import pytest
import small_tokenizers
from small_tokenizers import FAMILIES, TEXTS
from tokenizers import AddedToken

from promot_jax import data, vocabularies
from promot_jax.errors import UserError
from promot_jax.vocabularies import SpecialIds, Tokenizer, decode


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request, tmp_path_factory):
    return FAMILIES[request.param](tmp_path_factory.mktemp("tokenizers") / request.param)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """family -> its directory."""
    root = tmp_path_factory.mktemp("families")
    return {name: make(root / name) for name, make in FAMILIES.items()}


def theirs(directory):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(directory)


def test_ids_and_texts_are_those_of_transformers(directory):
    ours, other = data.tokenizer(str(directory)), theirs(directory)
    for text in [*TEXTS, "".join(TEXTS)]:
        ids = ours.encode(text)
        assert ids == other(text, add_special_tokens=False).input_ids, text
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=True), text
    every = list(range(ours.vocab_size))
    assert ours.decode(every) == other.decode(every, skip_special_tokens=True)


def test_bos_is_what_transformers_put_in_front(directory):
    ours = data.tokenizer(str(directory))
    front = [] if ours.bos_id is None else [ours.bos_id]
    assert [*front, *ours.encode("a word")] == theirs(directory)("a word").input_ids


IDS = {  # texts of BOS, EOS, padding, stop ids and unknown
    "smollm2": (None, "<|im_end|>", "<|im_end|>", ["<|im_end|>"], "<|endoftext|>"),
    "qwen": (None, "<|im_end|>", "<|endoftext|>", ["<|im_end|>", "<|endoftext|>"], None),
    "llama": (
        "<|begin_of_text|>", "<|im_end|>", "<|im_end|>", ["<|im_end|>", "<|endoftext|>"], None,
    ),
    "gemma": ("<bos>", "<eos>", "<pad>", ["<eos>", "<end_of_turn>"], "<unk>"),
    "llama2": ("<s>", "</s>", "</s>", ["</s>"], "<unk>"),
}  # fmt: skip


@pytest.mark.parametrize("family", IDS)
def test_special_ids(made, family):
    ours = data.tokenizer(str(made[family] / "tokenizer.json"))
    name = lambda i: None if i is None else ours._tokenizer.id_to_token(i)  # noqa: E731
    stops = list(map(name, ours.stop_ids))
    assert (*map(name, (ours.bos_id, ours.eos_id, ours.pad_id)), stops, name(ours.unk_id)) == IDS[
        family
    ]


def test_given_ids_win(made):
    ours = data.tokenizer(str(made["gemma"]), bos_id=7, eos_id=5, pad_id=3, stop_ids=[9, 5, 8])
    assert (ours.bos_id, ours.eos_id, ours.pad_id, ours.stop_ids) == (7, 5, 3, (5, 9, 8))
    with pytest.raises(UserError, match="tokenizer.eos_id = 'x': set a whole number or None"):
        data.tokenizer(str(made["gemma"]), eos_id="x")


def test_settings_without_files_beside_it(tmp_path):
    small_tokenizers.save(tmp_path, small_tokenizers.gemma_like())
    with pytest.raises(UserError, match=r"no eos_token .* set data.tokenizer.eos_id"):
        data.tokenizer(str(tmp_path))
    assert data.tokenizer(str(tmp_path), eos_id=1).stop_ids == (1,)
    with pytest.raises(UserError, match="eos_id = 99999, but the tokenizer has 450 ids"):
        data.tokenizer(str(tmp_path), eos_id=99999)
    config = {"text_config": {"eos_token_id": 1, "pad_token_id": 0}, "eos_token_id": None}
    small_tokenizers.save(tmp_path, small_tokenizers.gemma_like(), config=config)
    ours = data.tokenizer(str(tmp_path))
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (None, 1, 0)


@pytest.mark.parametrize("value", ["2", 1.5, [True], [[1]], -3, {"a": 1}])
def test_malformed_stop_ids(tmp_path, value):
    small_tokenizers.save(
        tmp_path, small_tokenizers.gemma_like(), generation_config={"eos_token_id": value}
    )
    with pytest.raises(UserError, match=r"generation_config.json: eos_token_id = .* whole number"):
        data.tokenizer(str(tmp_path))


def test_no_tokenizer(tmp_path):
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "x" / "y"):
        with pytest.raises(UserError, match=r"no tokenizer at '.*'; check the path"):
            data.tokenizer(str(path))
    for content in (
        b"",
        b"{}",
        b"[]",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}',
    ):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError, match="is no tokenizer.json"):
            data.tokenizer(str(tmp_path))
    with pytest.raises(UserError, match="no tokenizer at 'gs://bucket/model'"):
        data.tokenizer("gs://bucket/model")


def test_an_output_ends_at_any_stop_id(made):
    ours = data.tokenizer(str(made["qwen"]))
    ids, stop = ours.encode("Paris"), ours.encode("<|endoftext|>")
    assert stop == [ours.stop_ids[1]]
    soft = [ours.vocab_size, ours.vocab_size + 99999]
    assert decode(ours, [*soft, *ids, *stop, *ids]) == "Paris"
    assert ours.decode([*soft, *ids, *stop, *ids]) == "ParisParis"
    assert ours.encode("!") != [] and decode(ours, [0]) == ours.decode([0]) != ""  # 0 is a word


def test_what_is_no_text(made):
    with pytest.raises(UnicodeEncodeError):
        data.tokenizer(str(made["qwen"])).encode("\ud800")


def test_copies_and_equality(made):
    ours = data.tokenizer(str(made["gemma"]))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), ours.with_chat(True)):
        assert other == ours and hash(other) == hash(ours)
        assert other.encode("a b") == ours.encode("a b")
    assert dataclasses.replace(ours, special=SpecialIds(2, 1, 1)) != ours
    assert data.tokenizer(str(made["llama"])) != ours
    assert len(str(ours)) < 100 and len(repr(ours)) < 400


@pytest.mark.parametrize("chat", [True, False])
def test_in_and_out_of_a_work_directory(made, chat):
    ours = data.tokenizer(str(made["gemma"]), chat=chat)
    settings = json.loads(json.dumps(ours.settings()))
    vocabularies.check(settings)
    again = vocabularies.build(settings, ours.files())
    assert again == ours and again.chat == chat and again.template == ours.template
    assert (again.stop_ids, again.special.tokens) == (ours.stop_ids, ours.special.tokens)
    assert set(ours.files()) == {"tokenizer.json", "chat_template.jinja"} <= {*vocabularies.FILES}


@pytest.mark.parametrize(
    "wrong", [{"chat": 1}, {"eos_id": None}, {"eos_id": "1"}, {"stop_ids": 3}, {"pad_id": -1}]
)
def test_settings_that_are_none(made, wrong):
    settings = data.tokenizer(str(made["qwen"])).settings()
    with pytest.raises((UserError, TypeError, KeyError)):
        vocabularies.check(settings | wrong)
    with pytest.raises(KeyError):
        vocabularies.check({name: settings[name] for name in settings if name not in wrong})


def test_padding_and_truncation_of_the_file_are_off(tmp_path):
    tokenizer = small_tokenizers.gemma_like()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    small_tokenizers.save(tmp_path, tokenizer)
    ids = data.tokenizer(str(tmp_path), eos_id=1).encode("The capital of France")
    assert len(ids) > 2 and ids[-1] != 0


def test_built_from_bytes(made):
    content = (made["gemma"] / "tokenizer.json").read_bytes()
    ours = Tokenizer(content, SpecialIds(bos_id=2, eos_id=1, pad_id=0, stop_ids=(5,)))
    assert ours == data.tokenizer(str(made["gemma"]))


def test_rows_that_a_model_needs(made, tmp_path):
    """Special tokens behind all others need none, if they are not the model's own."""
    tokenizer = small_tokenizers.gemma_like()
    tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    small_tokenizers.save(tmp_path, tokenizer)
    ours = data.tokenizer(str(tmp_path), eos_id=1)
    assert (ours.vocab_size, ours.least_rows) == (451, 450) and ours.encode("<image>") == [450]
    assert data.tokenizer(str(tmp_path), eos_id=1, stop_ids=[450]).least_rows == 451
    for directory in made.values():
        ours = data.tokenizer(str(directory))
        assert ours.least_rows <= ours.vocab_size
        assert max(map(max, filter(None, map(ours.encode, TEXTS)))) < ours.vocab_size


def test_tokens_that_the_tokenizer_alone_lacks(tmp_path):
    """tokenizer_config.json has them, and Transformers add them."""
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "pad_token": "<more>",
        "added_tokens_decoder": {
            "1": {"content": "<eos>", "special": True},
            "450": {"content": "<tool>", "special": False, "normalized": False, "lstrip": True},
        },
    }  # fmt: skip
    small_tokenizers.save(tmp_path, small_tokenizers.gemma_like(), tokenizer_config=told)
    ours, other = data.tokenizer(str(tmp_path)), theirs(tmp_path)
    assert (ours.pad_id, ours.vocab_size) == (451, 452) == (other.pad_token_id, len(other))
    for text in ("a <tool>b", "<more><tool>", "x <more> y"):
        assert ours.encode(text) == other(text, add_special_tokens=False).input_ids
    assert vocabularies.build(ours.settings(), ours.files()).encode("<tool>") == [450]
    assert vocabularies.special_ids(tmp_path) == ours.special


@pytest.mark.parametrize("table", [3, {"x": {}}, {"1": 2}, {"1": {"content": 3}}, {"1": {}}])
def test_malformed_tables_of_tokens(tmp_path, table):
    told = {"eos_token": "<eos>", "added_tokens_decoder": table}
    small_tokenizers.save(tmp_path, small_tokenizers.gemma_like(), tokenizer_config=told)
    with pytest.raises(UserError, match=r"added_tokens_decoder is no table .* download it again"):
        data.tokenizer(str(tmp_path))

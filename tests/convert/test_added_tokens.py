"""Tokens that somebody added to a tokenizer: the same ids here, in Transformers, and again."""

import dataclasses
import json
import warnings
from pathlib import Path

import hf_models
import pytest
import tokenizer_files as drawn
from hf_models import INSTALLED
from tokenizer_files import SIZE, TEXTS, save, token

from promot_jax import data
from promot_jax.added_tokens import AddedToken
from promot_jax.convert import export_model, import_checkpoint
from promot_jax.convert.tokenizer import read_vocabulary, write_vocabulary
from promot_jax.errors import UserError
from promot_jax.training.description import Description
from promot_jax.vocabularies import SentencePiece

needs_transformers = pytest.mark.skipif(not INSTALLED, reason="needs make parity")
T5 = {"model_type": "t5", "vocab_size": 768}
NEW = [token("<ent>", special=True, normalized=False), token("{{"), token("é", normalized=False)]
LISTED = [{"id": SIZE + i, **each} for i, each in enumerate(NEW)]
BY_ID = {str(each["id"]): token for each, token in zip(LISTED, NEW, strict=True)}
IDS = {each["content"]: each["id"] for each in LISTED}


def vocabulary_of(vocabulary: SentencePiece, directory: Path):
    path = directory / "sentencepiece.model"
    path.write_bytes(vocabulary.model)
    return data.sentencepiece(str(path), vocabulary.extra_ids, vocabulary.added_tokens)


def theirs(directory: Path):
    from transformers import AutoTokenizer

    (directory / "config.json").write_text(json.dumps(T5), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoTokenizer.from_pretrained(directory)


def assert_same(ours, other, texts=TEXTS, rows=10**9):
    """The same ids of texts, and the same text of these."""
    for text in texts:
        ids = other(text).input_ids[:-1]
        if max(ids, default=0) < rows:
            assert list(ours.encode(text)) == ids, text
            if 2 not in ids:  # SentencePiece's unknown is not Transformers'
                assert ours.decode(ids) == other.decode(ids), text


WAYS = {
    "tokenizer_config.json": {"told": {"added_tokens_decoder": BY_ID}},
    "tokenizer.json": {"listed": LISTED},
    "added_tokens.json": {"files": "spiece.model", "added_tokens": IDS},
    "all, no spiece.model": {
        "files": "tokenizer.json tokenizer_config.json",
        "told": {"added_tokens_decoder": BY_ID},
        "listed": LISTED,
        "added_tokens": IDS,
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_they_keep_their_ids(tmp_path, way):
    """Wherever they are listed, in a table that was not made larger for them."""
    told = WAYS[way].get("told", {}) | {"extra_ids": 0}
    directory = save(tmp_path / "tokenizer", **(WAYS[way] | {"told": told}))
    if way == "added_tokens.json":
        (directory / "tokenizer_config.json").write_text('{"extra_ids": 0}', encoding="utf-8")
    found = read_vocabulary(directory, T5)
    assert {t.content: t.id for t in found.added_tokens} == IDS and found.extra_ids == 0
    ours = vocabulary_of(found, tmp_path)
    assert ours.vocab_size == SIZE + 3
    assert ours.encode("a <ent>b") == [118, 724, 723, 694]
    assert ours.encode("x{{y") == [723, 716, 725, 723, 717]
    assert ours.decode([118, 724, 723, 694, 725]) == "a<ent> b{{"
    assert data.decode(ours, [118, 725, 1, 726]) == "a{{"
    assert ours.decode([724, 726]) == "<ent>é"
    if INSTALLED:
        assert_same(ours, theirs(directory))


def test_with_sentinels(tmp_path):
    """Both behind the pieces, and sentinels are cut out as in Transformers."""
    listed = [{"id": SIZE + 100, **token("<ent>", normalized=False)}]
    found = read_vocabulary(
        save(tmp_path / "x", listed=listed, sentinels=100), T5 | {"vocab_size": 896}
    )
    assert found.extra_ids == 100 and [t.id for t in found.added_tokens] == [SIZE + 100]
    ours = vocabulary_of(found, tmp_path)
    texts = [*TEXTS, *drawn.SENTINELS, "a<extra_id_0><ent><extra_id_1> b"]
    assert ours.encode("<extra_id_0><ent>") == [SIZE + 99, SIZE + 100]
    if INSTALLED:
        for text in texts:
            assert list(ours.encode(text)) == theirs(tmp_path / "x")(text).input_ids[:-1]


def test_sentinels_in_another_order(tmp_path):
    """Added one after the other behind the pieces, as Transformers do where these lack them."""
    marks = [f"<extra_id_{i}>" for i in range(44)]
    told = {"extra_ids": 44, "additional_special_tokens": marks}
    directory = save(tmp_path / "x", told=told)
    found = read_vocabulary(directory, T5)
    assert {t.content: t.id for t in found.added_tokens} == {
        mark: SIZE + i for i, mark in enumerate(marks)
    }
    if INSTALLED:
        ours = vocabulary_of(found, tmp_path)
        assert_same(ours, theirs(directory), [*TEXTS, *drawn.SENTINELS])


@needs_transformers
@pytest.mark.parametrize("seed", range(60))
def test_as_transformers_read_it(tmp_path, seed):
    """Any listing, any flags: the ids that they give, or a line; and out and in again."""
    rows = drawn.draw(tmp_path / "x", seed)
    try:
        found = read_vocabulary(tmp_path / "x", T5 | {"vocab_size": rows})
    except UserError as error:
        assert "added token" in str(error) and "\n" not in str(error)
        return
    ours = vocabulary_of(found, tmp_path)
    assert_same(ours, theirs(tmp_path / "x"), rows=rows)
    (tmp_path / "out").mkdir()
    write_vocabulary(tmp_path / "out", found)
    assert_same(ours, theirs(tmp_path / "out"), rows=rows)
    assert read_vocabulary(tmp_path / "out", T5 | {"vocab_size": rows}) == found


CANNOT = [
    ({"told": {"added_tokens_decoder": {"766": token("<ent>")}}}, "'<ent>' is listed with id 766"),
    ({"listed": [{"id": 5, **token("<ent>")}]}, "'<ent>' is listed with id 5,.*as 724"),
    ({"listed": [{"id": 724, **token("{")}]}, "'{' is listed with id 724,.*as 719"),
    (
        {"listed": [{"id": 724 + i, **token(f"<{i}>")} for i in range(50)]},
        r"768 embeddings.*'<44>' \(768\), '<45>' \(769\).*and 2 more",
    ),
    (
        {"listed": [{"id": 724, **token("\n")}, {"id": 725, **token("\t")}]},
        r"'\\n' \(724\) and '\\t' \(725\) both become ' '",
    ),
    ({"listed": [{"id": "x", **token("<a>")}]}, "tokenizer.json: added_tokens has id 'x'"),
    ({"listed": [{"id": [5], **token("<a>")}]}, r"has id \[5\]"),
    ({"listed": [{"id": True, **token("<a>")}]}, "has id True"),
    ({"told": {"added_tokens_decoder": {"9" * 9999: token("<a>")}}}, "has id '9999"),
    ({"listed": [{"id": 724, "content": 5}]}, "'content': 5"),
    ({"listed": [{"id": 724, **token("<a>", lstrip="no")}]}, "lstrip = 'no'"),
    ({"listed": ["<a>"]}, "is no list of tokens"),
    ({"told": {"added_tokens_decoder": []}}, "is no table of tokens"),
    ({"told": {"added_tokens_decoder": {"724": "<a>", "x": "<b>"}}}, "has id 'x'"),
    ({"told": {"additional_special_tokens": 5}}, "is 5: give a list"),
    ({"told": {"additional_special_tokens": [5]}}, "special token is 5"),
    ({"told": {"tokenizer_class": "BertTokenizer"}}, "tokenizer_class = 'BertTokenizer'"),
    ({"told": {"eos_token": "<end>"}}, "eos_token = '<end>' has id 724"),
    ({"added_tokens": {"<ent>": "many"}}, "has id 'many'"),
    ({"listed": [{"id": 724, **token("\ud800")}]}, "UTF-8"),
]


@pytest.mark.parametrize(("change", "says"), CANNOT)
def test_what_cannot_be_honoured(tmp_path, change, says):
    told = {"extra_ids": 0} | change.get("told", {})
    files = "spiece.model tokenizer.json tokenizer_config.json"
    directory = save(tmp_path / "x", **({"files": files} | change | {"told": told}))
    with pytest.raises(UserError, match=says) as caught:
        read_vocabulary(directory, T5)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("normalizer", {"type": "Lowercase"}, "normalizer 'Lowercase'"),
        (
            "normalizer",
            {"type": "Sequence", "normalizers": [{"type": "Strip"}, {"type": "NFD"}]},
            "normalizer 'NFD'",
        ),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "é"}, "is damaged"),
        ("normalizer", {"type": "Precompiled"}, "is damaged"),
        ("normalizer", ["x"], "normalizer"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "pre-tokenizer .*ByteLevel"),
        ("pre_tokenizer", {"type": "Metaspace", "prepend_scheme": "first"}, "'first'"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Digits"}]}, "Digits"),
        ("model", {"type": "BPE"}, "is not T5's tokenizer"),
        ("model", {"type": "Unigram", "unk_id": None, "vocab": [["a", 0]]}, "unk_id = None"),
        ("model", {"type": "Unigram", "unk_id": 2, "vocab": [["a"]]}, "vocab is damaged"),
        ("model", {"type": "Unigram", "unk_id": 2, "vocab": [[1, 2]]}, "vocab is damaged"),
        (
            "model",
            {"type": "Unigram", "unk_id": 1, "vocab": [["<extra_id_0>", 0], ["a", 0]]},
            "sentinels among its pieces",
        ),
    ],
)
def test_a_tokenizer_that_is_not_t5s(tmp_path, name, value, says):
    directory = save(tmp_path / "x")
    path = directory / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {name: value}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read_vocabulary(directory, T5)


def test_a_translation_of_version_4(tmp_path):
    """Its normaliser and pre-tokenizer have other steps, which do what SentencePiece does."""
    directory = save(tmp_path / "x", "tokenizer.json tokenizer_config.json", listed=LISTED)
    path = directory / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
    values["normalizer"] = {
        "type": "Sequence",
        "normalizers": [values["normalizer"], strip, spaces],
    }
    values["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    path.write_text(json.dumps(values), encoding="utf-8")
    ours = vocabulary_of(read_vocabulary(directory, T5), tmp_path)
    pieces = data.sentencepiece(str(hf_models.SPIECE))
    for text in ("a  b <ent>", " x{{ ", "½\t c"):
        parts = text.replace("{{", "<ent>").split("<ent>")
        assert [i for i in ours.encode(text) if i < SIZE] == sum(map(pieces.encode, parts), [])


def test_an_unknown_of_another_id(tmp_path):
    """umT5's is 3, behind a BOS that only its own list knows."""
    directory = save(tmp_path / "x", "tokenizer.json", listed=[])
    path = directory / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["vocab"].insert(2, ["<s>", 0.0])
    values["model"]["unk_id"] = 3
    for i, content in ((2, "<s>"), (3, "<unk>")):
        values["added_tokens"] = [x for x in values["added_tokens"] if x["content"] != content]
        values["added_tokens"].append({"id": i, **token(content, special=True, normalized=False)})
    path.write_text(json.dumps(values), encoding="utf-8")
    found = read_vocabulary(directory, T5 | {"model_type": "umt5"})
    assert [(t.content, t.id) for t in found.added_tokens] == [("<s>", 2)]
    ours = vocabulary_of(found, tmp_path)
    assert ours.unk_id == 3 and ours.encode("a 日 <s>") == [119, 724, 3, 2]
    if INSTALLED:
        from transformers import AutoTokenizer

        (directory / "config.json").write_text('{"model_type": "umt5"}', encoding="utf-8")
        assert_same(ours, AutoTokenizer.from_pretrained(directory), ["a b <s> c", "x{y"])
    (tmp_path / "out").mkdir()
    write_vocabulary(tmp_path / "out", found)
    assert read_vocabulary(tmp_path / "out", T5 | {"model_type": "umt5"}) == found


def test_pieces_that_differ_are_the_translations(tmp_path, capsys):
    """Where both are there Transformers read tokenizer.json."""
    directory = save(tmp_path / "x")
    path = directory / "tokenizer.json"
    text = path.read_text(encoding="utf-8").replace('["{", ', '["∂", ')
    path.write_text(text, encoding="utf-8")
    ours = vocabulary_of(read_vocabulary(directory, T5), tmp_path)
    assert ours.encode("∂") == [723, 719]
    assert "tokenizer.json is read, as Transformers do" in capsys.readouterr().err


def test_a_newline_that_is_every_space(tmp_path, capsys):
    """`tokenizer.add_tokens(["\\n"])` makes it so; what Transformers read is read, and said."""
    directory = save(tmp_path / "x", listed=[{"id": SIZE, **token("\n")}])
    ours = vocabulary_of(read_vocabulary(directory, T5), tmp_path)
    assert ours.encode("a b\nc") == [118, SIZE, 723, 694, SIZE, 723, 695]
    assert r"'\n' is ' ' by T5's normalisation" in capsys.readouterr().err
    if INSTALLED:
        assert_same(ours, theirs(directory))


def test_bytes_have_none(tmp_path):
    told = {"tokenizer_class": "ByT5Tokenizer", "added_tokens_decoder": {"384": token("<ent>")}}
    directory = save(tmp_path / "x", "tokenizer_config.json", told)
    with pytest.raises(UserError, match="'<ent>' were added to ByT5's bytes"):
        read_vocabulary(directory, {"model_type": "t5", "vocab_size": 400})


def test_in_and_out(tmp_path):
    """Import, work directory, export: the same tokens, and whose vocabulary is which."""
    model = hf_models.save("t5_1_1", tmp_path / "model")
    (model / "spiece.model").unlink()
    for path in save(tmp_path / "x", listed=LISTED, told={"extra_ids": 0}).iterdir():
        path.rename(model / path.name)
    work = import_checkpoint(str(model), str(tmp_path / "work"))
    ours = Description.read(str(work)).load_vocabulary(str(work))
    tokens = ours.added_tokens
    assert {t.content: t.id for t in tokens} == IDS and tokens[0].special
    assert ours.encode("<ent>é") == [724, 726] and ours.decode([724, 726]) == "<ent>é"
    out = export_model(str(work), str(tmp_path / "out"))
    again = read_vocabulary(out, T5)
    assert again.added_tokens == tokens
    assert ours == vocabulary_of(again, tmp_path)
    for others in ((), tokens[:2], [dataclasses.replace(tokens[0], id=9), *tokens[1:]]):
        other = vocabulary_of(dataclasses.replace(again, added_tokens=tuple(others)), tmp_path)
        assert ours != other
    if INSTALLED:
        assert_same(ours, theirs(out))


def test_damaged_tokens_of_a_work_directory(tmp_path):
    model = hf_models.save("t5_1_1", tmp_path / "model")
    work = import_checkpoint(str(model), str(tmp_path / "work"))
    told = json.loads((work / "run.json").read_text(encoding="utf-8"))
    for tokens in (5, [5], [{"content": "a"}], [{"content": "a", "id": "x"}], [{"x": 1}]):
        told["vocabulary"]["added_tokens"] = tokens
        (work / "run.json").write_text(json.dumps(told), encoding="utf-8")
        with pytest.raises(UserError, match="run.json is damaged"):
            Description.read(str(work))


def test_in_tensorflow(tmp_path):
    """For SeqIO's own tasks."""
    import tensorflow as tf

    found = dataclasses.replace(
        read_vocabulary(save(tmp_path / "x"), T5),
        added_tokens=(AddedToken("<ent>", 724), AddedToken("{", 719, normalized=True)),
    )
    ours = data.as_seqio(vocabulary_of(found, tmp_path))
    texts = tf.data.Dataset.from_tensor_slices(["a <ent>{", "", "b"]).map(ours.encode_tf)
    assert [x.tolist() for x in texts.as_numpy_iterator()] == [[118, 724, 719], [], [723, 694]]
    assert ours.decode_tf(tf.constant([118, 724, 719])).numpy() == b"a<ent>{"

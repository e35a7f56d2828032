import pytest

from promot_jax import data
from promot_jax.errors import UserError


def test_bytes():
    vocabulary = data.byte(extra_ids=125)
    assert vocabulary.vocab_size == 384
    assert vocabulary.decode(vocabulary.encode("Grüße")) == "Grüße"


def test_missing_file():
    with pytest.raises(UserError, match="no SentencePiece model at 'nowhere.model'"):
        data.sentencepiece("nowhere.model")


@pytest.mark.parametrize("content", [b"", b"these are words", bytes(range(256))])
def test_not_a_model(tmp_path, content):
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model"):
        data.sentencepiece(str(path))


def test_model_without_padding(tmp_path):
    import sentencepiece

    text = tmp_path / "text.txt"
    text.write_text("a b c d e f\n" * 20, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=12, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    with pytest.raises(UserError, match="pad id -1"):
        data.sentencepiece(str(tmp_path / "m.model"))


def test_sentencepiece_and_equality(t5_vocabulary, tmp_path):
    assert t5_vocabulary.vocab_size == 32100
    copy = tmp_path / "copy.model"
    copy.write_bytes(t5_vocabulary.model)
    assert t5_vocabulary == data.sentencepiece(str(copy), extra_ids=100)
    assert t5_vocabulary not in (data.sentencepiece(str(copy)), data.byte())
    assert data.byte() == data.byte(0) != data.byte(1)

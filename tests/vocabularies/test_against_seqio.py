"""Our SentencePiece and byte vocabularies give SeqIO's ids and texts, byte for byte."""

import itertools
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax import data, vocabularies
from promot_jax.data.quiet import seqio
from promot_jax.vocabularies import Byte, SentencePiece, decode

LAB = Path(vocabularies.__file__).parents[1] / "assets/lab/sentencepiece.model"
# Pieces, letters without one, sentinels, white space, what normalisation changes, half of a pair.
WORDS = st.sampled_from(
    ["Anna", " lives", " in", "Rund", " ", "  ", "\n", "é", "x²", "日本", "<extra_id_0>", "</s>",
     "<extra_id_3>", "▁", "a", "?", ".", "\u3000", "<ent>", "{", " <b> ", "ﬁ", "Q: "]
)  # fmt: skip
TEXTS = st.lists(WORDS | st.text(max_size=4), max_size=12).map("".join)


def pairs(extra_ids):
    """Ours and SeqIO's."""
    pieces = SentencePiece(LAB.read_bytes(), extra_ids)
    return [
        (pieces, seqio.SentencePieceVocabulary(str(LAB), extra_ids)),
        (Byte(extra_ids), seqio.ByteVocabulary(extra_ids)),
    ]


@pytest.mark.parametrize("ours, theirs", [pair for n in (0, 4, 100) for pair in pairs(n)])
def test_everything(ours, theirs):
    assert ours.vocab_size == theirs.vocab_size
    assert (ours.pad_id, ours.eos_id, ours.unk_id) == (0, theirs.eos_id, theirs.unk_id)
    assert ours.bos_id is None and ours.stop_ids == (1,)
    size = ours.vocab_size

    @settings(max_examples=300, deadline=None)
    @given(TEXTS)
    def texts(text):
        ids = ours.encode(text)
        assert ids == list(theirs.encode(text))
        assert ours.decode(ids) == theirs.decode(ids)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.integers(0, size + 9) | st.integers(0, 5), max_size=12))
    def ids(ids):
        assert ours.decode(ids) == theirs._decode(ids)
        assert ours.decode(before_eos(ids)) == theirs.decode(ids)
        inside = [i for i in before_eos(ids) if 0 < i < size]
        assert decode(ours, ids) == theirs.decode(inside)

    texts()
    ids()


def before_eos(ids):
    return list(itertools.takewhile(lambda i: i != 1, ids))


@pytest.mark.parametrize("ours, theirs", pairs(4))
def test_as_seqio_in_tensorflow(ours, theirs):
    import tensorflow as tf

    wrapped = data.as_seqio(pickle.loads(pickle.dumps(ours)))
    assert data.same_vocabulary(wrapped, ours) and data.same_vocabulary(theirs, ours)
    assert not data.same_vocabulary(theirs, Byte(7)) and wrapped != theirs
    texts = ["Anna lives in Rund.", "", "é<extra_id_0> x"]
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    found, wanted = dataset.map(wrapped.encode_tf), dataset.map(theirs.encode_tf)
    assert found.element_spec == tf.TensorSpec([None], tf.int32)
    for a, b in zip(found.as_numpy_iterator(), wanted.as_numpy_iterator(), strict=True):
        assert a.tolist() == b.tolist()
        assert wrapped.decode_tf(tf.constant(a)).numpy() == wrapped.decode(a.tolist()).encode()
    rows = tf.constant([[5, 6, 1, 7], [300, 9, 0, 0]])
    assert wrapped.decode_tf(rows).numpy().tolist() == theirs.decode_tf(rows).numpy().tolist()

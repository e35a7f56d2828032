"""One of our vocabularies as SeqIO's."""

from collections.abc import Iterable

import numpy as np

from promot_jax.data.quiet import seqio, tf
from promot_jax.vocabularies import Vocabulary


class OfSeqIO(seqio.Vocabulary):
    """What `data.as_seqio` gives.

    In TensorFlow it calls back into Python: it works in this process and is not to be serialised.

    Attributes:
      vocabulary: whose ids and texts it gives.
    """

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self.vocabulary = vocabulary

    @property
    def pad_id(self) -> int:
        return self.vocabulary.pad_id

    @property
    def bos_id(self) -> int | None:
        return self.vocabulary.bos_id

    @property
    def eos_id(self) -> int:
        return self.vocabulary.eos_id

    @property
    def unk_id(self) -> int | None:
        return self.vocabulary.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.vocabulary.vocab_size

    def _encode(self, s: str | bytes) -> list[int]:
        return self.vocabulary.encode(s.decode() if isinstance(s, bytes) else s)

    def _decode(self, ids: Iterable[int]) -> str:
        return self.vocabulary.decode(map(int, ids))

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        encode = lambda text: np.asarray(self._encode(text), np.int32)  # noqa: E731
        return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32, stateful=False), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(array: np.ndarray) -> np.ndarray:
            rows = array.reshape(-1, array.shape[-1]).tolist()
            texts = [self._decode(row).encode() for row in rows]
            return np.array(texts, object).reshape(array.shape[:-1])

        texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
        return tf.ensure_shape(texts, ids.shape[:-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OfSeqIO) and self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def __str__(self) -> str:
        return str(self.vocabulary)

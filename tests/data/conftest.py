"""Small real tasks to test with. Session-wide, so that hypothesis may use them too."""

import itertools
import os
from pathlib import Path

import pytest
import seqio
import tensorflow as tf

from promot_jax import data

numbers = itertools.count()


def _source(splits):
    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices(splits[split])

    sizes = {split: len(next(iter(columns.values()))) for split, columns in splits.items()}
    return seqio.FunctionDataSource(dataset, list(splits), sizes)


@pytest.fixture(scope="session")
def source():
    """splits (split -> columns) -> a SeqIO source."""
    return _source


@pytest.fixture(scope="session")
def text_task():
    """(input, target) pairs -> the name of a new text task."""

    def make(train, validation=(), info=None, **columns):
        splits = {"train": train} | ({"validation": validation} if validation else {})
        source = _source(
            {
                split: {"inputs": [p[0] for p in pairs], "targets": [p[1] for p in pairs]} | columns
                for split, pairs in splits.items()
            }
        )
        name = f"text_{next(numbers)}"
        data.add_task(name, source, [], [data.accuracy], info=info)
        return name

    return make


@pytest.fixture(scope="session")
def mixture():
    """Task -> rate: the name of a new mixture."""

    def make(rates):
        name = f"mixture_{next(numbers)}"
        seqio.MixtureRegistry.add(name, list(rates.items()))
        return name

    return make


@pytest.fixture(scope="session")
def pairs():
    """n different (input, target) pairs of various lengths."""

    def make(n, word="w"):
        return [(f"{word}{i} " * (1 + i % 4), f"t{i}") for i in range(n)]

    return make


@pytest.fixture(scope="session")
def t5_vocabulary():
    shared = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
    path = shared / "spm" / "t5.spiece.model"
    if not path.exists():
        pytest.skip("T5's SentencePiece model is not there (PROMOT_SHARED)")
    return data.sentencepiece(str(path), extra_ids=100)

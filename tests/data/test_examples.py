import numpy as np
import pytest
import seqio
import tensorflow as tf

from promot_jax import data
from promot_jax.errors import UserError


def test_rows_come_in_order_with_all_their_fields(text_task):
    name = text_task(
        [("ä", "1"), ("b", "2")], label=[0, 1], weight=[0.5, 1.5], answers=[["x", "ü"], ["y", "z"]]
    )
    first, second = data.load_examples(name, "train")
    assert (first.task, first.inputs, first.targets) == (name, "ä", "1")
    assert first.features["answers"] == ["x", "ü"]
    assert second.features["label"] == 1
    assert second.features["weight"] == 1.5
    assert data.load_examples(name, "train", 1) == [first]


def test_ragged_and_undecodable_fields(source):
    raw = {"inputs": ["a", "b"], "targets": ["c", "d"], "n": [1, 2], "image": [b"\xff", b"ok"]}

    def ragged(dataset):
        return dataset.map(lambda row: row | {"many": tf.fill([row["n"]], row["inputs"])})

    data.add_task("ragged_fields", source({"train": raw}), [ragged], [])
    first, second = data.load_examples("ragged_fields", "train")
    assert second.features["many"] == ["b", "b"]
    assert (first.features["image"], second.features["image"]) == (b"\xff", "ok")


def test_random_preprocessors_are_fixed(source):
    @seqio.map_over_dataset(num_seeds=1)
    def noisy(row, seed):
        number = tf.random.stateless_uniform([], seed)
        return row | {"inputs": tf.strings.as_string(number)}

    raw = {"inputs": ["a"] * 9, "targets": ["c"] * 9}
    for name in ("noisy_1", "noisy_2"):
        data.add_task(name, source({"train": raw}), [noisy], [])
    inputs = [[e.inputs for e in data.load_examples(n, "train")] for n in ("noisy_1", "noisy_2")]
    assert inputs[0] == inputs[1]
    assert len(set(inputs[0])) == 9


def test_the_cache_cannot_be_spoilt(text_task):
    name = text_task([("a", "b")])
    data.load_examples(name, "train").clear()
    assert len(data.load_examples(name, "train")) == 1


def test_errors(text_task, mixture, source):
    name = text_task([("a", "b")], [("c", "d")])
    with pytest.raises(UserError, match=r"'vaildation'.*validation.*\['train', 'validation'\]"):
        data.load_examples(name, "vaildation")
    with pytest.raises(UserError, match="limit=0"):
        data.load_examples(name, "train", 0)
    with pytest.raises(UserError, match=f"is a mixture.*{name}"):
        data.load_examples(mixture({name: 1.0}), "train")
    empty = {"inputs": np.array([], str), "targets": np.array([], str)}
    data.add_task("no_rows", source({"train": empty}), [], [])
    with pytest.raises(UserError, match="no rows"):
        data.load_examples("no_rows", "train")
    data.add_task("no_targets", source({"train": {"inputs": ["a"]}}), [], [])
    with pytest.raises(UserError, match="'targets' is None"):
        data.load_examples("no_targets", "train")


def test_unreadable_source():
    lines = seqio.TextLineDataSource({"train": "nowhere/*.txt"})
    data.add_task("no_files", lines, [], [])
    with pytest.raises(UserError, match="'train': its data cannot be read .No file is found"):
        data.load_examples("no_files", "train")
    no_dataset = seqio.TfdsDataSource("no_such_dataset:1.0.0", splits=["train"])
    data.add_task("no_dataset", no_dataset, [], [])
    with pytest.raises(UserError, match="cannot be read .Dataset no_such_dataset not found"):
        data.load_examples("no_dataset", "train")

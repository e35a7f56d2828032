"""Ordinary SeqIO tasks: token ids of a vocabulary of their own."""

import json
import os

import pytest
import seqio
import tensorflow as tf

from promot_jax import data
from promot_jax.data import reading
from promot_jax.errors import UserError


def register(name, source, vocabulary, add_eos=True, append=True):
    feature = seqio.Feature(data.as_seqio(vocabulary), add_eos=add_eos)
    seqio.TaskRegistry.add(
        name,
        source=source({"train": {"inputs": ["ab", "c"], "targets": ["d", "e"]}}),
        preprocessors=[seqio.preprocessors.tokenize]
        + ([seqio.preprocessors.append_eos] if append else []),
        output_features={"inputs": feature, "targets": feature},
        metric_fns=[],
    )
    return name


@pytest.mark.parametrize("append", [True, False])
def test_ids_get_one_eos(source, append):
    name = register(f"ids_{append}", source, data.byte(), append=append)
    batch = data.Batches(data.TrainData(name, 4, 3, batch_size=2), data.byte(), 259)(0)
    rows = sorted(batch["encoder_input_tokens"].tolist())
    assert rows == [[100, 101, 1, 0], [102, 1, 0, 0]]
    assert data.load_examples(name, "train")[0].inputs == "ab"


def test_feature_without_eos_stays_without(source):
    name = register("ids_no_eos", source, data.byte(), add_eos=False)
    batch = data.Batches(data.TrainData(name, 4, 3, batch_size=2), data.byte(), 259)(0)
    assert sorted(batch["encoder_input_tokens"].tolist()) == [[100, 101, 0, 0], [102, 0, 0, 0]]


def test_evaluation(source):
    name = register("ids_eval", source, data.byte())
    found = data.eval_set(name, "train", 0, data.byte(), 259, None, 8)
    assert [t.tolist() for t in found.tokens] == [[100, 101, 1], [102, 1]]


def test_another_vocabulary(source):
    name = register("ids_other", source, data.byte(extra_ids=5))
    with pytest.raises(UserError, match="'ids_other' yields 'inputs' as ids of"):
        data.Batches(data.TrainData(name, 8, 8), data.byte(), 259)


def test_no_shots(source):
    name = register("ids_shots", source, data.byte())
    with pytest.raises(UserError, match="cannot take shots"):
        data.Batches(data.TrainData(name, 8, 8, shots=(1,)), data.byte(), 259)


def test_task_without_inputs(source):
    seqio.TaskRegistry.add(
        "only_targets",
        source=source({"train": {"targets": ["d"]}}),
        preprocessors=[seqio.preprocessors.tokenize],
        output_features={"targets": seqio.Feature(data.as_seqio(data.byte()))},
        metric_fns=[],
    )
    with pytest.raises(UserError, match="no feature 'inputs'"):
        data.load_examples("only_targets", "train")


@pytest.fixture
def seqio_cached(source, tmp_path):
    """A task whose rows `seqio_cache_tasks` has written: the name, and what it left."""

    def upper(dataset):
        return dataset.map(lambda row: {k: tf.strings.upper(v) for k, v in row.items()})

    name = f"seqio_cached_{tmp_path.name}"
    rows = source({"train": {"inputs": ["a"], "targets": ["b"]}})
    placeholder = seqio.CacheDatasetPlaceholder()
    task = data.add_task(name, rows, [upper, placeholder, upper], [])
    directory = tmp_path / name
    directory.mkdir()
    text = {"shape": [], "dtype": "string"}
    info = {"features": {"inputs": text, "targets": text}, "num_shards": 1}
    (directory / "info.train.json").write_text(json.dumps(info), encoding="utf-8")
    (directory / "stats.train.json").write_text('{"examples": 40}', encoding="utf-8")
    with tf.io.TFRecordWriter(str(directory / "train.tfrecord-00000-of-00001")) as writer:
        for i in range(40):
            row = {"inputs": f"x{i}".encode(), "targets": b"y"}
            writer.write(seqio.utils.dict_to_tfexample(row).SerializeToString())
    (directory / "COMPLETED").touch()
    assert task.cache_dir is None
    before = seqio.get_global_cache_dirs()
    seqio.set_global_cache_dirs([str(tmp_path)])
    yield name, directory
    seqio.set_global_cache_dirs(before)


def test_what_seqio_has_cached_is_read_as_it_lies(seqio_cached, tmp_path, monkeypatch):
    """With what comes behind the placeholder; and of its rows there is a token cache, too."""
    name, directory = seqio_cached
    found = data.load_examples(name, "train")
    assert [e.inputs for e in found] == [f"X{i}" for i in range(40)]
    assert {e.targets for e in found} == {"Y"}
    monkeypatch.setattr(reading, "LARGE", 20)
    cache, caches = tmp_path / "tokens", []
    for _ in range(2):
        data.Batches(data.TrainData(name, 8, 8), data.byte(), 259, cache=str(cache))
        caches.append(len(list(cache.iterdir())))
        path = directory / "train.tfrecord-00000-of-00001"
        os.utime(path, ns=(0, 0))  # as if written anew
        reading._read.cache_clear()
        reading._place.cache_clear()
    assert caches == [1, 2]

"""Ordinary SeqIO tasks: token ids of a vocabulary of their own."""

import pytest
import seqio

from promot_jax import data
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

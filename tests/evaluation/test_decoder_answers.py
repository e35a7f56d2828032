"""Evaluation of decoders: where an answer ends, and what a sample shows."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import seqio
import tensorflow as tf

from promot_jax import data
from promot_jax.evaluation import Evaluation, Evaluator
from promot_jax.models import Decoding

sys.path.insert(0, str(Path(__file__).parents[1] / "vocabularies"))

import small_tokenizers

ROWS = [(f"what is {a}{b}?", f"{a} or {b}") for a in "abc" for b in "xyz"]


def columns(split, shuffle_files=False, seed=None):
    texts = zip(("inputs", "targets"), zip(*ROWS, strict=True), strict=True)
    return tf.data.Dataset.from_tensor_slices({key: list(values) for key, values in texts})


@pytest.fixture(scope="module")
def task():
    source = seqio.FunctionDataSource(columns, splits=("train", "validation"))
    data.add_task("decoder_answers", source, [], [data.accuracy])
    yield "decoder_answers"
    seqio.TaskRegistry.remove("decoder_answers")


@pytest.fixture(scope="module", params=["one id is BOS, EOS and padding", "chat", "BOS"])
def vocabulary(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizer")
    if request.param == "BOS":
        return data.tokenizer(str(small_tokenizers.gemma(root / "x")))
    directory = str(small_tokenizers.smollm2(root / "x"))
    if request.param == "chat":
        return data.tokenizer(directory, chat=True)
    return data.tokenizer(directory, bos_id=500, eos_id=500, pad_id=500)


@pytest.mark.parametrize("shots", [0, 2])
def test_an_answer_ends_where_a_further_shot_would_begin(task, vocabulary, shots, tmp_path):
    """A base model goes on in the form of its input; it never learned to stop."""
    answers, seen = iter(target for _, target in ROWS), set()

    def goes_on(tokens, segments, decoding, rows):
        seen.add(decoding.stop_texts)
        texts = [f" {next(answers)}\n\n{ROWS[0][0]} x or y\n\n" for _ in range(9)]
        ids = [vocabulary.encode(text) for text in texts]
        return np.array([row + [0] * (99 - len(row)) for row in ids])  # ends mean nothing

    asked = Evaluation(task, shots=shots, batch_size=16, decoding=Decoding(64))
    evaluator = Evaluator(asked, vocabulary, vocabulary.vocab_size, kind="decoder_only")
    [row] = evaluator(goes_on, 0, tmp_path)
    assert row["value"] == 1 and seen == {("\n\n",)}
    samples = (tmp_path / f"{task}.{shots}shot.0.jsonl").read_text(encoding="utf-8").splitlines()
    for line, (inputs, targets) in zip(samples, ROWS, strict=True):
        sample = json.loads(line)
        assert sample["output"] == sample["target"] == targets
        assert sample["input"].count("what is") == 1 + shots and inputs in sample["input"]
        assert sample["input"].startswith("user\n" if vocabulary.chat else "what is")

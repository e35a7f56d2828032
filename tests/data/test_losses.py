"""Targets that a vocabulary cannot write: counted, and what they become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.data.examples import Example
from promot_jax.data.layouts import make_layout
from promot_jax.data.losses import Losses, Writer
from promot_jax.evaluation import Evaluation, Evaluator

LAB = "promot_jax/assets/lab/sentencepiece.model"
ROWS = [("who?", "échoué"), ("who?", "no  way"), ("ünd?", "x²"), ("who?", " Anna "), ("a", "Anna")]


@pytest.fixture(scope="module")
def lossy(text_task):
    return text_task(ROWS, ROWS)


def test_training(lossy):
    report = data.Batches(data.TrainData(lossy, 32, 32), data.sentencepiece(LAB), 768).report
    assert report["unwritable"] == report["tasks"][lossy]["unwritable"] == 4
    said = report["tasks"][lossy]["lost"]
    assert "4 of 5 targets cannot be written" in said and "'x²' becomes" in said
    assert "(it cannot write '²', 'é', all spaces)" in said
    assert "1 of 5 inputs have characters unknown" in said


def test_spaces_that_the_task_does_not_read_are_no_loss(tmp_path):
    (tmp_path / "own.tsv").write_text("who?\t Anna \nwhat?\tlamp\n", encoding="utf-8")
    path = str(tmp_path / "own.tsv")
    name = data.file_task("spaces_around", path, path)
    report = data.Batches(data.TrainData(name, 32, 32), data.sentencepiece(LAB), 768).report
    assert report["unwritable"] == 0


def test_bytes_lose_nothing(lossy):
    report = data.Batches(data.TrainData(lossy, 32, 32), data.byte(), 259).report
    assert (report["unwritable"], report["tasks"][lossy]["lost"]) == (0, "")


def test_a_target_that_is_cut_counts_by_its_whole_text(text_task):
    name = text_task([("who?", "Anna owns a lamp")])
    settings = data.TrainData(name, 32, 2, too_long="trim")
    assert data.Batches(settings, data.sentencepiece(LAB), 768).report["unwritable"] == 0


def test_evaluation(lossy):
    vocabulary = data.sentencepiece(LAB)
    evaluator = Evaluator(Evaluation(lossy, batch_size=5), vocabulary, 768)
    assert "4 of 5 targets" in evaluator.lost[lossy]
    assert "at best accuracy 0.200" in evaluator.lost[lossy]
    ids = data.eval_set(lossy, "validation", 0, vocabulary, 768, None, 32).tokens
    assert max(map(len, ids)) < 32
    [row] = evaluator(lambda batch, *_: batch, 0)
    assert (row["unwritable"], row["ceiling"]) == (4, 0.2)


def test_rows_without_losses_have_no_ceiling(text_task):
    name = text_task([("who?", "Anna")], [("who?", "Anna")])
    evaluator = Evaluator(Evaluation(name, batch_size=1), data.sentencepiece(LAB), 768)
    assert evaluator.lost == {}
    [row] = evaluator(lambda batch, *_: batch, 0)
    assert "ceiling" not in row and "unwritable" not in row


def test_losses_of_parts_add_up(lossy):
    """Also where a target comes again, or nothing is lost."""
    rows = [Example(lossy, *pair, {}) for pair in [*ROWS, ROWS[0], ROWS[4]]]
    inputs, targets = ([LAYOUT.input_ids(getattr(row, key)) for row in rows] for key in KEYS)
    whole = Writer(lossy, VOCABULARY, LAYOUT)(rows, inputs, targets).losses
    writer, parts = Writer(lossy, VOCABULARY, LAYOUT), Losses()
    for i in range(len(rows)):
        parts += writer(rows[i : i + 1], inputs[i : i + 1], targets[i : i + 1]).losses
    assert parts == whole and (whole.rows, whole.unwritable, whole.unknown) == (7, 5, 1)
    assert whole.shortest[0] == "x²"


KEYS = ("inputs", "targets")
VOCABULARY = data.sentencepiece(LAB)
LAYOUT = make_layout("encoder_decoder", VOCABULARY)
letters = st.sampled_from("abé² \n▁<unk>/s…")


@given(text=st.text(letters, max_size=12))
def test_texts_are_read_as_the_vocabulary_reads_them(lossy, text):
    ids = [*VOCABULARY.encode(text), 1]
    found = Writer(lossy, VOCABULARY, LAYOUT)([Example(lossy, "", text, {})], [ids], [ids])
    [written] = found.targets
    assert written.removeprefix(" ") == data.decode(VOCABULARY, ids).removeprefix(" ")

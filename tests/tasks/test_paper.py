"""The paper's tasks on real rows: from a row to tokens, from an output to a score."""

import json
import os
from pathlib import Path

import pytest
import sacrebleu
import sentencepiece
import tensorflow_datasets as tfds
from rouge_score.rouge_scorer import RougeScorer

from promot_jax import data
from promot_jax.data.layouts import cut
from promot_jax.data.tokens import Encoder
from promot_jax.errors import UserError
from promot_jax.evaluation.metrics import Metrics
from tasks import paper
from tasks.sources import SOURCES

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
ROWS, SPM = SHARED / "data", SHARED / "spm" / "t5.spiece.model"
needs_rows = pytest.mark.skipif(
    not ROWS.exists() or not SPM.exists(), reason="rows and T5's vocabulary are not there"
)

NLI = "{premise} question: {hypothesis} Is it true or false or neither? answer:"
OPENBOOKQA = "Q: {question_stem} A) {choice_A} B) {choice_B} C) {choice_C} D) {choice_D} A:"
WIC = (
    "{sentence1} {sentence2} question: The word {word} is used in the same way in the two"
    " sentences. Is it true or False? answer:"
)
# task -> the input's text over a row, the target's text, its group and its chance level
EXPECTED = {
    "rte": (
        "{premise} question: {hypothesis} Is it true or false? answer:",
        lambda row: "False" if row["label"] else "True",
        ("nli/wsd", 1 / 2),
    ),
    "cb": (NLI, lambda row: ["True", "False", "Neither"][row["label"]], ("nli/wsd", 1 / 3)),
    "snli": (NLI, lambda row: ["True", "Neither", "False"][row["label"]], ("nli/wsd", 1 / 3)),
    "wic": (WIC, lambda row: "True" if row["label"] else "False", ("nli/wsd", 1 / 2)),
    "openbookqa": (OPENBOOKQA, lambda row: row["answerKey"], ("qa", 1 / 4)),
    "trivia_qa": ("Q: {question} A:", lambda row: row["answers"][0], ("qa", 0)),
    "web_questions": ("Q: {question} A:", lambda row: row["answers"][0], ("qa", 0)),
    "wmt14_enfr": (
        "Translate English to French: {en}", lambda row: row["fr"], ("translation", 0)
    ),
    "wmt16_ende": (
        "Translate English to German: {en}", lambda row: row["de"], ("translation", 0)
    ),
    "wmt16_enro": (
        "Translate English to Romanian: {en}", lambda row: row["ro"], ("translation", 0)
    ),
    "xsum": (
        "Article: {document} One sentence summary:",
        lambda row: row["summary"],
        ("summarization", 0),
    ),
    "wiki_lingua": (
        "Article: {source} One sentence summary:",
        lambda row: row["target"],
        ("summarization", 0),
    ),
}  # fmt: skip


def first_rows(name, count=4):
    with (ROWS / name / "validation.jsonl").open(encoding="utf-8") as file:
        return [json.loads(next(file)) for _ in range(count)]


@needs_rows
@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_becomes_tokens(name):
    template, target, about = EXPECTED[name]
    row, *_ = first_rows(name)
    vocabulary = data.sentencepiece(str(SPM), extra_ids=100)
    paper.task(name, str(ROWS))
    found = data.eval_set(name, "validation", 0, vocabulary, 32128, None, 4096, limit=1)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(SPM))
    assert found.tokens[0].tolist() == [*pieces.encode(template.format(**row)), 1]
    assert found.examples[0].targets == target(row)
    info = data.task_info(name)
    assert (info.group, info.chance) == about


@needs_rows
@pytest.mark.parametrize("name", EXPECTED)
def test_an_output_becomes_a_score(name):
    """Rows: between sentinels; with a further shot behind; wrong; nothing."""
    rows = first_rows(name)
    answers = [EXPECTED[name][1](row) for row in rows]
    prefix = EXPECTED[name][0].split(" ")[0]
    shot = f" {prefix} more" if prefix[0] != "{" else " premise question: hypothesis"
    outputs = [f"<extra_id_0> {answers[0]} <extra_id_1> no", answers[1] + shot, "Wrong", ""]
    paper.task(name, str(ROWS))
    task = data.get_task(name)
    scores = Metrics(task, data.load_examples(name, "validation", 4))(outputs)
    said = [answers[0], answers[1], "Wrong", ""]
    if about := {"bleu", "rouge2"} & set(scores):
        assert list(scores) == list(about)
        assert scores[about.pop()].value == pytest.approx(expected_of_library(name, answers, said))
    else:
        assert {metric: score.value for metric, score in scores.items()} == dict.fromkeys(
            ("exact_match", "f1") if "answers" in rows[0] else ("accuracy",), 0.5
        )
    assert all(score.low <= score.value <= score.high for score in scores.values())


def expected_of_library(name, answers, said):
    if name.startswith("wmt"):
        return sacrebleu.corpus_bleu(said, [answers]).score
    scorer = RougeScorer(["rouge2"])
    pairs = zip(answers, said, strict=True)
    return sum(scorer.score(a, s)["rouge2"].fmeasure for a, s in pairs) / len(said)


@needs_rows
def test_any_of_the_answers_is_right_and_case_and_articles_do_not_count():
    name = paper.task("trivia_qa", str(ROWS))
    examples = data.load_examples(name, "validation", 4)
    outputs = [f"The {example.features['answers'][-1].upper()}" for example in examples]
    scores = Metrics(data.get_task(name), examples)(outputs)
    assert scores["exact_match"].value == 1


@needs_rows
def test_shots_are_rows_in_the_template_with_their_answers():
    name = paper.task("web_questions", str(ROWS))
    vocabulary = data.sentencepiece(str(SPM), extra_ids=100)
    found = data.eval_set(name, "validation", 4, vocabulary, 32128, None, 4096, limit=1)
    text = vocabulary.decode(found.tokens[0].tolist())
    assert text.count("Q: ") == text.count("A:") == 5
    assert text.endswith(found.examples[0].inputs)


@needs_rows
@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_decoder_reads_and_answers(name):
    """The template as it is, the answer behind its space; it ends at the separator."""
    paper.task(name, str(ROWS))
    vocabulary, kind = data.byte(), "decoder_only"
    found = data.eval_set(name, "validation", 1, vocabulary, 259, None, 99999, limit=2, kind=kind)
    encoder = Encoder(name, vocabulary, 259, kind=kind)
    for example, tokens in zip(found.examples, found.tokens, strict=True):
        shot, _, question = vocabulary.decode(tokens.tolist()).rpartition("\n\n")
        assert question == example.inputs and question[-1] != " " and shot
        text = vocabulary.decode(encoder.targets([example])[0])
        assert text == f" {example.targets}"
        further = f"{text}\n\n{example.inputs} no"
        answer = found.layout.answer(cut(further, found.stop_texts))
        assert found.stop_texts == ("\n\n",) and answer == example.targets


@pytest.mark.parametrize("word", ["True", "True.", "  True, since", "<extra_id_0> True it is"])
def test_a_classification_is_its_first_word(word):
    assert paper._postprocess(word, paper.TASKS["rte"], {}, is_target=False) == "True"


@pytest.mark.parametrize("word", ["", "true", "It is True", "<extra_id_0><extra_id_1> True"])
def test_another_first_word_is_not_the_label(word):
    assert paper._postprocess(word, paper.TASKS["rte"], {}, is_target=False) != "True"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_data_set_that_tfds_has(name):
    """Its newest version, with the columns that the task reads; TFDS fills them with noise."""
    dataset, _, version = SOURCES[name].tfds.partition(":")
    builder, _, config = dataset.partition("/")
    maker = tfds.builder_cls(builder)
    configs = {c.name: c.version for c in maker.BUILDER_CONFIGS if c.version}
    assert version == str(configs.get(config, maker.VERSION))
    with tfds.testing.mock_data(num_examples=3):
        paper.task(name, None)
        examples = data.load_examples(name, "train", 3)
    assert {example.task for example in examples} == {name}
    assert all(example.inputs and example.targets for example in examples)


def test_what_is_asked_for_must_exist(tmp_path):
    with pytest.raises(UserError, match="no task 'rt'.*did you mean 'rte'"):
        paper.task("rt")
    with pytest.raises(UserError, match="has none of train.jsonl, validation.jsonl, test.jsonl"):
        paper.task("rte", str(tmp_path))
    (tmp_path / "web_questions").mkdir()
    rows = ['{"question": "q", "answers": ["a"]}', '{"question": "q", "answers": []}']
    (tmp_path / "web_questions" / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: 'answers' is \[\], not a list of texts"):
        paper.task("web_questions", str(tmp_path))


def test_rows_without_a_gold_label_are_left_out(tmp_path):
    (tmp_path / "snli").mkdir()
    row = {"premise": "p", "hypothesis": "h"}
    lines = [json.dumps(row | {"label": label}) for label in (2, -1, 0)]
    (tmp_path / "snli" / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    paper.task("snli", str(tmp_path))
    targets = [example.targets for example in data.load_examples("snli", "train")]
    assert targets == ["False", "True"]


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("rte", {"premise": "a", "hypothesis": "b", "label": "entailment"}, "'label' is \"entail"),
        ("rte", {"premise": "a", "hypothesis": "b", "label": 2}, "'label' is 2, none of"),
        ("rte", {"premise": None, "hypothesis": "b", "label": 1}, "'premise' is null, not text"),
        ("cb", {"premise": "a", "hypothesis": "b"}, "'label' is null"),
        (
            "openbookqa",
            {"question_stem": "a", **{f"choice_{x}": x for x in "ABCD"}, "answerKey": "E"},
            "'answerKey' is \"E\"",
        ),
    ],
)
def test_a_row_without_a_label_of_the_task(tmp_path, name, row, says):
    (tmp_path / name).mkdir()
    (tmp_path / name / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line 1: {says}"):
        paper.task(name, str(tmp_path))


def test_labels_and_texts_of_other_json_types(tmp_path):
    """SuperGLUE's own WiC has true and false."""
    row = {"sentence1": 7, "sentence2": "b", "word": "c", "label": True}
    (tmp_path / "wic").mkdir()
    (tmp_path / "wic" / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (example,) = data.load_examples(paper.task("wic", str(tmp_path)), "train")
    assert example.inputs.startswith("7 b question") and example.targets == "True"

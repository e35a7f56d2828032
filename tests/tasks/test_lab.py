"""The lab: the same world every time, splits that share nothing, formats that stay apart."""

import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import seqio
from hypothesis import given
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.cli.gin_files import settings_of
from promot_jax.paths import resolve
from tasks import lab, lab_words, lab_world

DIGEST = "ba124a0900c5f5807c9f360602d22643d6f8605498575f79aa1e41d14be5c433"
SKILLS = sorted(lab_world.SKILLS)
CUE_TOPIC = {cue: topic for topic, cues in lab_words.CUES.items() for cue in cues}


@pytest.fixture(scope="module")
def vocabulary():
    return data.sentencepiece(lab.VOCABULARY)


def all_rows(skills, split):
    return [row for skill in skills for row in lab_world.rows(skill, split)]


def content(skills, split):
    return {fact for row in all_rows(skills, split) for fact in row.content}


@pytest.mark.parametrize(("one", "other"), itertools.combinations(lab_world.SPLITS, 2))
def test_no_input_lies_in_two_splits_of_any_skills(one, other):
    inputs = [{row.inputs for row in all_rows(SKILLS, split)} for split in (one, other)]
    assert not inputs[0] & inputs[1]


@pytest.mark.parametrize(("one", "other"), itertools.combinations(lab_world.SPLITS, 2))
def test_what_a_split_tells_no_other_split_tells(one, other):
    assert not content(SKILLS, one) & content(SKILLS, other)
    assert not content(["nli"], one) & content(lab_world.PRETRAINING, other)


def test_every_relation_of_every_subject_has_a_true_and_a_false_value_in_every_split():
    for split in lab_world.SPLITS:
        assert min(map(len, lab_world.values_of(split).values())) >= 2


@pytest.mark.parametrize("skill", SKILLS)
def test_sizes_and_no_input_twice(skill):
    sizes = {split: len(lab_world.rows(skill, split)) for split in lab_world.SPLITS}
    assert (sizes["validation"], sizes["test"]) == (200, 300)
    assert sizes["train"] >= (1000 if skill == "qa" else 4000)
    assert len({row.inputs for row in lab_world.rows(skill, "train")}) == sizes["train"]


def test_training_asks_every_known_fact_that_evaluation_asks():
    asked = Counter(row.targets for row in lab_world.rows("qa", "train"))
    assert {row.targets for row in lab_world.rows("qa", "test")} <= set(asked)
    for i, fact in enumerate(lab_world.known_facts()):
        wordings = sum(lab_world.split_of(i, j) == "train" for j in range(28))
        assert wordings >= 22, fact


@pytest.mark.parametrize("skill", sorted(lab.LABELS))
@pytest.mark.parametrize("split", lab_world.SPLITS)
def test_classes_are_balanced(skill, split):
    counts = Counter(row.targets for row in lab_world.rows(skill, split))
    assert set(counts) == set(lab.LABELS[skill])
    assert max(counts.values()) <= 0.6 * counts.total()


@pytest.mark.parametrize("split", lab_world.SPLITS)
def test_claims_are_labelled_by_their_text(split):
    """Only the claim's fact or its absence decides, and no text contradicts itself."""
    for row in lab_world.rows("nli", split):
        *stated, claimed = row.content
        assert row.targets == str(claimed in stated)
        assert len({fact[:2] for fact in stated}) == len(stated)
        assert claimed[:2] in {fact[:2] for fact in stated}


def test_reading_and_senses_are_answered_rightly():
    for row in lab_world.rows("reading", "test"):
        asked = [f for f in row.content if f.subject in row.inputs.split("Q:")[1]]
        assert row.targets in {fact.value for fact in asked}
    for row in lab_world.rows("senses", "test"):
        first, second = row.content
        same = CUE_TOPIC[first.value] == CUE_TOPIC[second.value]
        assert row.targets == ("Same" if same else "Different")


def test_a_summary_tells_what_the_article_tells_twice_about_somebody():
    for row in lab_world.rows("summary", "test"):
        person = row.targets.split()[0]
        values = [fact.value for fact in row.content if fact.subject == person]
        assert len(values) == 2
        assert set(values) <= set(row.targets.strip(".").split())


def test_target_formats_never_stand_in_pretraining():
    texts = [f"{row.inputs} {row.targets}" for row in all_rows(lab_world.PRETRAINING, "train")]
    assert not any("Is it true or false?" in text for text in texts)
    seen = {word.strip(".,:?") for text in texts for word in text.split()}
    assert not seen & {"True", "False", "Quellan"}
    assert not seen & set(lab_words.QUELLAN.lexicon.values())


def test_nli_follows_the_papers_template():
    row = lab_world.rows("nli", "train")[0]
    assert row.inputs.count(" question: ") == 1
    assert row.inputs.endswith(" Is it true or false? answer:")


def test_languages_share_no_word_and_translate_one_to_one():
    lexicons = [set(language.lexicon.values()) for language in lab_words.LANGUAGES]
    english = sum(map(len, lab_words.TRANSLATED.values()))
    assert all(len(lexicon) == english for lexicon in lexicons)
    assert len(set().union(*lexicons)) == english * len(lexicons)
    assert len({language.order for language in lab_words.LANGUAGES}) == len(lab_words.LANGUAGES)


@given(st.lists(st.sampled_from(sorted(lab_words.QUELLAN.lexicon.values())), min_size=1), st.data())
def test_a_language_is_known_by_four_fifths_of_its_words(spoken, draw):
    others = draw.draw(st.lists(st.sampled_from(lab_words.JOBS), max_size=len(spoken)))
    expected = 5 * len(spoken) >= 4 * (len(spoken) + len(others))
    assert lab_words.QUELLAN.is_spoken_in(" ".join(spoken + others)) == expected
    assert not lab_words.QUELLAN.is_spoken_in("")


def test_the_world_is_the_one_the_base_model_was_taught():
    """Changing a word, a template or a draw changes this digest: then make the base model anew."""
    script = (
        "import hashlib, sys; from tasks import lab_world as w; h = hashlib.sha256();"
        "[h.update(repr(r[:2]).encode()) for k in sorted(w.SKILLS) for s in w.SPLITS"
        " for r in w.rows(k, s)];"
        "assert 'tensorflow' not in sys.modules; print(h.hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = hashlib.sha256()
    for skill, split in itertools.product(SKILLS, lab_world.SPLITS):
        for row in lab_world.rows(skill, split):
            here.update(repr(row[:2]).encode())
    assert there == here.hexdigest() == DIGEST


def test_vocabulary_is_t5s_and_reads_every_word_as_one_piece(vocabulary):
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
    assert 600 <= vocabulary.vocab_size <= 768
    assert all(len(vocabulary.encode(word)) == 1 for word in lab_world.lab_words())


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_vocabulary_knows_all_ascii_text(vocabulary, text):
    ids = vocabulary.encode(text)
    assert vocabulary.unk_id not in ids
    assert vocabulary.decode(ids).split() == text.split()


def test_vocabulary_can_be_made_again_bit_by_bit(tmp_path):
    lab_world.write_vocabulary(tmp_path / "made.model")
    with open(resolve(lab.VOCABULARY), "rb") as shipped:
        assert (tmp_path / "made.model").read_bytes() == shipped.read()


def test_texts_are_short_and_survive_the_vocabulary(vocabulary):
    for skill, split in itertools.product(SKILLS, ("validation", "test")):
        for row in lab_world.rows(skill, split):
            inputs, targets = map(vocabulary.encode, row[:2])
            assert len(inputs) + 1 <= 26
            assert len(targets) + 1 <= 10
            assert vocabulary.decode(inputs) == row.inputs
            assert vocabulary.decode(targets) == row.targets


@pytest.mark.parametrize("skill", SKILLS)
def test_tasks_are_registered_with_group_format_and_metric(skill):
    task, info = data.get_task(f"lab_{skill}"), data.task_info(f"lab_{skill}")
    examples = data.load_examples(f"lab_{skill}", "validation")
    expected = lab_world.rows(skill, "validation")
    assert [(e.inputs, e.targets) for e in examples] == [row[:2] for row in expected]
    assert (info.group, info.separator) == (lab_world.SKILLS[skill].group, lab_world.SEPARATOR)
    targets = [example.targets for example in examples]
    if info.answer_format is not None:
        assert all(data.in_format(info, target) for target in targets)
    first = list(task.metric_fns[0](targets, targets).values())[0]
    assert first == 1.0
    assert list(task.metric_fns[0](targets, ["x", *targets[1:]]).values())[0] == pytest.approx(
        1 - 1 / len(targets)
    )


def test_no_other_tasks_answers_lie_in_a_targets_format():
    for name in lab.TARGETS:
        info = data.task_info(name)
        for skill in lab_world.PRETRAINING:
            answers = [row.targets for row in lab_world.rows(skill, "test")]
            assert not any(data.in_format(info, answer) for answer in answers)


def test_the_mixture_holds_what_is_held_out():
    mixture = seqio.MixtureRegistry.get("lab_pretrain")
    assert sorted(task.name for task in mixture.tasks) == sorted(lab.HELD_OUT)
    assert all(mixture.get_rate(task) > 0 for task in mixture.tasks)
    assert not set(lab.HELD_OUT) & set(lab.TARGETS)
    with_words = seqio.MixtureRegistry.get("lab_pretrain_words")
    assert {task.name for task in with_words.tasks} == {*lab.HELD_OUT, "lab_repeat"}


def test_words_are_repeated_and_never_a_label_alone():
    for row in lab_world.rows("repeat", "train"):
        assert row.inputs == f"say: {row.targets}"
        assert 2 <= len(row.targets.split()) <= 4
    said = {word for row in lab_world.rows("repeat", "train") for word in row.targets.split()}
    assert set(lab_words.LABELS) <= said


def test_two_shots_fit_the_length_the_task_files_say(vocabulary):
    for name in lab.HELD_OUT:
        evals = data.eval_set(name, "validation", 2, vocabulary, vocabulary.vocab_size, None, 84)
        assert evals.too_long == 0
        assert all(vocabulary.unk_id not in tokens for tokens in evals.tokens)


@pytest.mark.parametrize("file", ["lab_nli", "lab_translate"])
def test_gin_files_name_the_tasks_and_leave_no_example_out(file, vocabulary):
    settings = settings_of(f"gin/tasks/{file}.gin")
    assert settings["HELD_OUT"] == list(lab.HELD_OUT)
    assert settings["TASK"] in lab.TARGETS
    length = settings["INPUT_LENGTH"]
    prompt_ids = vocabulary.vocab_size + np.arange(20)
    for split in lab_world.SPLITS:
        evals = data.eval_set(
            settings["TASK"], split, 0, vocabulary, vocabulary.vocab_size, prompt_ids, length
        )
        assert evals.too_long == 0

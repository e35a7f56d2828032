"""Related skills and variants of targets: true to their facts, apart by split, in known words."""

import itertools

import pytest

from promot_jax import data
from tasks import lab, lab_more, lab_world
from tasks.lab_world import SCORED, SPLITS, TURN

RELATED = sorted(lab_more.RELATED)


@pytest.fixture(scope="module")
def vocabulary():
    return data.sentencepiece(lab.VOCABULARY)


def rows(skill, split="test"):
    return lab_more.more_rows(skill, split)


@pytest.mark.parametrize("skill", sorted(lab_more.SKILLS))
def test_rows_are_short_different_and_in_words_that_are_one_piece(skill, vocabulary):
    """30 tokens leave room for a prompt of 16 among the 48 of gin/runs/lab.gin."""
    words = set(lab_world.lab_words())
    for split in ("validation", "test"):
        found = rows(skill, split)
        assert len(found) == {"validation": 200, "test": 300}[split]
        assert len({row.inputs for row in found}) == len(found)
        assert max(len(vocabulary.encode(row.inputs)) for row in found) <= 33
        said = {word.strip(".,:?") for row in found for word in f"{row[0]} {row[1]}".split()}
        assert said <= words


@pytest.mark.parametrize("skill", RELATED)
def test_what_a_related_skill_tells_is_said_in_its_split_alone(skill):
    told = {split: {fact for row in rows(skill, split) for fact in row.content} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not told[one] & told[other]
    for skill_ in lab_world.PRETRAINING:
        taught = {fact for row in lab_world.rows(skill_, "train") for fact in row.content}
        assert not told["test"] & taught


@pytest.mark.parametrize("skill", [name for name in RELATED if name.startswith("verify")])
def test_claims_are_answered_by_their_text_and_both_answers_are_usual(skill):
    stated_by_text = {"verify_more": 3, "verify_two": 2, "verify_asked": 2}[skill]
    for row in rows(skill):
        stated, claimed = row.content[:stated_by_text], row.content[stated_by_text:]
        assert row.targets == ("Yes" if set(claimed) <= set(stated) else "No")
        assert all(fact.value in row.inputs for fact in row.content)
    answers = [row.targets for row in rows(skill)]
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_an_aside_changes_no_translation():
    for row in rows("translate_aside"):
        before, sentence = row.inputs.split("Translate English to ")
        assert bool(before) != (sentence.count(".") == 2)
        name = sentence.split(":")[0]
        language = next(x for x in lab.LANGUAGES if x.name == name)
        assert language.is_spoken_in(row.targets)


@pytest.mark.parametrize("target", lab_world.TARGETS)
def test_variants_change_a_targets_answers_or_what_stands_before_its_inputs(target):
    theirs = lab_world.rows(target, "test")
    found = {variant: rows(f"{target}_{variant}") for variant in lab_more.VARIANTS}
    alike = {
        variant: sum(a.targets == b.targets for a, b in zip(ours, theirs, strict=True)) / 300
        for variant, ours in found.items()
    }
    assert alike["tagged"] == alike["marked"] == 1
    assert alike["swapped"] == 0
    assert alike["shuffled"] == pytest.approx(0.5 if target == "nli" else 0, abs=0.1)
    marks = {
        variant: {a.inputs.removesuffix(b.inputs) for a, b in zip(ours, theirs, strict=True)}
        for variant, ours in found.items()
    }
    assert marks["shuffled"] == marks["swapped"] == {""}
    assert marks["tagged"] == {f"{lab_more.TAG} "}
    assert len(marks["marked"]) > 250
    words = {
        name: sorted(" ".join(row.targets for row in every).split())
        for name, every in (found | {"": theirs}).items()
    }
    if target != "nli":
        assert words["swapped"] == words[""]
    assert set(words["shuffled"]) <= set(words[""])


@pytest.mark.parametrize("name", ["lab_qa", "lab_nli_tagged", "lab_verify_two"])
def test_scored_rows_are_validations_and_tests_by_turns(name):
    inputs = {
        split: [example.inputs for example in data.load_examples(name, split)]
        for split in ("validation", "test", SCORED)
    }
    assert inputs[SCORED][::TURN] == inputs["validation"][:150]
    rest = [text for i, text in enumerate(inputs[SCORED]) if i % TURN]
    assert rest == inputs["test"]


def test_tasks_are_registered_with_the_formats_of_what_they_are_answered_as():
    assert data.task_info("lab_nli_shuffled").answer_format == ("True", "False")
    assert data.task_info("lab_verify_asked").answer_format == ("Yes", "No")
    assert {data.task_info(name).group for name in lab.RELATED} == {"related"}

"""The facts: each said once, answered in one way, and never in the words of a label."""

import hashlib

import pytest

from promot_jax import data
from promot_jax.evaluation.metrics import Metrics
from tasks import facts

SKILLS = sorted(facts.SKILLS)
DIGEST = "9a8953079ce76342"


def test_the_facts_are_the_same_everywhere():
    """Changing a fact, a template or the order changes this digest, and published scores."""
    found = hashlib.sha256()
    for skill in SKILLS:
        for split in facts.SPLITS:
            found.update(repr((facts.SKILLS[skill].question, facts.rows(skill, split))).encode())
    assert found.hexdigest()[:16] == DIGEST


@pytest.mark.parametrize("skill", SKILLS)
def test_enough_rows_and_none_twice(skill):
    asked = [[fact.asked for fact in facts.rows(skill, split)] for split in facts.SPLITS]
    assert len(asked[0]) == facts.TRAIN_ROWS
    assert len(asked[1]) >= 60
    assert len({*asked[0], *asked[1]}) == len(asked[0]) + len(asked[1])


@pytest.mark.parametrize("skill", SKILLS)
def test_answers_are_short_clean_and_no_labels(skill):
    for split in facts.SPLITS:
        for fact in facts.rows(skill, split):
            assert fact.asked.strip() == fact.asked and "{" not in fact.asked
            for answer in fact.answers:
                assert facts.normal(answer)
                assert answer.strip() == answer
                assert len(facts.normal(answer).split()) == len(answer.split())
                assert facts.normal(answer) not in ("true", "false")
            assert len(set(fact.answers)) == len(fact.answers)


@pytest.mark.parametrize("skill", SKILLS)
def test_tasks_score_their_own_answers_and_no_others(skill):
    name = f"facts_{skill}"
    examples = data.load_examples(name, "validation")
    metrics = Metrics(data.get_task(name), examples)
    more = data.task_info(name).separator + examples[0].inputs
    said = [f" {example.targets}{more}" for example in examples]
    assert metrics.values(said) == {"exact_match": 1.0}
    assert metrics.values(["True"] * len(examples)) == {"exact_match": 0.0}
    assert metrics.values([f"{example.targets} hello" for example in examples]) == {
        "exact_match": 0.0
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Rome.\nThe capital of", "rome"),
        ("Washington, D.C.", "washington"),
        (" N'Djamena", "ndjamena"),
        ("  1,000\n\nQ:", "1000"),
        ('"Mice".', "mice"),
        ("the Pacific Ocean, of course", "the pacific ocean"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_what_counts_of_an_answer(text, expected):
    assert facts.normal(text) == expected


def test_every_right_answer_counts_with_shots_of_the_usual_one():
    examples = {e.inputs: e for e in data.load_examples("facts_antonyms", "validation")}
    examples |= {e.inputs: e for e in data.load_examples("facts_antonyms", "train")}
    example = examples["The opposite of big is"]
    metrics = Metrics(data.get_task("facts_antonyms"), [example])
    assert [metrics.values([said])["exact_match"] for said in ("small", " Little.", "large")] == [
        1.0,
        1.0,
        0.0,
    ]
    assert example.targets == "small"

"""The NLI rows: the same everywhere, splits apart, and no claim that gives its answer away."""

import hashlib
import itertools
from collections import Counter

import pytest

from promot_jax import data
from tasks import real_nli, real_nli_words
from tasks.real_nli import rows

DIGEST = "eb2efc338b97952f"


def test_the_rows_are_the_same_everywhere():
    """Changing a word, a wording or a draw changes this digest, and published scores."""
    found = hashlib.sha256()
    for split in real_nli.SPLITS:
        found.update(repr(rows(split)).encode())
    assert found.hexdigest()[:16] == DIGEST


@pytest.mark.parametrize(("split", "count"), [("train", 6600), ("validation", 440)])
def test_each_way_has_as_many_true_as_false_rows_in_every_block(split, count):
    assert len(rows(split)) == len({row.inputs for row in rows(split)}) == count
    expected = set(itertools.product(real_nli.WAYS, (True, False)))
    for start in range(0, count, 22):
        assert {(row.way, row.true) for row in rows(split)[start : start + 22]} == expected


def test_splits_share_no_input_and_validation_has_words_and_wordings_of_its_own():
    train, validation = (
        {row.inputs for row in rows("train")},
        {row.inputs for row in rows("validation")},
    )
    assert not train & validation
    lists = (real_nli_words.NAMES, real_nli_words.JOBS, real_nli_words.THINGS)
    own = {word for words in lists for word in words[4::5]}
    said = {word.strip(".,") for text in train for word in text.split()}
    assert not own & said
    assert own <= {word.strip(".,") for text in validation for word in text.split()}
    assert any("Everybody can see" in text for text in validation)
    assert not any("Everybody can see" in text for text in train)


def test_the_claim_alone_says_nothing():
    """A count of words and pairs of words in the claims of training is near chance."""
    counts = {True: Counter(), False: Counter()}
    for row in rows("train"):
        counts[row.true].update(_features(row.claim))
    hits = [_likelier(counts, row.claim) == row.true for row in rows("validation")]
    assert sum(hits) / len(hits) < 0.57


def _features(claim):
    words = claim.lower().split()
    return {*words, *itertools.pairwise(words)}


def _likelier(counts, claim):
    odds = 1.0
    for feature in _features(claim):
        odds *= (counts[True][feature] + 1) / (counts[False][feature] + 1)
    return odds > 1


@pytest.mark.parametrize("split", sorted(real_nli.SPLITS))
def test_answers_follow_from_the_texts(split):
    """Checked anew from the words, for the ways where words alone decide."""
    numbers = {word: i for i, word in enumerate(real_nli_words.NUMBERS)}
    for row in rows(split):
        text, claim = (t.rstrip(".").replace(",", "").split() for t in (row.text, row.claim))
        if row.way == "quantity":
            said, asked = (next(numbers[w] for w in t if w in numbers) for t in (text, claim))
            order = "more" if said > asked else "fewer" if said < asked else "number"
            assert row.true == (order in claim)
        if row.way == "time":
            days = [w for w in text if w in real_nli_words.DAYS]
            events = [w for w in text if w in real_nli_words.EVENTS]
            on = dict(zip(events, days, strict=True))
            event = next(w for w in claim if w in real_nli_words.EVENTS)
            assert row.true == (on[event] == claim[-1])
        if row.way == "colours":
            colours = [w for w in text if w in real_nli_words.COLOURS]
            things = [w for w in text if w in real_nli_words.THINGS]
            assert row.true == (dict(zip(things, colours, strict=True))[claim[1]] == claim[-1])
        if row.way in ("negation", "implied"):
            assert row.true == (not {"not", "failed", "forgot", "refused"} & {*text})


def test_the_task_is_rtes_template_answered_with_its_labels():
    info = data.task_info("real_nli")
    examples = data.load_examples("real_nli", "validation")
    assert [example.targets for example in examples[:50]] == [
        str(row.true) for row in rows("validation")[:50]
    ]
    assert examples[0].inputs.endswith(" Is it true or false? answer:")
    assert (info.answer_format, info.chance) == (("True", "False"), 0.5)
    task = data.get_task("real_nli")
    clean = [task.postprocess_fn(t, example={}, is_target=False) for t in (" True\n\nA", "False.")]
    assert clean == ["True", "False"]

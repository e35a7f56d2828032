"""Skills that a small pretrained model of English has: what tuning it on something else may cost.

    facts_capitals, facts_continents, facts_nationalities, facts_questions    of the world
    facts_antonyms, facts_past_tense, facts_plurals, facts_french             of words
    facts_numbers, facts_sums, facts_copy                                     of symbols

All rows are written down in `tasks.facts_data` and `tasks.facts_questions`, or follow from them.
What is asked is what a base model, which completes text, answers best: an unfinished sentence, or
"Q: ...", "A:". Shots and outputs end with the line, so what counts of an output is its first line,
up to the end of a sentence, in lower case and without punctuation: it has to be a right answer.

The split `validation` has 60 rows or more; `train`, 12 rows, is there for the shots.
"""

import functools
import hashlib
import itertools
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, add_task
from tasks import facts_data, facts_questions

SPLITS = ("train", "validation")
TRAIN_ROWS = 12
COPIED = 120  # rows of the copying skill, of 4 words each
LARGEST = 12  # number in a sum
ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


class Fact(NamedTuple):
    """What fills a skill's question, and the right answers, the usual one first."""

    asked: str
    answers: tuple[str, ...]


class Skill(NamedTuple):
    """How facts are asked.

    Attributes:
      group: what its scores are averaged with.
      question: over `{}`.
      separator: between shots; it ends the last one's sentence and line.
      facts: () -> all of them.
    """

    group: str
    question: str
    separator: str
    facts: Callable[[], Sequence[Fact]]


def listed(text: str) -> list[Fact]:
    """The facts of "question: answer/answer; question: answer"."""
    pairs = (" ".join(entry.split()).split(": ", 1) for entry in text.split(";"))
    return [Fact(asked, tuple(answers.split("/"))) for asked, answers in pairs]


def questions(text: str) -> list[Fact]:
    """The facts of lines "question? answer/answer"."""
    pairs = (line.split("? ", 1) for line in text.strip().splitlines())
    return [Fact(f"{asked}?", tuple(answers.split("/"))) for asked, answers in pairs]


def numbers() -> list[Fact]:
    """Numbers in words, twenty-one to ninety-nine."""
    return [
        Fact(f"{ten}-{one}", (str(10 * i + j),))
        for (i, ten), (j, one) in itertools.product(enumerate(TENS, 2), enumerate(ONES, 1))
    ]


def sums() -> list[Fact]:
    """Two numbers up to 12."""
    terms = range(1, LARGEST + 1)
    return [Fact(f"{a} + {b}", (str(a + b),)) for a, b in itertools.product(terms, terms)]


def copies() -> list[Fact]:
    """Four different words in any order; only `random()` draws, as it never changes."""
    words, draw, found = facts_data.WORDS.split(), random.Random("copies"), {}
    while len(found) < COPIED:
        text = " ".join(sorted(words, key=lambda _: draw.random())[:4])
        found[text] = Fact(text, (text,))
    return list(found.values())


def _of(text: str, read: Callable[[str], list[Fact]] = listed) -> Callable[[], list[Fact]]:
    return functools.partial(read, text)


QA, SENTENCE, LINE = "\n\n", ".\n", "\n"
SKILLS = {
    "capitals": Skill("facts", "The capital of {} is", SENTENCE, _of(facts_data.CAPITALS)),
    "continents": Skill(
        "facts", "Q: On which continent is {}?\nA:", QA, _of(facts_data.CONTINENTS)
    ),
    "nationalities": Skill(
        "facts", "Q: What is the adjective for {}?\nA:", QA, _of(facts_data.NATIONALITIES)
    ),
    "questions": Skill("facts", "Q: {}\nA:", QA, _of(facts_questions.QUESTIONS, questions)),
    "antonyms": Skill("words", "The opposite of {} is", SENTENCE, _of(facts_data.ANTONYMS)),
    "past_tense": Skill(
        "words", 'Q: What is the past tense of "{}"?\nA:', QA, _of(facts_data.PAST_TENSES)
    ),
    "plurals": Skill("words", 'Q: What is the plural of "{}"?\nA:', QA, _of(facts_data.PLURALS)),
    "french": Skill("words", "The French word for {} is", SENTENCE, _of(facts_data.FRENCH)),
    "numbers": Skill("symbols", "Q: Write {} in digits.\nA:", QA, numbers),
    "sums": Skill("symbols", "{} =", LINE, sums),
    "copy": Skill("symbols", "Q: Repeat the words: {}\nA:", QA, copies),
}


@functools.cache
def rows(skill: str, split: str) -> tuple[Fact, ...]:
    """A split's facts, in an order that says nothing about them."""
    key = lambda fact: hashlib.blake2b(f"{skill} {fact.asked}".encode()).digest()  # noqa: E731
    found = sorted(SKILLS[skill].facts(), key=key)
    return tuple(found[:TRAIN_ROWS] if split == "train" else found[TRAIN_ROWS:])


def normal(text: str) -> str:
    """What counts of an answer: its first line up to a sentence's end, as lower-case words."""
    line = re.split(r"\n|[.,;:!?](?=\s|$)", text.strip(), maxsplit=1)[0]
    return " ".join(re.sub(r"[^\w\s]", "", line.lower()).split())


def exact_match(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """The share of predictions that are one of their target's right answers, 0 to 1."""
    hits = [said in answers for answers, said in zip(targets, predictions, strict=True)]
    return {"exact_match": sum(hits) / len(hits)}


def _postprocess(text: str, example: dict[str, Any], is_target: bool) -> tuple[str, ...] | str:
    return tuple(map(normal, example["answers"].split("/"))) if is_target else normal(text)


def _dataset(skill: str, split: str, shuffle_files: bool, seed: int | None = None):
    del shuffle_files, seed
    facts = rows(skill, split)
    return tf.data.Dataset.from_tensor_slices(
        {
            "inputs": [SKILLS[skill].question.format(fact.asked) for fact in facts],
            "targets": [fact.answers[0] for fact in facts],
            "answers": ["/".join(fact.answers) for fact in facts],
        }
    )


for _name, _skill in SKILLS.items():
    add_task(
        f"facts_{_name}",
        source=seqio.FunctionDataSource(functools.partial(_dataset, _name), splits=SPLITS),
        preprocessors=[],
        metric_fns=[exact_match],
        postprocess_fn=_postprocess,
        info=TaskInfo(group=_skill.group, separator=_skill.separator),
    )

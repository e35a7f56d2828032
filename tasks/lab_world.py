"""The lab: a little world with facts, small enough that a laptop can train a model on all of it.

Its sentences are English-like ("Nora lives in Velm. Hugo owns a lamp."), its facts are triples of a
subject, a relation and a value, and a skill turns facts into pairs of texts (inputs, targets).
Pre-training shows the skills of `PRETRAINING` and has words repeated (`REPEAT`); `TARGETS` are
learned afterwards, in formats that pre-training never shows: `nli` with the answers True and False,
and translation into Quellan.

Splits are disjoint by construction. Which split a fact belongs to is decided before any text is
made, by the fact's place in a table (`split_of`), and a text of a split holds facts of that split
only, for every skill: what validation and test say is said nowhere in training. In the same way a
translated sentence belongs to a split by its (who, what), an ambiguous one by its (who, cue).
Closed-book questions ask for facts that training must have taught: there the wording is new.

The world is a pure function of WORLD_SEED. Only `random.Random.random()` draws, because Python
promises its numbers for all versions: the shipped base model knows this world and no other.

The vocabulary that all this is written in was made, and can be made again bit by bit, by

    python -m tasks.lab_world --write_vocabulary promot_jax/assets/lab/sentencepiece.model
"""

import argparse
import dataclasses
import functools
import itertools
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tasks import lab_words as words

T = TypeVar("T")

WORLD_SEED = 20221101
SPLITS = ("train", "validation", "test")
# Rows of validation and test by turns, for those who choose by the one and report the other: row i
# is of validation where i is a multiple of `TURN`.
SCORED, TURN = "scored", 3
# Shots are separated by a piece of the lab's vocabulary, which has no line breaks.
SEPARATOR = " | "


class Fact(NamedTuple):
    """What the world or a text says: `relation` of `subject` is `value`."""

    subject: str
    relation: str
    value: str


class Row(NamedTuple):
    """One example: two texts, and what it tells, which no other split tells."""

    inputs: str
    targets: str
    content: tuple[Fact, ...]


@dataclasses.dataclass(frozen=True)
class Relation:
    """How one kind of fact is stated and asked. `{s}` is the subject, `{v}` the value.

    The first statement is "{s} " and a phrase that "and" can join to another one.
    """

    subjects: Sequence[str]
    values: Sequence[str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


RELATIONS = {
    "home": Relation(
        words.PEOPLE,
        words.TOWNS,
        ("{s} lives in {v}.", "{s} dwells in {v}."),
        (
            "where does {s} live?",
            "where does {s} dwell?",
            "in which town does {s} live?",
            "which town is home to {s}?",
        ),
    ),
    "job": Relation(
        words.PEOPLE,
        words.JOBS,
        ("{s} is a {v}.", "{s} became a {v}."),
        (
            "what job has {s}?",
            "what is the job of {s}?",
            "what does {s} work as?",
            "which job does {s} have?",
        ),
    ),
    "food": Relation(
        words.PEOPLE,
        words.FOODS,
        ("{s} likes {v}.", "{s} enjoys {v}."),
        (
            "what does {s} like?",
            "what does {s} enjoy?",
            "which food does {s} like?",
            "which food does {s} enjoy?",
        ),
    ),
    "thing": Relation(
        words.PEOPLE,
        words.THINGS,
        ("{s} owns a {v}.", "{s} has a {v}."),
        (
            "what does {s} own?",
            "what thing has {s}?",
            "which thing does {s} own?",
            "which thing does {s} have?",
        ),
    ),
    "colour": Relation(
        words.FURNISHINGS,
        words.COLOURS,
        ("The {s} is {v}.", "The {s} looks {v}."),
        ("what colour is the {s}?", "which colour has the {s}?"),
    ),
}
PERSONAL = ("home", "job", "food", "thing")
LAND_QUESTIONS = (
    "where is {s}?",
    "in which land is {s}?",
    "which land is {s} in?",
    "to which land does {s} belong?",
)
REPEATED = (
    words.LABELS,
    words.PEOPLE + words.KNOWN_PEOPLE,
    *(relation.values for relation in RELATIONS.values()),
    *(tuple(language.lexicon.values()) for language in words.LANGUAGES),
)
# A known fact has 7 x 4 questions; at least 22 are training's.
OPENERS = ("", "tell me, ", "please, ", "now, ", "well, ", "so, ", "say, ")


# Words before the claim, after it, and before the answer: so many that NLI's wording is one more to
# the model. They hold the words of its template, but neither its question nor its answers.
CLAIM_WORDINGS = (
    (
        *("claim", "statement", "idea", "guess", "thought", "question"),
        *("belief", "rumour", "report", "sentence", "remark"),
    ),
    (
        *("Is that so or not?", "Is it so?", "Does it say so?", "Is this right or wrong?"),
        *("Did it say that?", "Can we say so?", "Is that right?", "So or not?"),
        *("Is it true?", "Is that true or not?", "true or not?", "Is this false or so?"),
    ),
    ("reply", "verdict", "response", "ruling", "result", "decision", "answer"),
)


class Draw(random.Random):
    """Draws that are the same on every Python version (see the module docstring)."""

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.random() * len(choices))]


def split_of(row: int, column: int) -> str:
    """The split of a cell of a table: of 10 columns in a row 8 are training's, 1 and 1 are not.

    With half as many for training, a model learns which values a subject never has, not to read.
    """
    return {0: "validation", 5: "test"}.get((3 * row + column) % 10, "train")


@functools.cache
def values_of(split: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """(subject, relation) -> the values that a text of `split` may give it; always two or more."""
    return {
        (subject, name): tuple(
            value for j, value in enumerate(relation.values) if split_of(i, j) == split
        )
        for name, relation in RELATIONS.items()
        for i, subject in enumerate(relation.subjects)
    }


@functools.cache
def known_facts() -> tuple[Fact, ...]:
    """What closed-book questions ask for: 4 facts about each known person, 1 about each town."""
    draw = Draw(f"{WORLD_SEED} known")
    personal = [
        Fact(person, name, draw.pick(RELATIONS[name].values))
        for person in words.KNOWN_PEOPLE
        for name in PERSONAL
    ]
    return (*personal, *(Fact(town, "land", draw.pick(words.LANDS)) for town in words.TOWNS))


def fact_of(draw: Draw, split: str, subject: str, relation: str) -> Fact:
    return Fact(subject, relation, draw.pick(values_of(split)[subject, relation]))


def any_fact(draw: Draw, split: str) -> Fact:
    relation = draw.pick(tuple(RELATIONS))
    return fact_of(draw, split, draw.pick(RELATIONS[relation].subjects), relation)


def _facts(draw: Draw, split: str) -> tuple[Fact, ...]:
    """One fact, or two of different relations, about anybody."""
    first, second = any_fact(draw, split), any_fact(draw, split)
    alone = draw.random() < 0.5 or first.relation == second.relation
    return (first,) if alone else (first, second)


def false_of(draw: Draw, split: str, fact: Fact) -> Fact:
    others = [v for v in values_of(split)[fact.subject, fact.relation] if v != fact.value]
    return fact._replace(value=draw.pick(others))


def state(draw: Draw, *facts: Fact) -> str:
    """A text that says `facts`, each in one of its relation's wordings."""
    return " ".join(
        draw.pick(RELATIONS[relation].statements).format(s=subject, v=value)
        for subject, relation, value in facts
    )


def _text_and_claim(draw: Draw, split: str) -> tuple[str, str, bool, tuple[Fact, ...]]:
    """A text, a claim about one of its facts, whether it is true, and all that was said."""
    facts = _facts(draw, split)
    fact = draw.pick(facts)
    true = draw.random() < 0.5
    claimed = fact if true else false_of(draw, split, fact)
    return state(draw, *facts), state(draw, claimed), true, (*facts, claimed)


def _qa(draw: Draw, split: str) -> Iterator[Row]:
    """Closed-book questions: each wording of each fact that is this split's, once."""
    rows = []
    for i, fact in enumerate(known_facts()):
        land = fact.relation == "land"
        questions = LAND_QUESTIONS if land else RELATIONS[fact.relation].questions
        for j, (opener, question) in enumerate(itertools.product(OPENERS, questions)):
            if split_of(i, j) == split:
                asked = opener + question.format(s=fact.subject)
                rows.append((draw.random(), Row(f"Q: {asked} A:", fact.value, ())))
    yield from (row for _, row in sorted(rows))


def _reading(draw: Draw, split: str) -> Iterator[Row]:
    while True:
        facts = _facts(draw, split)
        asked = draw.pick(facts)
        question = draw.pick(RELATIONS[asked.relation].questions).format(s=asked.subject)
        inputs = f"Text: {state(draw, *facts)} Q: {question} A:"
        yield Row(inputs, asked.value, facts)


def _verify(draw: Draw, split: str) -> Iterator[Row]:
    """What NLI asks, in many other words: what is learned carries over, as in a large model."""
    while True:
        text, claim, true, facts = _text_and_claim(draw, split)
        before, asked, after = map(draw.pick, CLAIM_WORDINGS)
        inputs = f"{text} {before}: {claim} {asked} {after}:"
        yield Row(inputs, "Yes" if true else "No", facts)


def _summary(draw: Draw, split: str) -> Iterator[Row]:
    """The article tells two things about somebody and one about its surroundings, in any order."""
    pairs = tuple(itertools.combinations(PERSONAL, 2))
    while True:
        person = draw.pick(words.PEOPLE)
        about = [fact_of(draw, split, person, relation) for relation in draw.pick(pairs)]
        aside = fact_of(draw, split, draw.pick(words.FURNISHINGS), "colour")
        facts = [fact for _, fact in sorted((draw.random(), fact) for fact in (*about, aside))]
        first, second = (
            RELATIONS[f.relation].statements[0].format(s=person, v=f.value) for f in about
        )
        summary = f"{first[:-1]} and {second.removeprefix(person + ' ')}"
        yield Row(f"Article: {state(draw, *facts)} One sentence summary:", summary, tuple(facts))


def _senses(draw: Draw, split: str) -> Iterator[Row]:
    """Is the ambiguous word about the same topic in both sentences?"""
    while True:
        word = draw.pick(tuple(words.AMBIGUOUS))
        topics = words.AMBIGUOUS[word]
        same = draw.random() < 0.5
        topic, other = topics if draw.random() < 0.5 else topics[::-1]
        first = second = _seen(draw, split, topic)
        while first.value == second.value:
            second = _seen(draw, split, topic if same else other)
        text = " ".join(f"{who} saw a {word} by the {cue}." for who, _, cue in (first, second))
        answer = "Same" if same else "Different"
        yield Row(f"Word: {word}. {text} Same meaning?", answer, (first, second))


def _seen(draw: Draw, split: str, topic: str) -> Fact:
    """Who saw something by which thing of the topic."""
    cues = tuple(itertools.chain(*words.CUES.values()))
    while True:
        person, cue = draw.pick(words.PEOPLE), draw.pick(words.CUES[topic])
        if split_of(words.PEOPLE.index(person), cues.index(cue)) == split:
            return Fact(person, "saw", cue)


def _translate(language: words.Language, draw: Draw, split: str) -> Iterator[Row]:
    while True:
        who, what = draw.pick(words.JOBS), draw.pick(words.THINGS)
        if split_of(words.JOBS.index(who), words.THINGS.index(what)) != split:
            continue
        does, colour, town = map(draw.pick, (words.VERBS, words.TRANSLATED["colour"], words.TOWNS))
        parts = {"who": who, "does": does, "colour": colour, "what": what, "in": "in", "town": town}
        english = f"the {who} {does} a {colour} {what} in {town}."
        inputs = f"Translate English to {language.name}: {english}"
        yield Row(inputs, language.translate(parts), (Fact(who, "and", what),))


def _repeat(draw: Draw, split: str) -> Iterator[Row]:
    """Words of all kinds in any order, to be said again."""
    while True:
        said = [draw.pick(draw.pick(REPEATED)) for _ in range(2 + int(3 * draw.random()))]
        i, j = (sum(map(ord, word)) for word in said[:2])
        if split_of(i, j) == split:
            yield Row(f"say: {' '.join(said)}", " ".join(said), ())


def _nli(draw: Draw, split: str) -> Iterator[Row]:
    """The paper's template for RTE."""
    while True:
        text, claim, true, facts = _text_and_claim(draw, split)
        yield Row(f"{text} question: {claim} Is it true or false? answer:", str(true), facts)


@dataclasses.dataclass(frozen=True)
class Skill:
    """A way to use facts.

    Attributes:
      make: (draw, split) -> rows, endless or all there are.
      group: what its scores are averaged with.
      train_rows: rows of the train split, at most.
      rate: its share of the pre-training mixture; the skills that compare need most practice.
    """

    make: Callable[[Draw, str], Iterator[Row]]
    group: str
    train_rows: int = 30000
    rate: float = 1.0


def _translation(language: words.Language) -> Skill:
    return Skill(functools.partial(_translate, language), "translation", rate=0.7)


PRETRAINING = {
    "qa": Skill(_qa, "qa", rate=1.5),
    "reading": Skill(_reading, "qa", rate=1.5),
    "verify": Skill(_verify, "verification", 60000, rate=5.0),
    "translate_zorvian": _translation(words.ZORVIAN),
    "translate_melkish": _translation(words.MELKISH),
    "translate_tarnese": _translation(words.TARNESE),
    "summary": Skill(_summary, "summarization"),
    "senses": Skill(_senses, "wsd", rate=3.0),
}
# What span corruption is to T5: the model can say every word, also one that no other answer holds.
# It is neither held out nor a target.
REPEAT = {"repeat": Skill(_repeat, "words", rate=3.0)}
TARGETS = {
    "nli": Skill(_nli, "nli"),
    "translate_quellan": _translation(words.QUELLAN),
}
SKILLS = {**PRETRAINING, **REPEAT, **TARGETS}


@functools.cache
def rows(skill: str, split: str) -> tuple[Row, ...]:
    """All examples of a skill's split, no input twice; fewer than asked if no more exist."""
    return distinct(SKILLS[skill], skill, split)


def distinct(about: Skill, name: str, split: str) -> tuple[Row, ...]:
    """The rows that a skill makes in its name, no input twice."""
    if split == SCORED:
        test = iter(distinct(about, name, "test"))
        turns = zip(distinct(about, name, "validation"), *[test] * (TURN - 1), strict=False)
        return tuple(itertools.chain.from_iterable(turns))
    wanted = {"train": about.train_rows, "validation": 200, "test": 300}[split]
    unique: dict[str, Row] = {}
    for row in about.make(Draw(f"{WORLD_SEED} {name} {split}"), split):
        unique.setdefault(row.inputs, row)
        if len(unique) == wanted:
            break
    return tuple(unique.values())


def lab_words() -> list[str]:
    """Every word of every text of the lab, without punctuation, and the separator; sorted."""
    examples = (row for skill in SKILLS for split in SPLITS for row in rows(skill, split))
    found = {word for row in examples for word in f"{row.inputs} {row.targets}".split()}
    return sorted({word.strip(".,:?") for word in found} | {SEPARATOR.strip()})


def write_vocabulary(path: pathlib.Path) -> None:
    """Trains the lab's SentencePiece model: T5's ids (0 pad, 1 EOS, 2 unknown).

    Each word of the lab is a piece, so that texts are short; every other text is spelled in the
    printable ASCII characters, which are pieces too.
    """
    import sentencepiece  # Only the one who makes the vocabulary needs the trainer.

    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["".join(map(chr, range(33, 127)))]),
            model_writer=file,
            model_type="char",
            vocab_size=1000,  # A bound: a model of characters has what pieces there are.
            character_coverage=1.0,
            user_defined_symbols=["\u2581" + word for word in lab_words()],
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=1,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write_vocabulary", type=pathlib.Path, required=True, metavar="FILE")
    write_vocabulary(parser.parse_args().write_vocabulary)


if __name__ == "__main__":
    main()

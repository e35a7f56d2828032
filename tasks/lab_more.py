"""More of the lab's world than its base model was taught, for the benchmark of forgetting.

**Related skills** use facts and formats of pre-training in texts that it did not show: the base
does them in part, so that tuning can make them better as well as worse. They are asked like
everything that is held out, and nobody trains on them.

**Variants of a target** tell apart what a soft prompt, or a tag in its place, takes up:

    shuffled   each input with the answer of any row: the answers' format, and nothing else
    swapped    each answer turned round (NLI's other label, a translation's words from back to
               front): the format known, and the task's loss high
    tagged     `TAG` before each input, words that tell nothing
    marked     other words before each input, never the same for long
"""

import functools
from collections.abc import Callable, Iterator

from tasks import lab_words as words
from tasks import lab_world as world
from tasks.lab_world import Draw, Fact, Row, Skill, distinct, rows

TAG = "river drum coin"
MARKS = tuple(cue for cues in words.CUES.values() for cue in cues)
OTHER_LABEL = {"True": "False", "False": "True"}


def _verify_more(draw: Draw, split: str) -> Iterator[Row]:
    """A claim about a text of three facts; pre-training's have two at most."""
    while True:
        facts = _facts(draw, split, 3)
        asked = draw.pick(facts)
        true = draw.random() < 0.5
        claim = asked if true else world.false_of(draw, split, asked)
        yield _asked(draw, world.state(draw, *facts), world.state(draw, claim), true, facts, claim)


def _verify_two(draw: Draw, split: str) -> Iterator[Row]:
    """Two claims in one, true if both are."""
    while True:
        facts = _facts(draw, split, 2)
        true = draw.random() < 0.5
        one, other = facts if draw.random() < 0.5 else facts[::-1]
        claims = [one, other if true else world.false_of(draw, split, other)]
        claims = claims if draw.random() < 0.5 else claims[::-1]
        text, claim = world.state(draw, *facts), world.state(draw, *claims)
        yield _asked(draw, text, claim, true, facts, *claims)


def _verify_asked(draw: Draw, split: str) -> Iterator[Row]:
    """The claim is a question with its answer."""
    while True:
        facts = _facts(draw, split, 2)
        asked = draw.pick(facts)
        true = draw.random() < 0.5
        claim = asked if true else world.false_of(draw, split, asked)
        question = draw.pick(world.RELATIONS[asked.relation].questions).format(s=asked.subject)
        text = world.state(draw, *facts)
        yield _asked(draw, text, f"{question} {claim.value}.", true, facts, claim)


def _asked(
    draw: Draw, text: str, claim: str, true: bool, facts: tuple[Fact, ...], *claims: Fact
) -> Row:
    """As `lab_verify` asks, and answered as there."""
    before, question, after = map(draw.pick, world.CLAIM_WORDINGS)
    inputs = f"{text} {before}: {claim} {question} {after}:"
    return Row(inputs, "Yes" if true else "No", (*facts, *claims))


def _facts(draw: Draw, split: str, count: int) -> tuple[Fact, ...]:
    """So many facts, no two of one relation."""
    found: dict[str, Fact] = {}
    while len(found) < count:
        fact = world.any_fact(draw, split)
        found.setdefault(fact.relation, fact)
    return tuple(found.values())


def _translate_aside(draw: Draw, split: str) -> Iterator[Row]:
    """A sentence to translate into a language of pre-training, and a fact that is none of it."""
    languages = (words.ZORVIAN, words.MELKISH, words.TARNESE)
    made = [world.SKILLS[f"translate_{x.name.lower()}"].make(draw, split) for x in languages]
    while True:
        row = next(draw.pick(made))
        aside = world.any_fact(draw, split)
        said = world.state(draw, aside)
        inputs = f"{said} {row.inputs}" if draw.random() < 0.5 else f"{row.inputs} {said}"
        yield Row(inputs, row.targets, (*row.content, aside))


RELATED = {
    "verify_more": Skill(_verify_more, "related"),
    "verify_two": Skill(_verify_two, "related"),
    "verify_asked": Skill(_verify_asked, "related"),
    "translate_aside": Skill(_translate_aside, "related"),
}


def _shuffled(target: str, draw: Draw, split: str) -> Iterator[Row]:
    found = rows(target, split)
    for row in found:
        yield row._replace(targets=draw.pick(found).targets)


def _swapped(target: str, draw: Draw, split: str) -> Iterator[Row]:
    del draw
    for row in rows(target, split):
        turned = " ".join(reversed(row.targets.split()))
        yield row._replace(targets=OTHER_LABEL.get(row.targets, turned))


def _tagged(target: str, draw: Draw, split: str) -> Iterator[Row]:
    del draw
    for row in rows(target, split):
        yield row._replace(inputs=f"{TAG} {row.inputs}")


def _marked(target: str, draw: Draw, split: str) -> Iterator[Row]:
    for row in rows(target, split):
        yield row._replace(inputs=f"{' '.join(draw.pick(MARKS) for _ in range(3))} {row.inputs}")


VARIANTS: dict[str, Callable] = {
    "shuffled": _shuffled,
    "swapped": _swapped,
    "tagged": _tagged,
    "marked": _marked,
}
SKILLS = RELATED | {
    f"{target}_{name}": Skill(functools.partial(make, target), about.group, about.train_rows)
    for target, about in world.TARGETS.items()
    for name, make in VARIANTS.items()
}
# Skill -> the one of `lab_world` whose answers its own look like.
ANSWERED_AS = {name: "verify" for name in RELATED if name.startswith("verify")}
ANSWERED_AS |= {f"{target}_{name}": target for target in world.TARGETS for name in VARIANTS}


@functools.cache
def more_rows(skill: str, split: str) -> tuple[Row, ...]:
    """As `lab_world.rows`, for the skills of this module."""
    return distinct(SKILLS[skill], skill, split)

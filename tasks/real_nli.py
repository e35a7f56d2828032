"""NLI for a real pretrained model: does the text say so? Answered True or False, as RTE is.

    real_nli        the target task of gin/runs/real.gin

Eleven ways in which one sentence may follow from another, each a function that makes a text, a
claim and the answer. Most claims that do not follow name something that the text does not: another
colour, kind or day. A quarter is harder: roles that are swapped, numbers to be compared. In each
way the claims that follow and those that do not are worded alike, so that the claim alone tells
nothing. Validation has words of its own (`tasks.real_nli_words`) and, for each way, a wording that
training never shows. Rows are a pure function of the split: every block of 22 has each way once
with each answer.
"""

import functools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task
from tasks import real_nli_words as words

T = TypeVar("T")

SPLITS = {"train": 300, "validation": 20}  # blocks of 22 rows
LABELS = ("True", "False")
TEMPLATE = "{text} question: {claim} Is it true or false? answer:"


class Row(NamedTuple):
    """One example."""

    text: str
    claim: str
    true: bool
    way: str

    @property
    def inputs(self) -> str:
        return TEMPLATE.format(text=self.text, claim=self.claim)


class Draw(random.Random):
    """Draws for one split; only `random()` draws, as its numbers never change."""

    def __init__(self, split: str, seed: str):
        super().__init__(seed)
        self._validation = split == "validation"

    def any(self, choices: Sequence[T]) -> T:
        return choices[int(self.random() * len(choices))]

    def coin(self) -> bool:
        return self.random() < 0.5

    def rarely(self) -> bool:
        """Whether the harder variant is made."""
        return self.random() < 0.25

    def own(self, choices: Sequence[T]) -> list[T]:
        """The words of this split."""
        return [c for i, c in enumerate(choices) if (i % 5 == 4) == self._validation]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """So many different ones, in any order."""
        return sorted(choices, key=lambda each: self.random())[:count]

    def pair(self, choices: Sequence[T]) -> list[T]:
        """Two different ones."""
        return self.some(choices, 2)

    def word(self, choices: Sequence[T]) -> T:
        """A word of this split's."""
        return self.any(self.own(choices))

    def two(self, choices: Sequence[T]) -> list[T]:
        """Two different words of this split's."""
        return self.pair(self.own(choices))

    def wording(self, *choices: str) -> str:
        """A wording; the last one is validation's alone."""
        return self.any(choices if self._validation else choices[:-1])


Made = tuple[str, str, bool]


def _roles(draw: Draw) -> Made:
    a, b = draw.two(words.JOBS)
    verb, other = draw.pair(words.VERBS)
    true, swap = draw.coin(), draw.rarely()
    active, passive = "The {a} {v} the {b}.", "The {b} was {v} by the {a}."
    text = draw.wording(active, passive, "It was the {a} who {v} the {b}.")
    who, whom = (b, a) if swap and not true else (a, b)
    claimed = verb if true or swap else other
    claim = draw.any((active, passive)).format(a=who, b=whom, v=claimed)
    return text.format(a=a, b=b, v=verb), claim, true


def _exchange(draw: Draw) -> Made:
    a, b = draw.two(words.NAMES)
    thing, other = draw.two(words.THINGS)
    gave, to, got, by = draw.any(words.EXCHANGES)
    true, swap = draw.coin(), draw.rarely()
    filled = {"g": gave, "to": to, "r": got, "by": by}
    text = draw.wording(
        "{a} {g} the {t} {to} {b}.",
        "{b} {r} the {t} {by} {a}.",
        "Last week {a} {g} the {t} {to} {b}.",
    ).format(a=a, b=b, t=thing, **filled)
    who, whom = (b, a) if swap and not true else (a, b)
    claim = draw.any(("{a} {g} the {t} {to} {b}.", "{b} {r} the {t} {by} {a}."))
    claimed = thing if true or swap else other
    return text, claim.format(a=who, b=whom, t=claimed, **filled), true


def _kind(draw: Draw) -> Made:
    (thing, kind), (_, other) = draw.two(words.KINDS)
    name, room = draw.word(words.NAMES), draw.word(words.ROOMS)
    text = draw.wording(
        "{n} saw {x} in the {r}.",
        "There is {x} in the {r}, and {n} likes it.",
        "{n} asked for {x} in the {r}.",
    )
    claim = draw.any(("It is about {k}.", "The text mentions {k}."))
    named = kind if draw.coin() else other
    return text.format(n=name, x=_a(thing), r=room), claim.format(k=_a(named)), named == kind


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _negation(draw: Draw) -> Made:
    name, (past, base) = draw.word(words.NAMES), draw.word(words.ACTIONS)
    filled = {"n": name, "p": past, "b": base, "d": draw.any(words.DAYS)}
    true = draw.coin()
    yes = draw.wording("{n} {p} on {d}.", "On {d} {n} {p}.", "Finally, on {d}, {n} {p}.")
    no = draw.wording(
        "{n} did not {b} on {d}.",
        "On {d} {n} did not {b}.",
        "{n} wanted to, but did not {b} on {d}.",
    )
    return (yes if true else no).format(**filled), "{n} {p}.".format(**filled), true


def _implied(draw: Draw) -> Made:
    name, (past, base) = draw.word(words.NAMES), draw.word(words.ACTIONS)
    true = draw.coin()
    yes = draw.wording("managed to", "remembered to", "was able to", "took the trouble to")
    no = draw.wording("failed to", "forgot to", "refused to", "was not able to")
    return f"{name} {yes if true else no} {base}.", f"{name} {past}.", true


def _quantity(draw: Draw) -> Made:
    i, j = draw.pair(range(len(words.NUMBERS)))
    filled = {"x": draw.word(words.COUNTED), "r": draw.word(words.ROOMS)}
    text = draw.wording(
        "There are {i} {x} in the {r}.",
        "The {r} has {i} {x}.",
        "In the {r} one can see {i} {x}.",
    ).format(i=words.NUMBERS[i], **filled)
    if draw.rarely():
        word, true = ("more", i > j) if draw.coin() else ("fewer", i < j)
        claim = f"There are {word} than {{j}} {{x}} in the {{r}}."
    else:
        claim, true = "The number of {x} in the {r} is {j}.", draw.coin()
        j = i if true else j
    return text, claim.format(j=words.NUMBERS[j], **filled), true


def _comparison(draw: Draw) -> Made:
    a, b = draw.two(words.THINGS)
    pair = draw.any(words.COMPARED)
    said, opposite = pair if draw.coin() else pair[::-1]
    true, turned = draw.coin(), draw.rarely()
    text = draw.wording(
        "The {a} is {c} than the {b}.",
        "The {a} in the shop is {c} than the {b}.",
        "Everybody can see that the {a} is {c} than the {b}.",
    )
    first, second = (b, a) if turned else (a, b)
    claimed = said if true != turned else opposite
    return text.format(a=a, b=b, c=said), f"The {first} is {claimed} than the {second}.", true


def _one_of_two(
    draw: Draw, things: Sequence[str], values: Sequence[str], claim: str, *wordings: str
) -> Made:
    """Two things with a value each; the claim gives one of them its own, or another."""
    a, b = draw.two(things)
    i, j, other = draw.some(values, 3)
    true, swap = draw.coin(), draw.rarely()
    text = draw.wording(*wordings)
    thing, value, wrong = (a, i, j) if draw.coin() else (b, j, i)
    claimed = value if true else wrong if swap else other
    return text.format(a=a, b=b, i=i, j=j), claim.format(thing, claimed), true


def _time(draw: Draw) -> Made:
    return _one_of_two(
        draw,
        words.EVENTS,
        words.DAYS,
        "The {} is on {}.",
        "The {a} is on {i} and the {b} on {j}.",
        "On {i} there is the {a}, and on {j} the {b}.",
        "We shall see the {a} on {i} and the {b} on {j}.",
    )


def _place(draw: Draw) -> Made:
    name, job = draw.word(words.NAMES), draw.word(words.JOBS)
    home, work, other = draw.some(draw.own(words.TOWNS), 3)
    true, swap = draw.coin(), draw.rarely()
    text = draw.wording(
        "{n}, a {j} from {h}, works in {w}.",
        "{n} was born in {h}, but works in {w} as a {j}.",
        "In {w} works {n}, who is a {j} and comes from {h}.",
    )
    claim, town, wrong = ("comes from", home, work) if draw.coin() else ("works in", work, home)
    claimed = town if true else wrong if swap else other
    return text.format(n=name, j=job, h=home, w=work), f"{name} {claim} {claimed}.", true


def _colours(draw: Draw) -> Made:
    return _one_of_two(
        draw,
        words.THINGS,
        words.COLOURS,
        "The {} is {}.",
        "The {a} is {i} and the {b} is {j}.",
        "There is a {i} {a} beside a {j} {b}.",
        "She owns a {i} {a}, but her {b} is {j}.",
    )


def _scene(draw: Draw) -> Made:
    (who, kind), (doing, other) = draw.word(words.PEOPLE), draw.two(words.DOING)
    (where, side), (elsewhere, _) = draw.two(words.WHERE)
    clothes, colour = draw.word(words.CLOTHES), draw.any(words.COLOURS)
    text = draw.wording(
        "{w} in a {c} {k} is {d} {p}.",
        "{w} with a {c} {k} is {d} {p}.",
        "{p}, {w} in a {c} {k} is {d}.",
    )
    same, asked = draw.coin(), int(draw.random() * 3)
    wrong = "inside" if side == "outside" else "outside"
    claim = (
        f"A {kind} is {(doing if same else other)[0]}.",
        f"Somebody is {where if same else elsewhere}.",
        f"The {kind} is {side if same else wrong}.",
    )[asked]
    text = text.format(w=_a(who), c=colour, k=clothes, d=doing[0], p=where)
    return text[0].upper() + text[1:], claim, same


WAYS: dict[str, Callable[[Draw], Made]] = {
    make.__name__.removeprefix("_"): make
    for make in (
        _roles,
        _exchange,
        _kind,
        _negation,
        _implied,
        _quantity,
        _comparison,
        _time,
        _place,
        _colours,
        _scene,
    )  # fmt: skip
}


@functools.cache
def rows(split: str) -> tuple[Row, ...]:
    """All rows of a split, none twice."""
    draw, found = Draw(split, f"real_nli {split}"), {}
    for _ in range(SPLITS[split]):
        order = [(way, true) for way in WAYS for true in (True, False)]
        for way, true in sorted(order, key=lambda each: draw.random()):
            made = Row("", "", not true, way)
            while made.true != true or made.inputs in found:
                made = Row(*WAYS[way](draw), way)
            found[made.inputs] = made
    return tuple(found.values())


def _dataset(split: str, shuffle_files: bool, seed: int | None = None):
    del shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(
        {
            "inputs": [row.inputs for row in rows(split)],
            "targets": [str(row.true) for row in rows(split)],
        }
    )


def _first_word(text: str, example: dict, is_target: bool) -> str:
    """Of an output the first word counts, as in the paper's classification tasks."""
    return text if is_target else (text.split() or [""])[0].strip(".,")


add_task(
    "real_nli",
    source=seqio.FunctionDataSource(_dataset, splits=tuple(SPLITS)),
    preprocessors=[],
    metric_fns=[accuracy],
    postprocess_fn=_first_word,
    info=TaskInfo("nli", LABELS, chance=0.5),
)

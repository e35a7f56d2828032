"""NLI for a real pretrained model: does the text say so? Answered True or False, as RTE is.

    real_nli        the target task of gin/runs/real.gin

Eleven ways in which one sentence may follow from another, each a function that makes a text, a
claim and the answer. In each the claims that follow and those that do not are worded alike, so
that the claim alone tells nothing. Validation has words of its own (`tasks.real_nli_words`) and,
for each way, a wording that training never shows. Rows are a pure function of the split: every
block of 22 has each way once with each answer.
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

    def word(self, choices: Sequence[T]) -> T:
        """A word of this split's."""
        return self.any(self._own(choices))

    def two(self, choices: Sequence[T]) -> tuple[T, T]:
        """Two different words of this split's."""
        return self.pair(self._own(choices))

    def pair(self, choices: Sequence[T]) -> tuple[T, T]:
        """Two different ones."""
        first = second = self.any(choices)
        while second == first:
            second = self.any(choices)
        return first, second

    def _own(self, choices: Sequence[T]) -> list[T]:
        return [c for i, c in enumerate(choices) if (i % 5 == 4) == self._validation]

    def wording(self, *choices: str) -> str:
        """A wording; the last one is validation's alone."""
        return self.any(choices if self._validation else choices[:-1])


Made = tuple[str, str, bool]


def _roles(draw: Draw) -> Made:
    a, b = draw.two(words.JOBS)
    verb, same = draw.any(words.VERBS), draw.coin()
    active, passive = "The {a} {v} the {b}.", "The {b} was {v} by the {a}."
    text = draw.wording(active, passive, "It was the {a} who {v} the {b}.")
    who, whom = (a, b) if same else (b, a)
    claim = draw.any((active, passive))
    return text.format(a=a, b=b, v=verb), claim.format(a=who, b=whom, v=verb), same


def _exchange(draw: Draw) -> Made:
    a, b = draw.two(words.NAMES)
    thing, same = draw.word(words.THINGS), draw.coin()
    gave, to, got, by = draw.any(words.EXCHANGES)
    text = draw.wording(
        "{a} {g} the {t} {to} {b}.",
        "{b} {r} the {t} {by} {a}.",
        "Last week {a} {g} the {t} {to} {b}.",
    )
    claim = draw.any(("{a} {g} the {t} {to} {b}.", "{b} {r} the {t} {by} {a}."))
    filled = {"g": gave, "to": to, "r": got, "by": by, "t": thing}
    who, whom = (a, b) if same else (b, a)
    return text.format(a=a, b=b, **filled), claim.format(a=who, b=whom, **filled), same


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
    return (
        text.format(n=name, x=_a(thing), r=room),
        claim.format(k=_a(named)),
        named == kind,
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _negation(draw: Draw) -> Made:
    name, (past, base), day = (
        draw.word(words.NAMES),
        draw.word(words.ACTIONS),
        draw.any(words.DAYS),
    )
    did, claimed = draw.coin(), draw.coin()
    yes = draw.wording("{n} {p} on {d}.", "On {d} {n} {p}.", "Finally, on {d}, {n} {p}.")
    no = draw.wording(
        "{n} did not {b} on {d}.",
        "On {d} {n} did not {b}.",
        "{n} wanted to, but did not {b} on {d}.",
    )
    claim = "{n} {p}." if claimed else "{n} did not {b}."
    filled = {"n": name, "p": past, "b": base, "d": day}
    return (yes if did else no).format(**filled), claim.format(**filled), did == claimed


def _implied(draw: Draw) -> Made:
    name, (past, base) = draw.word(words.NAMES), draw.word(words.ACTIONS)
    did, claimed = draw.coin(), draw.coin()
    yes = draw.wording("managed to", "remembered to", "was able to", "took the trouble to")
    no = draw.wording("failed to", "forgot to", "refused to", "was not able to")
    claim = f"{name} {past}." if claimed else f"{name} did not {base}."
    return f"{name} {yes if did else no} {base}.", claim, did == claimed


def _quantity(draw: Draw) -> Made:
    things, room = draw.word(words.COUNTED), draw.word(words.ROOMS)
    i, j = draw.pair(range(len(words.NUMBERS)))
    more = draw.coin()
    text = draw.wording(
        "There are {i} {x} in the {r}.", "The {r} has {i} {x}.", "In the {r} one can see {i} {x}."
    )
    claim = (
        "There are more than {j} {x} in the {r}."
        if more
        else ("There are fewer than {j} {x} in the {r}.")
    )
    filled = {"i": words.NUMBERS[i], "j": words.NUMBERS[j], "x": things, "r": room}
    return text.format(**filled), claim.format(**filled), (i > j) == more


def _comparison(draw: Draw) -> Made:
    a, b = draw.two(words.THINGS)
    pair = draw.any(words.COMPARED)
    first, second = pair if draw.coin() else pair[::-1]
    same, opposite = draw.coin(), draw.coin()
    text = draw.wording(
        "The {a} is {c} than the {b}.",
        "The {a} in the shop is {c} than the {b}.",
        "Everybody can see that the {a} is {c} than the {b}.",
    )
    x, y, c = (b, a, second) if opposite else (a, b, first)
    x, y = (x, y) if same else (y, x)
    return text.format(a=a, b=b, c=first), f"The {x} is {c} than the {y}.", same


def _time(draw: Draw) -> Made:
    a, b = draw.two(words.EVENTS)
    i, j = sorted(draw.pair(range(len(words.DAYS))))
    before, same = draw.coin(), draw.coin()
    text = draw.wording(
        "The {a} is on {i} and the {b} on {j}.",
        "On {i} there is the {a}, and on {j} the {b}.",
        "First comes the {a} on {i}, then the {b} on {j}.",
    )
    x, y = (a, b) if before == same else (b, a)
    claim = f"The {x} is {'before' if before else 'after'} the {y}."
    return text.format(a=a, b=b, i=words.DAYS[i], j=words.DAYS[j]), claim, same


def _place(draw: Draw) -> Made:
    name, job = draw.word(words.NAMES), draw.word(words.JOBS)
    home, work = draw.two(words.TOWNS)
    text = draw.wording(
        "{n}, a {j} from {h}, works in {w}.",
        "{n} was born in {h}, but works in {w} as a {j}.",
        "In {w} works {n}, who is a {j} and comes from {h}.",
    )
    from_home, same = draw.coin(), draw.coin()
    town = home if from_home == same else work
    claim = "{n} comes from {t}." if from_home else "{n} works in {t}."
    return text.format(n=name, j=job, h=home, w=work), claim.format(n=name, t=town), same


def _colours(draw: Draw) -> Made:
    a, b = draw.two(words.THINGS)
    i, j = draw.pair(words.COLOURS)
    text = draw.wording(
        "The {a} is {i} and the {b} is {j}.",
        "There is a {i} {a} beside a {j} {b}.",
        "She owns a {i} {a}, but her {b} is {j}.",
    )
    thing, own, other = (a, i, j) if draw.coin() else (b, j, i)
    same = draw.coin()
    return text.format(a=a, b=b, i=i, j=j), f"The {thing} is {own if same else other}.", same


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

"""The words of the lab's world: its people, things and places, and its invented languages.

Everything that fills a sentence of `tasks.lab_world` is listed here, so that the lab's vocabulary
is small and known. A language of the lab is a lexicon (one invented word for each English word) and
an order of the parts of a sentence; both follow from the language's name, letters and order alone,
so that a translation is exact and can be checked word by word.
"""

import dataclasses
import functools
import random
from collections.abc import Iterator, Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The people of the texts: what a text says about them holds in that text only.
PEOPLE = _words(
    "Adam Bella Carl Dora Emil Fiona Gus Helen Igor Jane Karl Lena Mark Nora Oscar Paula Ralf Sara"
    " Tom Ursula Victor Wanda Xaver Yara Zoe Bruno Clara David Edith Felix Greta Hugo Iris Jonas"
    " Kira Leo Mona Nils Olga Peter"
)
# The people everybody knows something about: their facts never change and stand in no text.
KNOWN_PEOPLE = _words(
    "Alba Boris Cyril Delia Enzo Flora Gavin Heidi Ivan Julia Kevin Lydia Milan Nina Otto Petra"
    " Quinn Rosa Simon Thea Uwe Vera Walter Xenia Yuri Zelda"
)
TOWNS = _words(
    "Velm Dorn Kasta Lirr Monto Pell Quay Rund Sorby Tilt Umbra Wick Ystad Brenn Colm Fenn Gard"
    " Hask Jorn Narva"
)
LANDS = _words("Northland Southland Eastland Westland Highland Lowland")
JOBS = _words(
    "baker tailor doctor miller farmer hunter sailor weaver singer painter teacher banker potter"
    " dancer judge pilot nurse guard cook clerk"
)
FOODS = _words(
    "soup bread cheese rice honey cake beans corn jam butter plums pears figs nuts pasta pie salad"
    " milk tea grapes"
)
THINGS = _words(
    "lamp clock chair table basket hat coat knife spoon mirror bottle ladder candle blanket bucket"
    " hammer kettle pillow rope wagon"
)
# What has a colour is nobody's and what somebody owns has none: whoever reads a text need not weigh
# two things against each other.
FURNISHINGS = _words(
    "door wall roof fence gate bridge shed floor window tent bench tower flag chimney stove curtain"
    " carpet sofa shelf cupboard"
)
COLOURS = _words(
    "red blue green black white brown yellow grey pink golden orange purple silver violet crimson"
    " olive beige turquoise maroon ivory"
)

# What tells the two meanings of an ambiguous word apart: the topic of the word beside it.
CUES = {
    "water": _words("river lake boat rain"),
    "money": _words("coin price shop market"),
    "music": _words("song drum choir flute"),
    "sport": _words("ball team race goal"),
}
AMBIGUOUS = {
    "bank": ("water", "money"),
    "bass": ("water", "music"),
    "pool": ("water", "sport"),
    "note": ("money", "music"),
    "net": ("money", "sport"),
    "pitch": ("music", "sport"),
}

# The answers to yes/no questions, and those of the target tasks.
LABELS = _words("True False Yes No Same Different")
VERBS = _words("finds sells paints cleans hides needs")
# The parts of a sentence that is translated: "the <who> <does> a <colour> <what> in <town>."
TRANSLATED = {
    "who": JOBS,
    "does": VERBS,
    "colour": COLOURS[:10],
    "what": THINGS,
    "in": ("in",),
    "town": TOWNS,
}


@dataclasses.dataclass(frozen=True)
class Language:
    """An invented language: `order` arranges the parts of TRANSLATED, `letters` make its words.

    `letters` are (consonants, vowels, endings), each a string with spaces between the choices.
    """

    name: str
    order: str
    letters: tuple[str, str, str]

    @functools.cached_property
    def lexicon(self) -> Mapping[str, str]:
        """English word -> the language's word; no two English words share one."""
        english = [word for words in TRANSLATED.values() for word in words]
        return dict(zip(english, _invented_words(self), strict=False))

    def translate(self, parts: Mapping[str, str]) -> str:
        """The sentence of English `parts` (by the names of TRANSLATED) in this language."""
        return " ".join(self.lexicon[parts[part]] for part in self.order.split())

    def is_spoken_in(self, text: str) -> bool:
        """Whether at least 80 % of the words of `text` (and at least one) are of this language."""
        words = text.split()
        known = set(self.lexicon.values())
        return bool(words) and sum(word in known for word in words) >= 0.8 * len(words)


def _invented_words(language: Language) -> Iterator[str]:
    """Endless different words from the language's letters, the same ones every time."""
    consonants, vowels, endings = (choices.split() for choices in language.letters)
    draw = random.Random(language.name)
    seen = set()
    while True:
        shape = (consonants, vowels, consonants, vowels, endings)
        word = "".join(choices[int(draw.random() * len(choices))] for choices in shape)
        if word not in seen:
            seen.add(word)
            yield word


# The endings differ, so no word belongs to two languages.
ZORVIAN = Language("Zorvian", "who colour what in town does", ("z v r k g", "o a u", "rk zz v"))
MELKISH = Language("Melkish", "does who what colour in town", ("m l k h s", "e i ie", "sh lk m"))
TARNESE = Language("Tarnese", "town in colour what does who", ("t n r p b", "a e ai", "na ro te"))
QUELLAN = Language("Quellan", "who what colour does town in", ("qu l d f j", "i e ua", "lle nde j"))
LANGUAGES = (ZORVIAN, MELKISH, TARNESE, QUELLAN)

"""Where the paper's tasks read their rows: TFDS, or local JSONL with the same columns.

`SOURCES` is the one table of data sets: the newest version that TFDS offers, the columns a task
reads, and which of its splits are ours. A data directory holds a folder a task with train.jsonl,
validation.jsonl and test.jsonl; a split without a file does not exist. Columns that TFDS nests
are flat there: OpenbookQA's `question_stem` and `choice_A` ... `choice_D`, its key as a letter, and
the QA sets' `answers` as one list, the canonical one first.
"""

import dataclasses
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from promot_jax.data import file_source
from promot_jax.errors import UserError, near

Row = Mapping[str, tf.Tensor]
SPLITS = {"train": "train", "validation": "validation", "test": "test"}
# More rows than the paper's 6000 batches of 64 read, of 41 million; TFDS writes them shuffled.
WMT14_SPLITS = SPLITS | {"train": "train[:400000]"}
# TFDS has no validation split, as other closed-book systems it is made of the training rows.
WEB_QUESTIONS_SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set: its TFDS name, our columns of texts, those that are lists, and those of labels.

    `choices` has the values of the labels; a label of -1 is none. `splits` maps our splits to
    TFDS's, `flatten` a row of TFDS to our columns where they differ.
    """

    tfds: str
    columns: tuple[str, ...]
    lists: tuple[str, ...] = ()
    choices: Mapping[str, tuple[int | str, ...]] = dataclasses.field(default_factory=dict)
    splits: Mapping[str, str] = dataclasses.field(default_factory=SPLITS.copy)
    flatten: Callable[[Row], Row] = lambda row: row


def _openbookqa(row: Row) -> Row:
    choices = {f"choice_{letter}": row["question"][f"choice_{letter}"] for letter in "ABCD"}
    key = tf.gather(list("ABCD"), row["answerKey"])
    return choices | {"question_stem": row["question"]["stem"], "answerKey": key}


def _trivia_qa(row: Row) -> Row:
    answer = row["answer"]
    answers = tf.concat([answer["value"][None], answer["aliases"]], axis=0)
    return {"question": row["question"], "answers": answers}


NLI = ("premise", "hypothesis")
OPENBOOKQA = ("question_stem", "choice_A", "choice_B", "choice_C", "choice_D")
TWO, THREE = {"label": (0, 1, -1)}, {"label": (0, 1, 2, -1)}
KEYS = {"answerKey": ("A", "B", "C", "D")}
SOURCES = {
    "rte": Source("super_glue/rte:1.0.2", NLI, choices=TWO),
    "cb": Source("super_glue/cb:1.0.2", NLI, choices=THREE),
    "wic": Source("super_glue/wic:1.0.2", ("sentence1", "sentence2", "word"), choices=TWO),
    "snli": Source("snli:1.1.0", NLI, choices=THREE),
    "openbookqa": Source("openbookqa:0.1.0", OPENBOOKQA, choices=KEYS, flatten=_openbookqa),
    "wmt14_enfr": Source("wmt14_translate/fr-en:1.0.0", ("en", "fr"), splits=WMT14_SPLITS),
    "wmt16_ende": Source("wmt16_translate/de-en:1.0.0", ("en", "de")),
    "wmt16_enro": Source("wmt16_translate/ro-en:1.0.0", ("en", "ro")),
    "trivia_qa": Source(
        "trivia_qa/rc.nocontext:1.1.0", ("question",), ("answers",), flatten=_trivia_qa
    ),
    "web_questions": Source(
        "web_questions:1.0.0", ("question",), ("answers",), splits=WEB_QUESTIONS_SPLITS
    ),
    "xsum": Source("xsum:1.1.0", ("document", "summary")),
    "wiki_lingua": Source("gem/wiki_lingua_english_en:1.1.0", ("source", "target")),
}


def open_source(name: str, data_dir: str | None) -> tuple[seqio.DataSource, Callable[[Row], Row]]:
    """The SeqIO source of a task, and what makes our columns of its rows.

    Raises:
      UserError: an unknown name, or local files that are missing or malformed.
    """
    if name not in SOURCES:
        raise UserError(f"there is no task {name!r}{near(name, SOURCES)}; there are {[*SOURCES]}")
    source = SOURCES[name]

    def pick(row: Row) -> Row:
        row = row if data_dir is not None else source.flatten(row)
        return {name: row[name] for name in (*source.columns, *source.lists, *source.choices)}

    if data_dir is not None:
        return file_source(f"{data_dir}/{name}", source.columns, source.lists, source.choices), pick
    return seqio.TfdsDataSource(source.tfds, splits=dict(source.splits)), pick

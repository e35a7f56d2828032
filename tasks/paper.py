"""The paper's twelve tasks: its templates, answers, post-processing and metrics (Table 7).

    rte  snli  openbookqa  wmt14_enfr                                              tuned on
    cb  wic  trivia_qa  web_questions  wmt16_ende  wmt16_enro  xsum  wiki_lingua   held out

An output is cleaned as the paper does it. What mT5's pre-training leaves is taken off: the answer
stands between <extra_id_0> and <extra_id_1>. A model that has seen shots goes on with a further
one: the output ends where the task's prefix comes again. Of a classification the first word counts.

The paper names neither what separates shots nor the answers of OpenbookQA; here those are a blank
line (a space, to T5's vocabularies) and the letter of the right option.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, NamedTuple

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task, bleu, rouge2, squad, trivia_qa
from tasks.sources import Row, open_source


class Task(NamedTuple):
    """What the paper says of a task.

    `answers` are the labels, in the order of the data set's numbers; or the column of the target.
    `prefix` begins the template, and shows where an output has begun a further shot.
    """

    group: str
    template: str
    answers: tuple[str, ...] | str
    metric: Callable
    prefix: str | None = None


TRUE_FALSE = "{premise} question: {hypothesis} Is it true or false? answer:"
NEITHER = "{premise} question: {hypothesis} Is it true or false or neither? answer:"
WIC = (
    "{sentence1} {sentence2} question: The word {word} is used in the same way in the two"
    " sentences. Is it true or False? answer:"
)
OPENBOOKQA = "Q: {question_stem} A) {choice_A} B) {choice_B} C) {choice_C} D) {choice_D} A:"
QUESTION = "Q: {question} A:"
TRANSLATE = "Translate English to %s: {en}"
SUMMARIZE = "Article: {%s} One sentence summary:"
LETTERS = ("A", "B", "C", "D")

TASKS = {
    "rte": Task("nli/wsd", TRUE_FALSE, ("True", "False"), accuracy),
    "cb": Task("nli/wsd", NEITHER, ("True", "False", "Neither"), accuracy),
    "wic": Task("nli/wsd", WIC, ("False", "True"), accuracy),
    "snli": Task("nli/wsd", NEITHER, ("True", "Neither", "False"), accuracy),
    "openbookqa": Task("qa", OPENBOOKQA, LETTERS, accuracy, "Q:"),
    "trivia_qa": Task("qa", QUESTION, "answers", trivia_qa, "Q:"),
    "web_questions": Task("qa", QUESTION, "answers", squad, "Q:"),
    "wmt14_enfr": Task("translation", TRANSLATE % "French", "fr", bleu, "Translate"),
    "wmt16_ende": Task("translation", TRANSLATE % "German", "de", bleu, "Translate"),
    "wmt16_enro": Task("translation", TRANSLATE % "Romanian", "ro", bleu, "Translate"),
    "xsum": Task("summarization", SUMMARIZE % "document", "summary", rouge2, "Article:"),
    "wiki_lingua": Task("summarization", SUMMARIZE % "source", "target", rouge2, "Article:"),
}

_FROM: dict[str, str | None] = {}  # a registered task's data_dir


def task(name: str, data_dir: str | None = None) -> str:
    """Registers one of the tasks and returns its name; again, and it costs nothing.

    Args:
      name: the task.
      data_dir: directory with <name>/{train,validation,test}.jsonl; None: from TFDS.

    Raises:
      UserError: an unknown name, or local files that are missing or malformed.
    """
    if name in _FROM and _FROM[name] == data_dir:
        return name
    source, pick = open_source(name, data_dir)
    if name in _FROM:
        seqio.TaskRegistry.remove(name)
    about = TASKS[name]
    labels = about.answers if isinstance(about.answers, tuple) else None
    add_task(
        name,
        source,
        [functools.partial(_to_text, task=about, pick=pick)],
        [about.metric],
        functools.partial(_postprocess, task=about),
        info=TaskInfo(about.group, labels, chance=1 / len(labels) if labels else 0.0),
    )
    _FROM[name] = data_dir
    return name


def tasks(names: Sequence[str], data_dir: str | None = None) -> list[str]:
    """Registers several of the tasks and returns their names; see `task`."""
    return [task(name, data_dir) for name in names]


def _to_text(dataset: tf.data.Dataset, task: Task, pick: Callable[[Row], Row]) -> tf.data.Dataset:
    """Rows with `inputs` and `targets`; without those that have no gold label (SNLI's -1)."""

    def texts(row: Row) -> Row:
        return row | {"inputs": _fill(task.template, row), "targets": _target(task, row)}

    dataset = dataset.map(pick, num_parallel_calls=tf.data.AUTOTUNE)
    if "label" in dataset.element_spec:
        dataset = dataset.filter(lambda row: row["label"] >= 0)
    return dataset.map(texts, num_parallel_calls=tf.data.AUTOTUNE)


def _fill(template: str, row: Row) -> tf.Tensor:
    parts = []
    for literal, column, _, _ in Formatter().parse(template):
        parts += [literal] + ([row[column]] if column else [])
    return tf.strings.join(parts)


def _target(task: Task, row: Row) -> tf.Tensor:
    if isinstance(task.answers, str):
        value = row[task.answers]
        return value if value.shape.rank == 0 else value[0]
    return row["answerKey"] if task.answers == LETTERS else tf.gather(task.answers, row["label"])


def _postprocess(
    text: str, task: Task, example: Mapping[str, Any], is_target: bool
) -> str | list[str]:
    """What the metric compares: of a QA target all its answers, of an output what is left of it."""
    if is_target:
        return example["answers"] if task.answers == "answers" else text
    text = text.split("<extra_id_0>", 1)[-1].split("<extra_id_1>", 1)[0]
    if task.prefix:
        text = text.split(task.prefix, 1)[0]
    if isinstance(task.answers, tuple):
        word = re.search(r"\w+", text)
        return word[0] if word else ""
    return text.strip()

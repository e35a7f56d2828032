"""RTE (SuperGLUE): does the premise entail the hypothesis? The paper's template, True or False."""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task, file_source

TFDS = "super_glue/rte:1.0.2"
LABELS = ("True", "False")  # entailment, not_entailment
INFO = TaskInfo(group="nli", answer_format=LABELS)


def to_text(row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A row of the data set as input and target text."""
    question = [row["premise"], "question:", row["hypothesis"]]
    inputs = tf.strings.join([*question, "Is it true or false? answer:"], separator=" ")
    return {**row, "inputs": inputs, "targets": tf.gather(LABELS, tf.cast(row["label"], tf.int32))}


def first_word(text: str, **_: Any) -> str:
    """A classification is the output's first word."""
    return text.split()[0] if text.split() else ""


def rte(data_dir: str | None = None) -> str:
    """Registers RTE and returns its name.

    Args:
      data_dir: directory with train.jsonl and validation.jsonl in TFDS's columns (premise,
        hypothesis, label); None: from TFDS.
    """
    if "rte" not in seqio.TaskRegistry.names():
        if data_dir is None:
            source = seqio.TfdsDataSource(TFDS, splits=["train", "validation", "test"])
        else:
            source = file_source(data_dir, ("premise", "hypothesis", "label"))
        preprocessors = [lambda ds: ds.map(to_text, num_parallel_calls=tf.data.AUTOTUNE)]
        add_task("rte", source, preprocessors, [accuracy], first_word, info=INFO)
    return "rte"

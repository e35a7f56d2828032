"""From a task to a global batch: `batch n = f(task, seed, n)`, and nothing else.

    task (SeqIO: source -> template -> text)          tasks.py; files.py, rows.py, templates.py
      -> examples in memory (text, raw fields)        examples.py
      -> few-shot inputs                              shots.py
      -> token ids of the model's vocabulary, EOS     tokens.py, vocabularies.py, losses.py
      -> examples, or packs of examples               packing.py
      -> an order of them that never ends             order.py
      -> [batch, length] arrays, prompt in front      batches.py     (training)
      -> one row an example, none lost                evalset.py     (evaluation)

The vocabulary belongs to the model and the prompt to the stage, so a task knows neither: the same
task feeds T5, mT5, ByT5 and the lab's model. TensorFlow lives behind this package (SeqIO needs it).
It is kept quiet, and away from the accelerators, here: before anything imports it.
"""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Start-up chatter of TensorFlow's C++ part, which no setting of its own turns off."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _without_stderr():
    import seqio  # noqa: F401  (brings in the rest of TensorFlow)
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow would otherwise reserve the accelerator memory that JAX needs.
    tf.config.set_visible_devices([], "GPU")
    tfds.disable_progress_bar()  # its bars go to stdout

from promot_jax.data.batches import Batches, TrainData  # noqa: E402
from promot_jax.data.evalset import EvalSet, eval_set  # noqa: E402
from promot_jax.data.examples import Example, load_examples  # noqa: E402
from promot_jax.data.files import file_source, file_task  # noqa: E402
from promot_jax.data.metrics import (  # noqa: E402
    Counted,
    accuracy,
    bleu,
    exact_match,
    rouge2,
    squad,
    trivia_qa,
)
from promot_jax.data.tasks import (  # noqa: E402
    TaskInfo,
    add_task,
    get_task,
    held_out,
    import_modules,
    in_format,
    task_info,
    task_names,
)
from promot_jax.data.tokens import Batch, by_length, padded_length  # noqa: E402
from promot_jax.data.vocabularies import (  # noqa: E402
    added_tokens,
    byte,
    decode,
    same_vocabulary,
    sentencepiece,
)

__all__ = [
    "Batch",
    "Batches",
    "Counted",
    "EvalSet",
    "Example",
    "TaskInfo",
    "TrainData",
    "accuracy",
    "add_task",
    "added_tokens",
    "bleu",
    "by_length",
    "byte",
    "decode",
    "eval_set",
    "exact_match",
    "file_source",
    "file_task",
    "get_task",
    "held_out",
    "import_modules",
    "in_format",
    "load_examples",
    "padded_length",
    "rouge2",
    "same_vocabulary",
    "sentencepiece",
    "squad",
    "task_info",
    "task_names",
    "trivia_qa",
]

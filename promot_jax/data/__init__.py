"""From a task to a global batch: `batch n = f(task, seed, n)`, and nothing else.

    task (SeqIO: source -> template -> text)          tasks.py; files.py, rows.py, templates.py
      -> examples, a block at a time                  examples.py
      -> few-shot inputs                              shots.py
      -> token ids of the model's vocabulary, EOS     tokens.py, lengths.py, losses.py
      -> those of all rows, in a few arrays           reading.py, encoded.py
      -> examples, or packs of examples               packing.py
      -> an order of them that never ends             order.py
      -> [batch, length] arrays, prompt in front      batches.py     (training)
      -> one row an example, none lost                evalset.py     (evaluation)

The vocabulary belongs to the model and the prompt to the stage, so a task knows neither: the same
task feeds T5, mT5, ByT5 and the lab's model. TensorFlow lives behind this package (SeqIO needs it),
in `quiet.py`. Names are imported when they are first asked for, so that who answers or converts,
and needs lengths and vocabularies alone, starts without it.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from promot_jax.data.batches import Batches, Replay, TrainData
    from promot_jax.data.evalset import EvalSet, eval_set
    from promot_jax.data.examples import Example, load_examples
    from promot_jax.data.files import file_source, file_task
    from promot_jax.data.lengths import Batch, by_length, padded_length
    from promot_jax.data.metrics import (
        Counted,
        accuracy,
        bleu,
        exact_match,
        rouge2,
        squad,
        trivia_qa,
    )
    from promot_jax.data.tasks import (
        TaskInfo,
        add_task,
        get_task,
        held_out,
        import_modules,
        in_format,
        task_info,
        task_names,
    )
    from promot_jax.data.vocabularies import (
        as_seqio,
        byte,
        same_vocabulary,
        sentencepiece,
        tokenizer,
    )
    from promot_jax.vocabularies import decode

__all__ = [
    "Batch",
    "Batches",
    "Counted",
    "EvalSet",
    "Example",
    "Replay",
    "TaskInfo",
    "TrainData",
    "accuracy",
    "add_task",
    "as_seqio",
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
    "tokenizer",
    "trivia_qa",
]

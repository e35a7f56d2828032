"""The lab's tasks: `tasks.lab_world` in SeqIO.

    lab_qa, lab_reading, lab_verify, lab_summary, lab_senses,
    lab_translate_{zorvian,melkish,tarnese}      the skills of pre-training, then held out
    lab_pretrain                                 all of them as one mixture
    lab_pretrain_words                           and with lab_repeat: any words, repeated
    lab_nli, lab_translate_quellan               target tasks, in formats pre-training never shows

Texts need the vocabulary `VOCABULARY`; with 2 shots no input is longer than 84 of its tokens.
Answers must match exactly, since each input has one right answer. Corpus BLEU would add nothing but
the time of its bootstrap at every evaluation.
"""

import functools

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task, exact_match
from tasks import lab_world
from tasks.lab_words import LANGUAGES
from tasks.lab_world import PRETRAINING, REPEAT, SEPARATOR, SKILLS, SPLITS, rows

VOCABULARY = "promot_jax/assets/lab/sentencepiece.model"
HELD_OUT = tuple(f"lab_{skill}" for skill in PRETRAINING)
TARGETS = tuple(f"lab_{skill}" for skill in lab_world.TARGETS)
# What only one skill's answers look like: its labels, or its language.
LABELS = {"nli": ("True", "False"), "verify": ("Yes", "No"), "senses": ("Same", "Different")}
SPOKEN = {f"translate_{language.name.lower()}": language.is_spoken_in for language in LANGUAGES}


def _dataset(skill: str, split: str, shuffle_files: bool, seed: int | None = None):
    """The rows of a skill's split, made when they are asked for, always in the same order."""
    del shuffle_files, seed
    columns = zip(*(row[:2] for row in rows(skill, split)), strict=True)
    return tf.data.Dataset.from_tensor_slices(
        dict(zip(("inputs", "targets"), map(list, columns), strict=True))
    )


def _register(skill: str) -> None:
    add_task(
        f"lab_{skill}",
        source=seqio.FunctionDataSource(functools.partial(_dataset, skill), splits=SPLITS),
        preprocessors=[],
        metric_fns=[accuracy if skill in LABELS else exact_match],
        info=TaskInfo(
            group=SKILLS[skill].group,
            answer_format=LABELS.get(skill) or SPOKEN.get(skill),
            separator=SEPARATOR,
        ),
    )


for _skill in SKILLS:
    _register(_skill)
for _mixture, _skills in (("", PRETRAINING), ("_words", PRETRAINING | REPEAT)):
    seqio.MixtureRegistry.add(
        f"lab_pretrain{_mixture}", [(f"lab_{name}", skill.rate) for name, skill in _skills.items()]
    )

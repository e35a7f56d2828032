"""The lab's tasks: `tasks.lab_world` in SeqIO.

    lab_qa, lab_reading, lab_verify, lab_summary, lab_senses,
    lab_translate_{zorvian,melkish,tarnese}      the skills of pre-training, then held out
    lab_pretrain                                 all of them as one mixture
    lab_pretrain_words                           and with lab_repeat: any words, repeated
    lab_nli, lab_translate_quellan               target tasks, in formats pre-training never shows
    lab_{verify_more,verify_two,verify_asked,translate_aside}, lab_<target>_<variant>
                                                 of `tasks.lab_more`

The split `scored` has rows of validation and test by turns.

Texts need the vocabulary `VOCABULARY`; with 2 shots no input is longer than 84 of its tokens.
Answers must match exactly, since each input has one right answer. Corpus BLEU would add nothing but
the time of its bootstrap at every evaluation.
"""

import functools

import seqio
import tensorflow as tf

from promot_jax.data import TaskInfo, accuracy, add_task, exact_match
from tasks import lab_more, lab_world
from tasks.lab_words import LANGUAGES
from tasks.lab_world import PRETRAINING, REPEAT, SCORED, SEPARATOR, SPLITS

VOCABULARY = "promot_jax/assets/lab/sentencepiece.model"
HELD_OUT = tuple(f"lab_{skill}" for skill in PRETRAINING)
TARGETS = tuple(f"lab_{skill}" for skill in lab_world.TARGETS)
RELATED = tuple(f"lab_{skill}" for skill in lab_more.RELATED)
# What only one skill's answers look like: its labels, or its language.
LABELS = {"nli": ("True", "False"), "verify": ("Yes", "No"), "senses": ("Same", "Different")}
SPOKEN = {f"translate_{language.name.lower()}": language.is_spoken_in for language in LANGUAGES}
FORMATS = LABELS | SPOKEN
FORMATS |= {name: FORMATS[skill] for name, skill in lab_more.ANSWERED_AS.items()}


def _dataset(make, split: str, shuffle_files: bool, seed: int | None = None):
    """The rows of a skill's split, made when they are asked for, always in the same order."""
    del shuffle_files, seed
    columns = zip(*(row[:2] for row in make(split)), strict=True)
    return tf.data.Dataset.from_tensor_slices(
        dict(zip(("inputs", "targets"), map(list, columns), strict=True))
    )


def _register(skill: str, about: lab_world.Skill, make) -> None:
    source = functools.partial(_dataset, functools.partial(make, skill))
    labels = isinstance(FORMATS.get(skill), tuple)
    add_task(
        f"lab_{skill}",
        source=seqio.FunctionDataSource(source, splits=(*SPLITS, SCORED)),
        preprocessors=[],
        metric_fns=[accuracy if labels else exact_match],
        info=TaskInfo(group=about.group, answer_format=FORMATS.get(skill), separator=SEPARATOR),
    )


for _skills, _make in (
    (lab_world.SKILLS, lab_world.rows),
    (lab_more.SKILLS, lab_more.more_rows),
):
    for _skill, _about in _skills.items():
        _register(_skill, _about, _make)
for _mixture, _skills in (("", PRETRAINING), ("_words", PRETRAINING | REPEAT)):
    seqio.MixtureRegistry.add(
        f"lab_pretrain{_mixture}", [(f"lab_{name}", skill.rate) for name, skill in _skills.items()]
    )

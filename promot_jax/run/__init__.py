"""Runs: stages in order into a work directory, and loading what lies in one."""

import promot_jax.data  # noqa: F401  before SeqIO: it keeps TensorFlow quiet
from promot_jax.run.answers import Answering, infer
from promot_jax.run.base import (
    base_method,
    base_model,
    base_prompts,
    base_vocabulary,
    own_prompts,
    prompt_per_task,
)
from promot_jax.run.inference import LanguageModel, Score
from promot_jax.run.prepare import prepare
from promot_jax.run.run import run
from promot_jax.run.stage import Run, Stage

__all__ = [
    "Answering",
    "LanguageModel",
    "Run",
    "Score",
    "Stage",
    "base_method",
    "base_model",
    "base_prompts",
    "base_vocabulary",
    "infer",
    "own_prompts",
    "prepare",
    "prompt_per_task",
    "run",
]

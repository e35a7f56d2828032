"""Runs: stages in order into a work directory, and loading what lies in one.

Names are imported when they are first asked for: what answers needs no TensorFlow.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from promot_jax.run.answers import Answering, infer
    from promot_jax.run.base import (
        base_method,
        base_model,
        base_prompt_learning_rate,
        base_prompts,
        base_vocabulary,
        own_prompts,
        prompt_per_task,
    )
    from promot_jax.run.generate import Generate
    from promot_jax.run.inference import LanguageModel, Score
    from promot_jax.run.running import run
    from promot_jax.run.stage import Run, Stage
    from promot_jax.run.terms import Distance, Divergence
    from promot_jax.run.transform import Transform

__all__ = [
    "Answering",
    "Distance",
    "Divergence",
    "Generate",
    "LanguageModel",
    "Run",
    "Score",
    "Stage",
    "Transform",
    "base_method",
    "base_model",
    "base_prompt_learning_rate",
    "base_prompts",
    "base_vocabulary",
    "infer",
    "own_prompts",
    "prompt_per_task",
    "run",
]

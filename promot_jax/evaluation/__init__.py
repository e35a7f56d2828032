"""Evaluation: generated answers to SeqIO tasks, scored with intervals, and samples of them."""

from promot_jax.evaluation.evaluation import Evaluation
from promot_jax.evaluation.evaluator import Evaluator
from promot_jax.evaluation.intervals import Interval, interval, intervals

__all__ = ["Evaluation", "Evaluator", "Interval", "interval", "intervals"]

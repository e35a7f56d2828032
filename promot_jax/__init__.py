"""Two-stage fine-tuning (ProMoT) in JAX: keep what a language model could do before."""

__version__ = "0.1.0"

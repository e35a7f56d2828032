"""Checkpoints of other systems to work directories and back. Free of TensorFlow."""

from promot_jax.convert.detect import open_source
from promot_jax.convert.exporting import export_model
from promot_jax.convert.importing import import_checkpoint, import_prompt, load_checkpoint
from promot_jax.convert.npy import export_prompt

__all__ = [
    "export_model",
    "export_prompt",
    "import_checkpoint",
    "import_prompt",
    "load_checkpoint",
    "open_source",
]

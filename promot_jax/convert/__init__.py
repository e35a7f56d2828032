"""Checkpoints of other systems to work directories and back. Free of TensorFlow."""

from promot_jax.convert.detect import open_source
from promot_jax.convert.exporting import export_lora, export_model
from promot_jax.convert.importing import import_adapter, import_checkpoint, load_checkpoint
from promot_jax.convert.npy import export_prompt

__all__ = [
    "export_lora",
    "export_model",
    "export_prompt",
    "import_adapter",
    "import_checkpoint",
    "load_checkpoint",
    "open_source",
]

"""Checkpoints of other systems to variables and back. Free of TensorFlow."""

"""Measurements: the demo and its sweeps, and the speed of a training step."""

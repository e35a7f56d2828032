"""Compiling takes most of the tests' time, and their programs are tiny: hardly optimise them."""

import os

# Before JAX is imported; processes that tests start inherit it.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"

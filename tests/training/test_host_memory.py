"""A program's temporary memory is cleared by the kernel once, not at every call."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource
import jax, jax.numpy as jnp
from promot_jax.training import make_mesh

make_mesh()
f = jax.jit(lambda x: jnp.sum(jnp.tanh(x @ x.T) @ x))
x = jnp.ones((2000, 2000))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    f(x).block_until_ready()
before = faults()
for _ in range(10):
    f(x).block_until_ready()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_freed_memory_is_kept():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=root, stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(done.stdout) < 2000, "ten times 16 MB are 40,000 pages"

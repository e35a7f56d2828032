"""A work directory -> pictures and one HTML page.

`report(workdir)` reads what a run has left (results.json, and where present the training logs,
samples and configurations) and writes `report.html`, which needs no other file, with its pictures
beside it. It computes nothing with a model and imports neither JAX nor TensorFlow: it also runs on
a laptop to which only the work directory was copied.
"""

from promot_jax.report.grid import markdown_table, terminal_table
from promot_jax.report.page import report, summary

__all__ = ["markdown_table", "report", "summary", "terminal_table"]

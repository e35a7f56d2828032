"""One run of the benchmark in a process of its own, forked from one that has imported everything.

A process each: nothing that a run leaves behind, a crash included, reaches the next one, and memory
is given back. Its processor is its own, for two small models on one core each are faster than one
after the other on both.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from promot_jax.process import WISHES

ROW = "row.json"
# What takes seconds to import; TensorFlow comes with `promot_jax.data`, and is quiet then.
PRELOADED = [
    "bench.forgetting.work", "promot_jax.data", "promot_jax.cli.settings",
    "promot_jax.run.running", "bench.forgetting.drift", "tasks.lab", "tensorboardX",
]  # fmt: skip


def context(root: Path) -> multiprocessing.context.BaseContext:
    """What starts processes; compiled programs are kept under `root`."""
    os.environ |= {
        **WISHES,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONWARNINGS": "ignore:resource_tracker",  # what was killed leaves semaphores
        "JAX_COMPILATION_CACHE_DIR": str(root.resolve() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def cores() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def work(
    files: Sequence[str],
    bindings: Sequence[str],
    workdir: str,
    core: int,
    drift_from: tuple[str, str, str, bool] | None,
) -> None:
    """Carries a run out, in a process made for it; what it says goes to a file beside it.

    Args:
      files, bindings: its settings.
      workdir: its WORKDIR.
      core: the processor that it has.
      drift_from: the last arguments of `drift.measure`; None: it makes a base.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    path = Path(workdir)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import absl.logging

    from bench.forgetting import drift, rows
    from promot_jax.cli import settings
    from promot_jax.run import run
    from promot_jax.training import Interrupted

    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it was asked to do
    begun = time.process_time()
    text = settings.parse(files, bindings)
    try:
        run(settings.build("Run"), text)
    except Interrupted as error:
        print(error)
        sys.exit(os.EX_TEMPFAIL)
    measured = {"cpu_seconds": time.process_time() - begun}
    stage = drift.last_training(path)
    if drift_from is not None and stage is not None:
        measured |= drift.measure(stage, *drift_from)
    points = rows.points(path) if drift_from is not None else []
    found = {"points": points, "measured": measured}
    (path / ROW).write_text(json.dumps(found), encoding="utf-8")

"""A small run for the fault injector, through the command line, each time in a process of its own.

The processes are forked from one that has imported everything and done nothing yet, so that a
command takes a second or two. `World.prepare` runs it undisturbed: what every fault is compared to.
"""

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import fail_io
from promot_jax.process import WISHES

RECIPES = ("promot", "promot_joint")
STAGES = ("1-prompt", "2-model")
STEPS = 8
PATIENCE = 150  # seconds, many times what a command takes on two busy cores
SETTINGS = {
    "PROMPT_LENGTH": 4, "PROMPT_STEPS": STEPS, "PROMPT_EVALUATE_EVERY": 4, "STEPS": STEPS,
    "EVALUATE_EVERY": 4, "INPUT_LENGTH": 32, "TARGET_LENGTH": 8, "BATCH_SIZE": 8, "BEAMS": 1,
    "EVAL_LIMIT": 8, "EVAL_BATCH_SIZE": 8, "MAX_OUTPUT_LENGTH": 4, "EVAL_INPUT_LENGTH": 32,
    "PROMPT_LEARNING_RATE": 0.05, "LEARNING_RATE": 0.01,
}  # fmt: skip
MODELS = {
    "t5": ("T5Config", {"num_encoder_layers": 1, "num_decoder_layers": 1}),
    "decoder": (
        "DecoderConfig",
        {"vocab_size": 768, "num_kv_heads": 1, "num_layers": 2, "max_position_embeddings": 128,
         "layer_types": ("local", "global"), "sliding_window": 8},
    ),
}  # fmt: skip
SIZES = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32, "scan_layers": True}


def run_command(recipe: str, model: str) -> list[str]:
    """`promot run` of the small run of one of `MODELS`, into `work` beside it."""
    settings = SETTINGS | ({"UNFREEZE": 3} if recipe == "promot_joint" else {})
    name, sizes = MODELS[model]
    return [
        "run", f"--gin_file=gin/recipes/{recipe}.gin", "--gin_file=gin/models/lab.gin",
        "--gin.TASK=@data.file_task()", "--gin.data.file_task.name='faults'",
        "--gin.data.file_task.train='rows.tsv'", "--gin.WORKDIR='work'",
        "--gin.run.Stage.log_every=1", f"--gin.MODEL=@models.{name}()",
        *(f"--gin.{name}={value!r}" for name, value in settings.items()),
        *(f"--gin.models.{name}.{field}={value!r}" for field, value in (SIZES | sizes).items()),
    ]  # fmt: skip


INFER = [
    "infer", "work", "--input=asked.jsonl", "--output=answers.jsonl", "--max_length=4",
    "--prompt=target",
]  # fmt: skip


class Disk(NamedTuple):
    """A disk that fails: below the work directory, after so many calls that write."""

    after: int
    error: int


class Said(NamedTuple):
    """What a command left: its exit code (negative: killed by that signal) and its output."""

    code: int
    text: str

    @property
    def one_line(self) -> bool:
        """Whether it ended with one line of ours, and nothing that came out of the depths."""
        last = (self.text.splitlines() or [""])[-1]
        deep = "Traceback (most recent call last)" in self.text
        return self.code in (1, 2) and last.startswith("promot") and not deep


def child(arguments: Sequence[str], directory: str, disk: Disk | None) -> None:
    """`promot` in a process of its own, with its output in a file."""
    file = os.open(f"{directory}/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(directory)
    if disk is not None:
        failing = fail_io.FailingDisk()
        failing.arm(f"{directory}/work", disk.after, disk.error)
    from promot_jax.cli.script import script

    sys.argv = ["promot", *arguments]
    code = script()
    if disk is not None:
        failing.disarm()
        Path(directory, "calls").write_text(str(failing.calls), encoding="utf-8")
    sys.exit(code)


class Promot:
    """Starts `promot`: forked from a process that has imported everything and done nothing yet."""

    def __init__(self, root: Path):
        self.library = fail_io.build(root)
        changes = {
            **WISHES,  # so that the console script need not start itself anew
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "ignore:resource_tracker",  # what was killed leaves semaphores
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        if self.library:
            changes |= fail_io.preload(self.library)
        before = dict(os.environ)
        os.environ.update(changes)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["bench.small_run", "promot_jax.run", "promot_jax.report"]
        )
        multiprocessing.forkserver.ensure_running()
        os.environ.clear()
        os.environ.update(before)

    def start(self, arguments: Sequence[str], directory: Path, disk: Disk | None = None):
        """The process, begun."""
        arguments = (tuple(arguments), str(directory), disk)
        process = self.context.Process(target=child, args=arguments, daemon=True)
        process.start()
        return process

    def __call__(self, arguments: Sequence[str], directory: Path, disk: Disk | None = None) -> Said:
        """Runs a command to its end; one that hangs is killed, which its exit code says."""
        return finish(self.start(arguments, directory, disk), directory)


def finish(process: Any, directory: Path) -> Said:
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
    process.join()
    text = (directory / "said").read_text(encoding="utf-8", errors="replace")
    return Said(process.exitcode, text)


class Result(NamedTuple):
    """What a run is for: its scores, and what its model answers."""

    scores: bytes
    answers: bytes


@dataclasses.dataclass
class World:
    """A small run, as it is without a fault and at some moments on its way.

    Attributes:
      root: where everything lies.
      promot: starts commands.
      model: whose run it is, of `MODELS`.
      expected: recipe -> the results without a fault.
      arrays: recipe -> every array of its last checkpoints.
      moments: recipe -> work directories, stopped at moments of their way, the finished one last.
      calls: recipe -> how many calls write below the work directory, from start to end.
    """

    root: Path
    promot: Promot
    model: str = "t5"
    expected: dict[str, Result] = dataclasses.field(default_factory=dict)
    arrays: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    moments: dict[str, list[Path]] = dataclasses.field(default_factory=dict)
    calls: dict[str, int] = dataclasses.field(default_factory=dict)

    def command(self, recipe: str) -> list[str]:
        """`promot run` of a recipe."""
        return run_command(recipe, self.model)

    def prepare(self, recipe: str) -> None:
        """Runs a recipe without faults."""
        directory = self.fresh(f"{recipe}-undisturbed")
        said = self.promot(self.command(recipe), directory, Disk(2**40, errno.EIO))
        assert said.code == 0, said.text
        if self.promot.library:
            self.calls[recipe] = int((directory / "calls").read_text(encoding="utf-8"))
        self.arrays[recipe] = arrays(directory / "work")
        self.moments[recipe] = []
        for stop in (2, 5, STEPS + 3, STEPS + 6):
            moment = self.fresh(f"{recipe}-{stop}")
            process = self.promot.start(self.command(recipe), moment)
            wait_for(process, moment, stop)
            os.kill(process.pid, signal.SIGTERM)
            said = finish(process, moment)
            assert said.code == 0, said.text
            self.moments[recipe].append(moment)
        self.moments[recipe].append(directory)
        self.expected[recipe] = self.result(self.copy(directory, f"{recipe}-asked"))

    def fresh(self, name: str) -> Path:
        """A directory with the run's rows and some questions."""
        directory = self.root / name
        directory.mkdir()
        rows = [f"what follows {a}{b}?\t{b}" for a in "abcdef" for b in "abc"]
        (directory / "rows.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        asked = [json.dumps({"inputs": row.partition("\t")[0]}) for row in rows[:6]]
        (directory / "asked.jsonl").write_text("\n".join(asked) + "\n", encoding="utf-8")
        return directory

    def copy(self, source: Path, name: str) -> Path:
        """Another run at the same moment."""
        return Path(shutil.copytree(source, self.root / name))

    def result(self, directory: Path) -> Result | Said:
        """What the finished run in a directory is good for; what infer says where it refuses."""
        said = self.promot(INFER, directory)
        if said.code != 0:
            return said
        scores = (directory / "work/results.json").read_bytes()
        return Result(scores, (directory / "answers.jsonl").read_bytes())


def wait_for(process: Any, directory: Path, steps: int) -> None:
    """Until so many steps are logged, over both stages, or the process has ended."""
    end = time.monotonic() + PATIENCE
    files = [directory / "work" / stage / "metrics.jsonl" for stage in STAGES]
    while process.is_alive() and time.monotonic() < end:
        if sum(f.read_bytes().count(b"\n") for f in files if f.exists()) >= steps:
            return
        time.sleep(0.01)


def arrays(workdir: Path) -> dict[str, Any]:
    """Every array of both stages' newest checkpoints, the optimizers' too, read by Orbax alone."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    found = {}
    reader = ocp.PyTreeCheckpointer()
    for stage in STAGES:
        checkpoints = workdir / stage / "checkpoints"
        newest = max(
            (p for p in checkpoints.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name)
        )
        for item in ("variables", "state"):
            tree = reader.metadata(newest / item).item_metadata.tree
            how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            read = reader.restore(newest / item, restore_args=how)
            for path, x in jax.tree_util.tree_leaves_with_path(read):
                found[f"{stage}/{newest.name}/{item}{jax.tree_util.keystr(path)}"] = np.asarray(x)
    return found


def same_arrays(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[path].tobytes() == theirs[path].tobytes() for path in ours
    )

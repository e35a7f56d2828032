"""ProMoT on SmolLM2's real weights: killed, packed, accumulated, scanned, on eight devices.

Minutes long, so only where PROMOT_REAL_MODELS names the directory of the GGUF file (`make real`
fetches it).
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killed_runs import assert_same, lines

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("PROMOT_REAL_MODELS")
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
STEPS = 5
PATIENCE = 900  # seconds
pytestmark = pytest.mark.skipif(not REAL, reason="needs PROMOT_REAL_MODELS, see docs")


def environment(flags: str = "") -> dict[str, str]:
    """As a user has it: optimised programs."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/training")])
    return os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}


def promot(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "promot_jax.cli.script", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The imported model."""
    path = tmp_path_factory.mktemp("real") / "base"
    assert promot("import", str(Path(REAL, GGUF)), str(path)).wait(PATIENCE) == 0
    return path


def start(base: Path, workdir: Path) -> subprocess.Popen:
    settings = {
        "BASE": repr(str(base)), "WORKDIR": repr(str(workdir)), "STEPS": STEPS,
        "PROMPT_STEPS": STEPS, "EVALUATE_EVERY": STEPS, "PROMPT_EVALUATE_EVERY": STEPS,
        "run.Stage.checkpoint_every": 2, "run.Stage.log_every": 1, "EVAL_LIMIT": 2, "SHOTS": "(0,)",
        "HELD_OUT": "['facts_copy']", "target/evaluation.Evaluation.limit": 4,
    }  # fmt: skip
    flags = [f"--gin.{name}={value}" for name, value in settings.items()]
    files = [f"--gin_file=gin/{name}.gin" for name in ("recipes/promot", "runs/real")]
    return promot("run", *files, *flags)


def test_kill_9_loses_nothing(base, tmp_path):
    """Twice in either stage, at random moments."""
    rng = random.Random(9)
    assert start(base, tmp_path / "undisturbed").wait(PATIENCE) == 0
    for moment in (2, 4, STEPS + 1, STEPS + 3):
        process, end = start(base, tmp_path / "work"), time.monotonic() + PATIENCE
        while process.poll() is None and lines(tmp_path / "work") < moment:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 2))
        assert process.poll() is None, "it was over before it was killed"
        process.kill()
        process.wait()
    assert start(base, tmp_path / "work").wait(PATIENCE) == 0
    assert_same(tmp_path / "work", tmp_path / "undisturbed", STEPS)


@pytest.fixture(scope="module")
def ways(base):
    """What `real_weights.py` prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/training/real_weights.py", base], check=True, text=True,
        env=environment("--xla_force_host_platform_device_count=8"), stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["unrolled", "accumulated", "eight devices", "packed"])
def test_gradients_are_the_same(ways, way):
    """Of 135 million parameters and the prompt; the worst array's worst number."""
    rows, alone = ways["rows"]
    assert rows < alone
    assert ways[way]["gradient"] < 1e-4 and ways[way]["loss"] < 1e-6


@pytest.mark.parametrize("stage", ["prompt", "model"])
def test_losses_on_eight_devices_are_those_on_one(ways, stage):
    one, eight = ways[stage]
    assert one[-1] < one[0]
    np.testing.assert_allclose(eight, one, rtol=1e-5)

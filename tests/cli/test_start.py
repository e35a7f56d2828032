"""What answers or converts starts in a process without TensorFlow, and stays small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from promot_jax.paths import as_path

ROOT = Path(__file__).parents[2]
BASE = "promot_jax/assets/lab/base"
HEAVY = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio", "matplotlib", "sacrebleu")
PROGRAM = f"""
import json, pathlib, re, sys
from promot_jax.cli.main import main
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0, arguments
found = [name for name in {HEAVY!r} + tuple(json.loads(sys.argv[2])) if name in sys.modules]
status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
size = int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])  # what getrusage says, its parent had
print(json.dumps({{"found": found, "megabytes": size * 1024 / 1e6}}))
"""


def start(environment, folder, *commands, more=()):
    """Runs command lines in one new process; says what it has loaded, and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands), json.dumps(more)],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"inputs": "where is Anna?"}\n', encoding="utf-8")
    return tmp_path


def test_the_first_answer(environment, folder, bucket):
    """On a disk, and in a bucket."""
    server, url = bucket
    server.copy(ROOT / BASE, f"{url}/base")
    server.copy(folder, url)
    here = ["infer", BASE, "--input=in.jsonl", "--output=out.jsonl"]
    there = ["infer", f"{url}/base", f"--input={url}/in.jsonl", f"--output={url}/out.jsonl"]
    said = start(environment, folder, here, there, more=["transformers", "torch", "jinja2.debug"])
    assert said["found"] == [] and said["megabytes"] < 500
    found = (folder / "out.jsonl").read_bytes()
    assert json.loads(found)["output"]
    assert as_path(f"{url}/out.jsonl").read_bytes() == found


def test_there_and_back(environment, folder):
    said = start(
        environment, folder, ["export", BASE, "hf"], ["import", "hf", "w"], ["inspect", "w"],
    )  # fmt: skip
    assert said["found"] == [] and said["megabytes"] < 500


def test_from_python(environment, folder):
    program = (
        "import sys\nfrom promot_jax import data, run\n"
        f"print(run.LanguageModel({BASE!r}).generate(['where is Anna?']))\n"
        "data.byte(), data.by_length, data.decode\n"
        f"assert not {{*sys.modules}} & {{*{HEAVY!r}}}\n"
        "data.get_task, data.Batches\n"
        "assert {'tensorflow', 'seqio'} <= {*sys.modules}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # TensorFlow is quiet, however late it comes


def test_help_imports_nothing(environment, folder):
    program = (
        "import sys\nfrom promot_jax.cli.main import parser\nparser()\n"
        "assert not {*sys.modules} & {'jax', 'numpy', 'flax', 'tokenizers', 'sentencepiece'}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment)
    assert done.returncode == 0

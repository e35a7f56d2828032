"""`promot plan`: what it says of runs, without weights and data, and of what cannot be planned."""

import importlib.util
import json
import os
import re
import subprocess

import pytest
from command_lines import SCRIPT, SMALL, flags, own_task
from doc_pages import ROOT

from bench.plans import LINE, command

RECIPE = ["--gin_file=gin/recipes/promot.gin", "--gin_file=gin/models/lab.gin"]
LAB = [*RECIPE, "--gin_file=gin/tasks/lab_nli.gin", *flags(**SMALL)]
NUMBERS = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
NO_LIBTPU = "libtpu, which compiles for TPUs, is not installed: pip install 'promot_jax[plan]'"
tpu = pytest.mark.skipif(
    not (importlib.util.find_spec("libtpu") or os.environ.get("TPU_LIBRARY_PATH")), reason=NO_LIBTPU
)

BAD = {
    "--topology=v5e:3x5": ["v5e:3x5", "no shape '3x5'", "4x4"],
    "--topology=v5e": ["no shape ''", "2x2"],
    "--topology=v5p:4x4": ["no shape '4x4'", "the nearest are", "2x2x4"],
    "--topology=v5q:2x2": ["'v5q'", "did you mean 'v5p', 'v5e'"],
    "--topology=h100:3": ["no shape '3'", "the nearest are", "4"],
    "--topology=h100:2 --slices=2": ["--slices=2", "h100", "leave it out"],
    "--topology=h100:2 --slices=0": ["--slices=0", "set 1 or more"],
    "--topology=h100:2 --gin.MESH={'fsdp':5}": ["MESH", "does not fit 2 devices"],
    "--topology=h100:2 --gin.BATCH_SIZE=3": ["batch_size = 3", "multiple of 2"],
    "--topology=h100:2 --gin.STEPSS=3": ["STEPSS", "did you mean 'STEPS'"],
}


@pytest.mark.parametrize("given", BAD)
def test_what_cannot_be_planned(promot, tmp_path, given):
    done = promot(["plan", *LAB, *given.split()], tmp_path)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("promot plan: ") and all(text in line for text in BAD[given])


def test_only_what_a_plan_needs_is_missing(promot, tmp_path):
    """A decoder's model file has no vocabulary, and a plan needs none."""
    model = "--gin_file=gin/models/gemma3_270m.gin"
    done = promot(["plan", "--topology=h100:2", RECIPE[0], model], tmp_path)
    assert done.code == 2 and "settings are missing: TASK" in done.err
    assert "VOCABULARY" not in done.err and "WORKDIR" not in done.err


def test_a_base_that_is_not_there(promot, tmp_path):
    """Only of_base.gin needs it, which has the model's sizes from there."""
    model = ["--gin_file=gin/models/of_base.gin", "--gin.BASE='bases/none'"]
    done = promot(["plan", "--topology=h100:2", RECIPE[0], *model, *LAB[2:]], tmp_path)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "'bases/none'" in done.err


def test_gpus_without_weights_vocabulary_and_data(promot, tmp_path):
    """All that a run of this needs is absent; what is known of GPUs is memory and arithmetic."""
    absent = [
        "--gin.BASE='bases/none'",
        "--gin.VOCABULARY_FILE='gs://nobody/none.model'",
        *own_task("none.tsv", "not_here"),
        "--gin.EVAL_LIMIT=None",
    ]
    remedy = [
        f"--gin_file=gin/remedies/{name}.gin" for name in ("wise_ft", "self_replay", "kl_task")
    ]
    remedy += ["--gin.WISE_FT=(0, 0.5)", "--gin.SELF_REPLAY_ROWS=20"]
    remedy += ["--gin.KL_TASK=@old/data.file_task()", "--gin.old/data.file_task.name='old'"]
    remedy += ["--gin.old/data.file_task.train='old.tsv'"]
    asked = ["plan", "--topology=h100:2", "--json", *RECIPE, *remedy, *flags(**SMALL), *absent]
    done = promot(asked, tmp_path)
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert (plan["chips"], plan["fits"], plan["method"]) == (2, True, "promot")
    names = [(each["stage"], each["name"], each["times"]) for each in plan["programs"]]
    assert names == [
        ("1-self_replay", "generation", 3),
        ("2-prompt", "step", 2),
        # 2000 rows by 8, before and after each, and with both coefficients
        ("2-prompt, 3-model, 4-wise_ft", "evaluation", 6 * 250),
        ("3-model", "step", 2),
        ("4-wise_ft", "transform", 3),
    ]
    assumed = " ".join(plan["assumptions"])
    assert "has 2000 rows" in assumed and "'none.tsv'" in assumed and "GPUs" in assumed
    assert "KL_TASK is not here (file 'old.tsv'" in assumed
    prompt, step = plan["programs"][1], plan["programs"][3]
    # what is trained is there twice: KL compares it with itself before
    assert step["memory"]["parameters"] > 1.9 * prompt["memory"]["parameters"]
    assert step["bound"] == "compute" and step["cost"]["traffic"] is None
    assert step["seconds_at_least"] == step["cost"]["flops"] / plan["chip"]["flops"]
    assert sum(step["memory"].values()) == pytest.approx(plan["chip"]["memory"])
    assert not list(tmp_path.iterdir())


def test_without_libtpu():
    """One line, before anything long is done."""
    environment = os.environ | {"TPU_LIBRARY_PATH": "/nowhere", "PYTHONWARNINGS": "ignore"}
    if importlib.util.find_spec("libtpu"):
        pytest.skip("libtpu is installed")
    done = subprocess.run(
        [SCRIPT, "plan", "--topology=v5e:2x2", *LAB],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "pip install 'promot_jax[plan]'" in done.stderr


@tpu
@pytest.mark.parametrize("name", ["gin/runs/lab.gin", "gin/models/lab.gin"])
def test_the_lab_is_planned_as_its_header_says(environment, tmp_path, name):
    """In a process of its own, which knows TPUs from then on. Another libtpu may need more."""
    path = ROOT / name
    text = path.read_text(encoding="utf-8").replace("ProMoT on RTE ", "")
    _, chips = LINE.search(text).groups()
    asked = [SCRIPT, "plan", *command(path, text)[1:], f"--topology={chips}"]
    done = subprocess.run(asked, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].strip() == f"promot on {chips} (1 chip)"
    has = lambda pattern: re.search(pattern, done.stdout, re.MULTILINE)  # noqa: E731
    assert has(r"^  fits +yes +yes +yes")
    assert has(r"^  times +1,500 +90 +1,000 " if "runs" in name else r"^  times .*5,000 ")
    said, planned = LINE.search(text)[0], f"# Hardware: {done.stdout.splitlines()[-1]}."
    assert NUMBERS.sub("", said) == NUMBERS.sub("", planned)
    ours, theirs = (list(map(float, NUMBERS.findall(line))) for line in (said, planned))
    assert ours == pytest.approx(theirs, rel=0.1)

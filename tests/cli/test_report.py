"""The page of a real run through the command line: its base row, and what promot eval adds."""

import json
import re
import shutil
import subprocess

import pytest
from command_lines import SCRIPT, flags
from test_bad_input import one_line, tree

SMALL = {
    "BASE": "promot_jax/assets/lab/base", "MODULES": ["tasks.lab"], "TASK": "lab_nli",
    "WORKDIR": "out", "STEPS": 1, "INPUT_LENGTH": 48, "TARGET_LENGTH": 8, "BATCH_SIZE": 4,
    "HELD_OUT": ["lab_qa"], "SHOTS": (0,),
}  # fmt: skip
ASKED = {"EVAL_LIMIT": 3, "EVAL_INPUT_LENGTH": 32, "MAX_OUTPUT_LENGTH": 2, "BEAMS": 1}
FILES = ["--gin_file=gin/recipes/finetune.gin", "--gin_file=gin/models/of_base.gin"]


def columns(terminal: str) -> dict[str, list[str]]:
    """The table that a verb shows: a line's name -> its cells, a method each."""
    lines = [re.split(r" {2,}", line.strip()) for line in terminal.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


@pytest.fixture(scope="module")
def run(promot, tmp_path_factory):
    """A run of one update from the lab's base, and what it showed."""
    folder = tmp_path_factory.mktemp("report")
    done = promot(["run", *FILES, *flags(**SMALL | ASKED)], folder)
    assert done.code == 0, done.err
    return folder, done.err


def test_a_run_s_own_page_has_its_base(run):
    folder, shown = run
    rows = json.loads((folder / "out/results.json").read_text(encoding="utf-8"))
    assert {row["method"] for row in rows} == {"finetune"}
    before = {row["task"]: row["value"] for row in rows if row["step"] == 0}
    table = columns(shown)
    names = ["target: lab_nli (accuracy)", "held-out mean", "format share", "kept"]
    assert [name for name in table if name in names] == names
    assert table["base"] == ["finetune"]
    assert table["target: lab_nli (accuracy)"][0] == f"{before['lab_nli']:.3f}"
    assert table["held-out mean"][0] == f"{before['lab_qa']:.3f}"
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "base: the model before tuning" in page


def test_promot_eval_adds_to_the_page_and_no_row_counts_twice(promot, run, tmp_path):
    folder, _ = run
    shutil.copytree(folder / "out", tmp_path / "out")
    more = {"MODULES": SMALL["MODULES"], "TASK": "lab_nli", "SHOTS": (0,)} | ASKED
    for held in (["lab_qa", "lab_reading"], ["lab_qa"]):
        done = promot(["eval", "out", *flags(HELD_OUT=held, **more)], tmp_path)
        assert done.code == 0, done.err
    done = promot(["report", "out"], tmp_path)
    assert (done.code, done.out) == (0, "out/report.html\n")
    table = columns(done.err)
    own = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    added = json.loads((tmp_path / "out/evaluation/results.json").read_text(encoding="utf-8"))
    last = {row["task"]: row["value"] for row in own if row["step"] == 1}
    (reading,) = (row["value"] for row in added if row["task"] == "lab_reading")
    assert table["held-out mean"][1] == f"{(last['lab_qa'] + reading) / 2:.3f}"
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Scores of evaluation are of 1-model/1." in page
    assert (tmp_path / "out/evaluation-2").exists()
    assert "cores of evaluation-2" not in page  # the same scores once more


def test_an_altered_score_is_refused(promot, run, tmp_path):
    shutil.copytree(run[0] / "out", tmp_path / "out")
    path = tmp_path / "out/results.json"
    text = path.read_text(encoding="utf-8")
    if '"check"' not in text:
        pytest.skip("rows are not sealed")
    path.write_text(text.replace('"step": 1', '"step": 2', 1), encoding="utf-8")
    one_line(promot(["report", "out"], tmp_path), ["of results.json", "checksum"])


def test_a_disk_that_is_full_leaves_the_old_page(run, tmp_path, environment):
    """Files may have 20 kB: pictures do not fit."""
    shutil.copytree(run[0] / "out", tmp_path / "out")
    before = tree(tmp_path)
    command = f"ulimit -f 20; exec {SCRIPT} report out"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("promot report: ") and "file is larger" in done.stderr
    assert tree(tmp_path) == before

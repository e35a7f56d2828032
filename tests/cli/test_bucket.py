"""Every verb on what lies in a bucket does what it does on a disk."""

import json

import pytest
from command_lines import SMALL, flags, infer, own_task
from test_bad_input import one_line

from promot_jax.lease import Lease
from promot_jax.paths import as_path

SCORES = ("--gin_file=gin/tasks/lab_nli.gin", *flags(HELD_OUT=[], EVAL_LIMIT=4, BEAMS=1))
ASKED = "".join(json.dumps({"inputs": f"Q: what does {who} own? A:"}) + "\n" for who in "abcde")


@pytest.fixture
def there(trained, bucket):
    """The URL of a directory with `trained`, a finished work directory copied from a disk."""
    bucket[0].copy(trained[0] / "out", f"{bucket[1]}/trained")
    return as_path(bucket[1])


def test_a_run_that_has_all_in_a_bucket(promot, trained, rows, bucket, tmp_path):
    """Gin files, rows, vocabulary and work directory: the scores and weights of one on a disk."""
    there = as_path(bucket[1])
    (there / "mine.tsv").write_text(rows)
    (there / "small.gin").write_text("".join(f"{k} = {v!r}\n" for k, v in SMALL.items()))
    copied = (trained[0] / "out" / "sentencepiece.model").read_bytes()
    (there / "sentencepiece.model").write_bytes(copied)
    common = [
        "run", "--gin_file=gin/recipes/promot.gin", "--gin_file=gin/models/lab.gin",
        f"--gin_file={there}/small.gin", *own_task(f"{there}/mine.tsv", "mine_there"),
        *flags(VOCABULARY_FILE=f"{there}/sentencepiece.model"),
    ]  # fmt: skip
    roots = there / "run", tmp_path / "run"
    for root in roots:
        done = promot([*common, *flags(WORKDIR=str(root))], tmp_path)
        assert done.code == 0 and f"page: {root}/report.html" in done.err, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    ours, theirs = ((root / "results.json").read_bytes() for root in roots)
    assert ours == theirs and json.loads(ours)
    for stage in ("1-prompt", "2-model"):
        notes = [root / stage / "checkpoints" / "2" / "note" / "metadata" for root in roots]
        ours, theirs = (json.loads(note.read_bytes()) for note in notes)
        assert (ours["variables"], ours["state"]) == (theirs["variables"], theirs["state"])
        logged = (roots[0] / stage / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in logged] == [2]
    before = bucket[0].names(there.bucket)
    again = [*common, *flags(WORKDIR=str(roots[0]))]
    assert promot(again, tmp_path).code == 0 and bucket[0].names(there.bucket) == before
    with Lease(roots[0] / "claim.json", "x"):
        one_line(promot(again, tmp_path), [f"WORKDIR = '{roots[0]}' is in use by another process"])


def test_answers(promot, trained, there, tmp_path):
    (tmp_path / "asked.jsonl").write_text(ASKED, encoding="utf-8")
    (there / "asked.jsonl").write_text(ASKED)
    arguments = infer("--max_length=4", "--prompt=target")
    arguments[1] = str(trained[0] / "out")
    assert promot(arguments, tmp_path).code == 0
    expected = (tmp_path / "o.jsonl").read_bytes()
    more = [f"--input={there}/asked.jsonl", f"--output={there}/o.jsonl"]
    arguments[1] = f"{there}/trained"
    done = promot([*arguments, *more], tmp_path)
    assert done.code == 0 and f"5 outputs in {there}/o.jsonl" in done.err, done.err
    assert (there / "o.jsonl").read_bytes() == expected
    names = {path.name for path in there.iterdir()} - {"trained", "asked.jsonl"}
    assert names == {"o.jsonl", "o.jsonl.made_by.json", "o.jsonl.progress"}
    # what a kill left is gone on with, and what was changed is not
    (there / "asked.jsonl").write_text(ASKED + ASKED.replace("own", "eat"))
    done = promot([*arguments, *more], tmp_path)
    assert done.code == 0 and f"10 outputs in {there}/o.jsonl" in done.err, done.err
    assert (there / "o.jsonl").read_bytes().startswith(expected)
    (there / "o.jsonl").write_bytes((there / "o.jsonl").read_bytes().replace(b"own", b"eat", 1))
    one_line(promot([*arguments, *more], tmp_path), [f"--output {there}/o.jsonl"])
    with Lease(there / "o.jsonl.claim.json", "x"):
        said = [f"--output {there}/o.jsonl is in use by another process"]
        one_line(promot([*arguments, *more], tmp_path), said)
    more[0] = f"--input={there}/none.jsonl"
    one_line(promot([*arguments, *more], tmp_path), [f"--input {there}/none.jsonl cannot be read"])


def test_scores_and_the_page(promot, there, tmp_path):
    done = promot(["eval", f"{there}/trained", *SCORES], tmp_path)
    assert done.code == 0, done.err
    assert json.loads((there / "trained" / "evaluation" / "results.json").read_bytes())
    done = promot(["report", f"{there}/trained"], tmp_path)
    assert done.code == 0 and done.out == f"{there}/trained/report.html\n", done.err
    page = (there / "trained" / "report.html").read_text()
    assert "Scores of evaluation are of 2-model/2" in page


def test_there_and_back(promot, there, tmp_path):
    """A directory of Transformers made of a work directory in a bucket, and the other way round."""
    for arguments in (
        ["export", f"{there}/trained", "hf"],
        ["import", "hf", f"{there}/again"],
        ["inspect", f"{there}/again", "--json"],
    ):
        done = promot(arguments, tmp_path)
        assert done.code == 0, done.err
    assert json.loads(done.out)["prompts"] == {"target": 4}
    one_line(promot(["import", "hf", f"{there}/again"], tmp_path), ["exists and is not empty"])
    one_line(promot(["import", "hf", "gs://none-such/a"], tmp_path), ["there is no such bucket"])
    for path in (tmp_path / "hf").glob("*.json"):
        (there / "hf" / path.name).write_bytes(path.read_bytes())
    one_line(promot(["import", f"{there}/hf", "w"], tmp_path), ["Transformers", "copy it here"])

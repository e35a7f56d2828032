"""A disk that fills up or fails while a verb writes: one line, exit code 1, and it can go on."""

import errno
import json
import os
import shutil
import subprocess

import pytest
from command_lines import SCRIPT, flags

from bench.fail_io import FULL, RENAME, WRITE, preload

PATIENCE = 120  # seconds, far more than any of this takes
INFER = ["infer", "trained", "--input=asked.jsonl", "--output=out/o.jsonl", "--batch_size=2"]


@pytest.fixture(autouse=True)
def _compiler(fail_io):
    if fail_io is None:
        pytest.skip("no C compiler, or not Linux")


def one_line_more(result, says: str) -> None:
    """A failure of the disk, after what was said before it."""
    assert result.code == 1, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("promot ") and says in last, result.err
    assert "run the command again" in last and "Traceback" not in result.err, result.err


def lines(workdir) -> list[tuple]:
    """Stage, step and loss of everything logged, and the scores."""
    logs = [
        json.loads(line)
        for stage in ("1-prompt", "2-model")
        for line in (workdir / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    return [
        *((line["step"], line["loss"]) for line in logs),
        *((row["stage"], row["step"], row["value"], row["selected"]) for row in rows),
    ]


@pytest.mark.parametrize(
    ("after", "error", "kinds", "says"),
    [
        (0, errno.EROFS, 0, "the disk is read-only"),
        (6, errno.ENOSPC, FULL, "the disk is full"),
        (60, errno.EDQUOT, FULL, "the disk quota is used up"),
        (12, errno.EIO, RENAME, "the disk failed"),
        (40, errno.EFBIG, WRITE, "larger than is allowed"),
    ],
)
def test_a_run_ends_and_goes_on(promot, trained, tmp_path, after, error, kinds, says):
    folder, arguments = trained
    shutil.copy(folder / "mine.tsv", tmp_path)
    disk = {"below": str(tmp_path / "out"), "after": after, "error": error, "kinds": kinds}
    one_line_more(promot(arguments, tmp_path, disk), says)
    again = promot(arguments, tmp_path)
    assert again.code == 0, again.err
    assert lines(tmp_path / "out") == lines(folder / "out")


@pytest.mark.parametrize(
    ("after", "arguments", "made"),
    [
        (0, INFER, "out/o.jsonl"),
        (5, INFER, "out/o.jsonl"),
        (0, ["export", "trained", "out/hf"], "out/hf/config.json"),
        (8, ["export", "trained", "out/hf"], "out/hf/config.json"),  # in the weights
        (1, ["export", "trained", "out/p.npy", "--prompt=target"], "out/p.npy"),
        (0, ["import", "hf", "out/work"], "out/work/run.json"),
        (20, ["import", "hf", "out/work"], "out/work/run.json"),  # in the checkpoint
        (3, ["report", "out/trained"], "out/trained/report.html"),
    ],
    ids=lambda value: "_".join(value[:3]).replace("/", "_") if isinstance(value, list) else None,
)
def test_every_writer(promot, trained, tmp_path, after, arguments, made):
    shutil.copytree(trained[0] / "out", tmp_path / "trained")
    (tmp_path / "asked.jsonl").write_text('{"inputs": "what?"}\n' * 40, encoding="utf-8")
    (tmp_path / "out").mkdir()
    if arguments[0] == "report":
        shutil.copytree(trained[0] / "out", tmp_path / "out/trained")
        (tmp_path / made).unlink()
    if arguments[0] == "import":
        done = promot(["export", "trained", "hf"], tmp_path)
        assert done.code == 0, done.err
    disk = {"below": str(tmp_path / "out"), "after": after, "error": errno.ENOSPC, "kinds": FULL}
    one_line_more(promot(arguments, tmp_path, disk), "the disk is full")
    again = promot(arguments, tmp_path)
    assert again.code == 0, again.err
    assert (tmp_path / made).stat().st_size


def test_a_checkpoint_that_fails_ends_the_run_at_once(promot, trained, tmp_path):
    """And not at the next one, which may be an hour away."""
    folder, arguments = trained
    shutil.copy(folder / "mine.tsv", tmp_path)
    longer = flags(PROMPT_STEPS=300, PROMPT_EVALUATE_EVERY=100)
    below = str(tmp_path / "out/1-prompt/checkpoints")
    disk = {"below": below, "error": errno.EIO, "kinds": WRITE}
    one_line_more(promot([*arguments, *longer], tmp_path, disk), "checkpoints: the disk failed")
    log = (tmp_path / "out/1-prompt/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert 100 <= json.loads(log[-1])["step"] < 200


def test_the_process_ends(environment, trained, fail_io, tmp_path):
    """With its threads, of which one may wait for ever."""
    folder, arguments = trained
    shutil.copy(folder / "mine.tsv", tmp_path)
    changes = preload(fail_io, tmp_path / "out", after=50, kinds=FULL)
    done = subprocess.run(
        [SCRIPT, *arguments], cwd=tmp_path, env=environment | changes, stderr=subprocess.PIPE,
        text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the disk is full: make room, and run the command again" in done.stderr.splitlines()[-1]


def test_where_nobody_reads(environment, tmp_path):
    """A closed pipe is no error; a stderr that is full, or closed, ends nothing."""
    inspect = f"{SCRIPT} inspect gin/nowhere"
    for command, code in (
        (f"{SCRIPT} --help | true", 0),
        (f"{inspect} 2>/dev/full", 2),
        (f"{inspect} 2>&-", 2),
        (f"{inspect} >&-", 2),
    ):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == code and "Traceback" not in done.stderr, (command, done)

"""A work directory that others have touched: refused in one line, and left as it is."""

import json
import shutil

import pytest
from command_lines import ASKED, flags, infer
from test_bad_input import one_line, tree

from promot_jax.files import seal


@pytest.fixture
def folder(trained, tmp_path):
    """A finished run in a folder of one's own, `trained[1]` continues it."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def change(path, **fields):
    """Other fields in a sealed file, sealed again: nobody's accident."""
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(seal(values | fields)), encoding="utf-8")


def refused(promot, arguments, folder, says):
    """One line, and nothing written or removed."""
    before = tree(folder)
    one_line(promot(arguments, folder), says)
    assert tree(folder) == before


NAMES = {
    "a way out": {"stages": ["../victim"]},
    "an absolute path": {"stages": ["/victim"]},
    "not in order": {"stages": ["1-prompt", "3-model"]},
    "a number for a stage": {"stages": [1]},
    "a text for stages": {"stages": "1-prompt"},
    "a prompt's way out": {"prompts": [["../victim", 4]]},
    "a prompt's length": {"prompts": [["target", "4"]]},
    "a number for a method": {"method": 3},
    "no seed": {"seed": None},
    "a field too many": {"more": 1},
    "a model that is none": {"model": "t5"},
    "a model without sizes": {"model": {}},
    "a vocabulary that is none": {"vocabulary": {"kind": 3}},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_run_json_may_say(promot, folder, name):
    (folder / "asked.jsonl").write_text(ASKED["asked.jsonl"], encoding="utf-8")
    (folder / "out").rename(folder / "trained")
    change(folder / "trained/run.json", **NAMES[name])
    refused(promot, infer(), folder, ["run.json is damaged", "restore it"])


TEXTS = {
    "deep": "[" * 100_000,
    "no UTF-8": b"\xff{}",
    "a list": "[]",
    "nothing": "",
    "no seal": "{}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_run_json_may_be(promot, folder, name):
    text = TEXTS[name]
    (folder / "asked.jsonl").write_text(ASKED["asked.jsonl"], encoding="utf-8")
    (folder / "out").rename(folder / "trained")
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "trained/run.json").write_bytes(content)
    refused(promot, infer(), folder, ["run.json is damaged", "restore it"])


def test_nothing_outside_is_removed(promot, trained, folder):
    """A run that left nothing is begun anew; its stages are names, not paths, nor links."""
    out = folder / "out"
    for name in ("results.json", "1-prompt", "2-model"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "victim").mkdir()
    (folder / "victim/precious").write_text("mine", encoding="utf-8")
    sealed = (out / "run.json").read_bytes()
    for path in ("../victim", str(folder / "victim")):
        change(out / "run.json", stages=[path])
        refused(promot, trained[1], folder, ["run.json is damaged"])
    (out / "run.json").write_bytes(sealed)
    (out / "1-prompt").symlink_to(folder / "victim")
    refused(promot, trained[1], folder, ["1-prompt' is a link: remove it"])


@pytest.mark.parametrize("name", ["config.gin", "run.json", "data.json", "sentencepiece.model"])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_work_directory_is_whole(promot, trained, folder, name, how):
    """Never adopted: checkpoints without it could be of any settings."""
    path = folder / "out" / name
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    refused(promot, trained[1], folder, [name, "restore it, or run into another WORKDIR"])


def test_data_that_changed(promot, trained, folder, rows):
    """After the end, or between the stages; put back, it goes on."""
    lines = rows.splitlines(keepends=True)
    for changed in (lines[:-1], lines[::-1], [*lines[:-1], "what?\tq\n"]):
        (folder / "mine.tsv").write_text("".join(changed), encoding="utf-8")
        says = ["WORKDIR = 'out'", "rows of mine/", "changed since", "restore the data"]
        refused(promot, trained[1], folder, says)
    shutil.rmtree(folder / "out/2-model")
    refused(promot, trained[1], folder, ["training rows of mine/train (1-prompt)"])


def test_validation_rows_that_changed(promot, folder, rows, tmp_path):
    """The same inputs, other answers: scores would lie on one curve."""
    arguments = [
        "eval", "out", "--gin.TASK=@data.file_task()", "--gin.data.file_task.name='valid'",
        "--gin.data.file_task.train='mine.tsv'", "--gin.data.file_task.validation='held.tsv'",
        *flags(EVAL_LIMIT=4, EVAL_BATCH_SIZE=4, BEAMS=1, MAX_OUTPUT_LENGTH=4, TARGET_SHOTS=(1,)),
    ]  # fmt: skip
    held = folder / "held.tsv"
    held.write_text("what?\tx\nwho?\ty\n", encoding="utf-8")
    assert promot(arguments, folder).code == 0
    assert promot(arguments, folder).code == 0
    held.write_text("what?\tx\nwho?\tx\n", encoding="utf-8")
    says = ["rows of valid/validation with 1 shots (1-evaluation)", "another WORKDIR"]
    refused(promot, arguments, folder, says)
    held.write_text("what?\tx\nwho?\ty\n", encoding="utf-8")
    (folder / "mine.tsv").write_text(rows.replace("what follows", "after"), encoding="utf-8")
    refused(promot, arguments, folder, says)  # the shots


def test_directories_that_are_no_run_s(promot, trained, folder):
    """Of an import, a stage, somebody's gin files: neither taken nor written to."""
    elsewhere = lambda path: [*trained[1], f"--gin.WORKDIR={path!r}"]  # noqa: E731
    imported = ["import", "hf", "imported"]
    assert promot(["export", "out", "hf"], folder).code == 0
    assert promot(imported, folder).code == 0
    refused(promot, elsewhere("imported"), folder, ["holds another run", "choose another"])
    refused(promot, elsewhere("hf"), folder, ["holds files that are no run's"])
    refused(promot, elsewhere("out/2-model"), folder, ["holds files that are no run's"])
    (folder / "mine").mkdir()
    (folder / "mine/config.gin").write_text("STEPS = 3\n", encoding="utf-8")
    refused(promot, elsewhere("mine"), folder, ["no run's (config.gin)"])


def test_moved_with_and_without_its_base(promot, trained, folder, tmp_path):
    """Every verb finds a base that moved along, and takes one that is named."""
    prompts = [part.replace("promot.gin", "prompt_tuning.gin") for part in trained[1]]
    prompts += flags(WORKDIR="runs/a", BASE="runs/model")
    (folder / "runs").mkdir()
    (folder / "out").rename(folder / "runs/model")
    assert promot(prompts, folder).code == 0
    (folder / "asked.jsonl").write_text(ASKED["asked.jsonl"], encoding="utf-8")
    evaluate = ["--gin.TASK=@data.file_task()", "--gin.data.file_task.name='mine'"]
    evaluate += ["--gin.data.file_task.train='mine.tsv'", *flags(BEAMS=1)]
    evaluate += flags(EVAL_BATCH_SIZE=2, MAX_OUTPUT_LENGTH=4)

    def verbs(n, *more):
        yield ["infer", "runs/a", "--input=asked.jsonl", f"--output=o{n}.jsonl", *more]
        yield ["export", "runs/a", f"hf{n}", *more]
        yield ["eval", "runs/a", *evaluate, *flags(EVAL_LIMIT=n + 1), *more]

    moved = tmp_path / "moved"
    folder.rename(moved)
    for command in [*verbs(0), [*prompts, *flags(ACCUMULATE=2)]]:
        done = promot(command, moved)
        assert done.code == 0, done.err
    (moved / "runs/model").rename(moved / "far")
    for command in verbs(1):
        one_line(promot(command, moved), ["none of the places tried", "runs/model'", "--base"])
    for command in verbs(2, "--base=far"):
        done = promot(command, moved)
        assert done.code == 0, done.err
    done = promot([*prompts, *flags(BASE="far")], moved)
    assert done.code == 0, done.err
    for command in verbs(3):  # known by now
        done = promot(command, moved)
        assert done.code == 0, done.err


IN_THE_WAY = {
    "symbolic links": lambda root: (root / "other").symlink_to(root / "other"),
    "a link to nothing": lambda root: (root / "other").symlink_to(root / "none"),
    "is no directory": lambda root: (root / "other").write_text("mine", encoding="utf-8"),
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_in_the_way_of_a_work_directory(promot, trained, folder, kind):
    IN_THE_WAY[kind](folder)
    arguments = [*trained[1], *flags(WORKDIR="other")]
    refused(promot, arguments, folder, ["WORKDIR", "'other'", kind, "another"])


@pytest.mark.parametrize("name", ["2-model", "2-model/checkpoints", "2-model/metrics.jsonl"])
def test_in_the_way_of_a_stage(promot, trained, folder, name):
    """A file in the place of a directory, or the other way round, in a run that goes on."""
    path = folder / "out" / name
    shutil.rmtree(folder / "out/2-model")
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if path.suffix else path.write_text("mine", encoding="utf-8")
    done = promot(trained[1], folder)
    assert done.code in (1, 2) and done.err.count("\n") == 1 and f"out/{name}" in done.err, done.err

"""A TSV of one's own through every verb. All it takes is three settings:

--gin.TASK=@data.file_task()
--gin.data.file_task.name='"mine"'
--gin.data.file_task.train='"mine.tsv"'
"""

import json
import shutil

import pytest
from command_lines import SMALL, flags, own_task, run

from promot_jax.files import seal
from promot_jax.models import Decoding
from promot_jax.run import LanguageModel

EVALUATION = {
    name: SMALL[name] for name in ("INPUT_LENGTH", "TARGET_LENGTH", "BEAMS", "EVAL_LIMIT")
}
SHORT = {"max_length": 8}


def snapshot(folder):
    """Every file with its content and time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def out(trained, tmp_path):
    """A copy of the finished work directory."""
    return shutil.copytree(trained[0] / "out", tmp_path / "out")


def test_run_leaves_a_work_directory(trained):
    out = trained[0] / "out"
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {(row["method"], row["task"], row["group"]) for row in rows} == {
        ("promot", "mine", "target")
    }
    assert {(row["stage"], row["step"]) for row in rows if row["selected"]} <= {
        (stage, step) for stage in ("1-prompt", "2-model") for step in (0, 2)
    }
    for stage in ("1-prompt", "2-model"):
        assert [
            json.loads(line)["step"]
            for line in (out / stage / "metrics.jsonl").open(encoding="utf-8")
        ] == [2]
        assert (out / stage / "checkpoints" / "2").is_dir()
        assert sorted(path.name for path in (out / stage / "samples").iterdir()) == [
            "mine.0shot.0.jsonl", "mine.0shot.2.jsonl",
        ]  # fmt: skip
        assert list((out / stage / "tensorboard").iterdir())
    assert (out / "report.html").stat().st_size > 10_000
    assert "data.file_task.train = 'mine.tsv'" in (out / "config.gin").read_text(encoding="utf-8")


def test_run_again_changes_nothing(promot, trained, tmp_path):
    folder, arguments = trained
    shutil.copytree(folder, tmp_path / "run")
    reports = {"report.html", *(path.name for path in (folder / "out").glob("*.png"))}
    before = snapshot(tmp_path / "run")
    result = promot([*arguments, "--gin.MESH={'data': 2}"], tmp_path / "run")
    assert result.code == 0, result.err
    after = snapshot(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed <= reports | {"results.json"}
    assert all(after[path][0] == before[path][0] for path in after if path.name not in reports)


def test_an_override_is_in_force(promot, rows, tmp_path):
    """The last of several values counts, whether a recipe or a flag gave the others."""
    (tmp_path / "mine.tsv").write_text(rows, encoding="utf-8")
    stage = "--gin.model/run.Stage"
    more = [f"{stage}.evaluations=[]", f"{stage}.select=None", f"{stage}.log_every=1"]
    result = promot(run("--gin.STEPS=1", "--gin.STEPS=3", *more), tmp_path)
    assert result.code == 0, result.err
    lines = (tmp_path / "out/1-model/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert not (tmp_path / "out/results.json").exists()  # nothing was evaluated


def test_infer_with_and_without_prompt_resumes(promot, out, tmp_path):
    asked = [{"inputs": f"what follows {a}?", "prompt": p} for a in "abc" for p in ("target", None)]
    asked += [{"inputs": "and this?"}]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8"
    )
    arguments = [
        "infer", "out", "--input=in.jsonl", "--output=out.jsonl", "--prompt=target",
        "--batch_size=2", "--max_length=8",
    ]  # fmt: skip
    result = promot(arguments, tmp_path)
    assert result.code == 0, result.err
    assert "7 outputs in out.jsonl" in result.err
    whole = (tmp_path / "out.jsonl").read_bytes()
    answers = [json.loads(line) for line in whole.splitlines()]
    assert [row["inputs"] for row in answers] == [row["inputs"] for row in asked]
    assert [row["prompt"] for row in answers] == ["target", None] * 3 + ["target"]

    cut = whole[: len(whole) * 2 // 3]
    assert not cut.endswith(b"\n")
    (tmp_path / "out.jsonl").write_bytes(cut)
    assert promot(arguments, tmp_path).code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == whole

    texts, prompts = [row["inputs"] for row in answers], [row["prompt"] for row in answers]
    model = LanguageModel(str(out), mesh={"data": 1})
    assert model.prompts == ("target",)
    outputs = model.generate(texts, prompts, Decoding(**SHORT))
    assert outputs == [row["output"] for row in answers]


def test_infer_of_plain_text(promot, out, tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo\n", encoding="utf-8")
    arguments = ["infer", "out/2-model", "--input=in.txt", "--output=out.jsonl", "--batch_size=2"]
    assert promot([*arguments, "--max_length=8"], tmp_path).code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open(encoding="utf-8")]
    assert [(row["inputs"], row["prompt"]) for row in rows] == [("one", None), ("two", None)]


def test_infer_scores(promot, out, tmp_path):
    rows = [{"inputs": text, "targets": "a"} for text in ("one", "two " * 40)]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    result = promot(
        ["infer", "out", "--input=in.jsonl", "--output=out.jsonl", "--score", "--prompt=target",
         "--input_length=32", "--too_long=flag", "--batch_size=2", "--mesh=fsdp=2"],
        tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.err
    short, long = (json.loads(line) for line in (tmp_path / "out.jsonl").open())
    assert short["score"] < 0 < short["tokens"] and "too_long" not in short
    assert long["score"] is None and long["too_long"] > 32


def test_eval(promot, out, rows, tmp_path):
    (tmp_path / "mine.tsv").write_text(rows, encoding="utf-8")
    task = own_task("mine.tsv", "mine")
    result = promot(["eval", "out", *task, *flags(PROMPT="target", **EVALUATION)], tmp_path)
    assert result.code == 0, result.err
    trained = json.loads((out / "results.json").read_text(encoding="utf-8"))
    [row] = json.loads((out / "evaluation/results.json").read_text(encoding="utf-8"))
    [best] = [r for r in trained if r["stage"] == "2-model" and r["selected"]]
    assert {n: row[n] for n in ("task", "prompt", "value", "n")} == {
        n: best[n] for n in ("task", "prompt", "value", "n")
    }


def test_eval_again(promot, out, rows, tmp_path):
    """The same is not done twice; other settings, or another checkpoint, are scored anew."""
    (tmp_path / "mine.tsv").write_text(rows, encoding="utf-8")
    task = own_task("mine.tsv", "mine")

    def scored(*more):
        result = promot(["eval", "out", *task, *flags(**EVALUATION), *more], tmp_path)
        assert result.code == 0, result.err
        return result.err.split("results: ")[1].split()[0]

    assert scored() == scored() == "out/evaluation/results.json"
    (out / "evaluation/results.json").unlink()  # as after an evaluation that failed: used again
    assert scored() == "out/evaluation/results.json"
    before = (out / "evaluation/results.json").stat().st_mtime_ns
    assert scored("--gin.EVAL_LIMIT=3") == "out/evaluation-2/results.json"
    assert (out / "evaluation/results.json").stat().st_mtime_ns == before
    note = out / "2-model/checkpoints/2/note/metadata"
    told = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps(seal(told | {"written": 1})), encoding="utf-8")
    assert scored() == "out/evaluation-3/results.json"


def test_report(script, out, tmp_path):
    (out / "report.html").unlink()
    result = script(["report", "out"], tmp_path)
    assert result.code == 0 and "target: mine (exact_match)" in result.err
    assert result.out == "out/report.html\n"
    assert "promot" in (out / "report.html").read_text(encoding="utf-8")

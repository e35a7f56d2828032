"""A page of one run: its base, and what promot eval scored of its checkpoint afterwards."""

import json
import os

import pytest
from report_workdirs import rows_of, write_results

from promot_jax.errors import UserError
from promot_jax.files import seal
from promot_jax.report import report, summary
from promot_jax.report.results import Checkpoint
from promot_jax.report.sources import gather
from promot_jax.report.table import Results

STAGES = ["1-prompt", "2-model"]
WRITTEN = 1795701059962409636


def row(**changes):
    plain = {
        "method": "promot", "stage": "2-model", "step": 100, "task": "nli", "group": "target",
        "shots": 0, "prompt": True, "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6,
        "n": 100, "format_share": 0.25, "selected": True, "seed": 3, "learning_rate": 1e-3,
    }  # fmt: skip
    return seal(plain | changes)


def held(**changes):
    return row(**{"task": "qa", "group": "qa", "prompt": False} | changes)


BEFORE = {"stage": "1-prompt", "step": 0, "selected": False}
RUN = [
    row(**BEFORE, value=0.1), held(**BEFORE, value=0.9),
    row(stage="1-prompt", step=50, value=0.7), held(stage="1-prompt", step=50, value=0.88),
    row(step=0, value=0.7, selected=False), held(step=0, value=0.88, selected=False),
    row(value=0.95), held(value=0.45),
]  # fmt: skip


def workdir(folder, rows=RUN, base="runs/base", targets=("nli",), stages=STAGES):
    write_results(folder, rows)
    about = {"method": "promot", "stages": list(stages), "targets": list(targets), "base": base}
    (folder / "run.json").write_text(json.dumps(seal(about)), encoding="utf-8")
    return folder


def evaluation(run, rows, name="evaluation", of=f"2-model/100 of {WRITTEN}", targets=("nli",)):
    """What promot eval leaves below a run."""
    own = {"stage": "1-evaluation", "step": 0, "seed": 0, "learning_rate": None, "selected": True}
    folder = workdir(run / name, [seal(r | own) for r in rows], "runs/x", targets, ["1-evaluation"])
    text = f"BASE = 'x'\nCHECKPOINT = \\\n    {of!r}\nWORKDIR = 'y'\n"
    (folder / "config.gin").write_text(text, encoding="utf-8")
    return folder


def checkpoint(run, stage="2-model", step=100, written=WRITTEN):
    """The file by which a checkpoint is known."""
    folder = run / stage / "checkpoints" / str(step) / "note"
    folder.mkdir(parents=True)
    (folder / "metadata").write_text(json.dumps({"written": written}), encoding="utf-8")


def lines(source):
    results = Results(source.rows)
    return {line.method: line for line in results.lines}, results


def values(checkpoint):
    return {(r.task, r.shots): r.score.value for r in checkpoint.rows}


def test_step_0_without_prompt_is_the_base(tmp_path):
    source = gather(workdir(tmp_path))
    found, results = lines(source)
    assert list(found) == ["base", "promot"]
    assert values(found["base"].finals[0]) == {("qa", 0): 0.9}  # not the target with its prompt
    assert found["base"].final(Checkpoint.format_share).value == 0.25
    assert results.kept(found["promot"]) == pytest.approx(0.5)
    assert source.remarks == [
        "base: the model before tuning, as scored without prompt at step 0 of 1-prompt."
    ]
    assert source.remarks[0] in report(str(tmp_path)).read_text(encoding="utf-8")


def test_a_target_asked_without_prompt_is_in_the_base_too(tmp_path):
    first = {"stage": "1-model", "method": "finetune", "prompt": False}
    rows = [row(**first | {"step": 0, "selected": False}, value=0.2), row(**first, value=0.9)]
    found, _ = lines(gather(workdir(tmp_path, rows, stages=["1-model"])))
    assert values(found["base"].finals[0]) == {("nli", 0): 0.2}


@pytest.mark.parametrize(
    ("rows", "base"),
    [
        (RUN, None),  # random weights are no base
        ([*RUN, held(method="base", stage="", step=0)], "runs/base"),  # it is there already
        ([r for r in RUN if r["step"]], "runs/base"),
        ([r for r in RUN if r["prompt"] or r["step"]], "runs/base"),
        ([held(stage="1-prompt", step=0)], "runs/base"),  # nothing else was measured
    ],
)
def test_what_is_no_base_is_not_called_so(tmp_path, rows, base):
    source = gather(workdir(tmp_path, rows, base))
    assert source.rows == rows and source.remarks == []


def test_pages_of_several_runs_have_the_base_that_they_name(tmp_path):
    rows = rows_of("base") + rows_of("promot")
    assert gather(write_results(tmp_path, rows)).rows == rows


def test_evaluations_add_other_tasks_and_shots_of_the_same_checkpoint(tmp_path):
    run = workdir(tmp_path / "lr[1e-3]")
    checkpoint(run)
    evaluation(run, [held(shots=4, value=0.6), held(task="sum", group="sum", value=0.3)])
    evaluation(run, [held(shots=4, value=0.1), held(shots=1, value=0.2)], "evaluation-2")
    evaluation(run, [held(shots=2, value=0.25)], "evaluation-10")
    source = gather(run)
    found, results = lines(source)
    assert values(found["promot"].finals[0]) == {
        ("nli", 0): 0.95, ("qa", 0): 0.45, ("qa", 4): 0.6, ("sum", 0): 0.3, ("qa", 1): 0.2,
        ("qa", 2): 0.25,
    }  # fmt: skip
    assert not results.sweep and len(found["promot"].finals) == 1
    assert values(found["base"].finals[0]) == {("qa", 0): 0.9}
    assert source.remarks[1:] == [
        f"Scores of {name} are of 2-model/100."
        for name in ("evaluation", "evaluation-2", "evaluation-10")
    ]
    assert "1 of 2 scores of evaluation-2 are not here" in source.notes[0]
    page = report(str(run)).read_text(encoding="utf-8")
    assert all(note in page for note in (*source.remarks, *source.notes))
    assert summary(str(run))[1][-1] == source.notes[0]


def test_scores_with_another_scale_of_lora_are_not_mixed_in(tmp_path):
    """The page says where held-out tasks were answered without it."""
    scale = lambda r: float(r["group"] == "target")  # noqa: E731
    run = workdir(tmp_path, [seal(r | {"lora": scale(r)}) for r in RUN])
    checkpoint(run)
    more = [held(shots=4, lora=0.0), held(shots=1, lora=1.0), row(task="nli", shots=1, lora=0.0)]
    evaluation(run, more)
    source = gather(run)
    assert {(r["task"], r["shots"]) for r in source.rows} == {("nli", 0), ("qa", 0), ("qa", 4)}
    assert "2 of 3 scores of evaluation are not here" in source.notes[0]
    assert "no prompt (promot: and no LoRA)" in report(str(run)).read_text(encoding="utf-8")


def test_an_evaluation_of_an_earlier_step_is_not_in_the_table(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [held(shots=4, value=0.6)], of=f"2-model/0 of {WRITTEN}")
    source = gather(run)
    found, results = lines(source)
    assert values(found["promot"].finals[0]) == {("nli", 0): 0.95, ("qa", 0): 0.45}
    assert source.remarks[-1] == (
        "Scores of evaluation are of 2-model/0, which is not the selected checkpoint: they are in"
        " curves alone."
    )


def test_an_evaluation_of_the_last_stage_s_directory_counts_too(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [held(shots=4, value=0.6)], "2-model/evaluation")
    evaluation(run, [held(shots=1, value=0.6)], "1-prompt/evaluation", f"1-prompt/50 of {WRITTEN}")
    source = gather(run)
    assert {r["shots"] for r in source.rows} == {0, 4} and source.notes == []
    assert source.remarks[-1] == "Scores of 2-model/evaluation are of 2-model/100."


def test_the_same_scores_again_are_no_matter(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [held(value=0.45), row(value=0.95)])
    source = gather(run)
    assert source.notes == [] and len(source.remarks) == 1 and len(source.rows) == len(RUN) + 1


def test_rows_of_the_run_are_never_counted_twice(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [row(value=0.1), held(value=0.1), row(prompt=False, value=0.3)])
    found, results = lines(gather(run))
    assert values(found["promot"].finals[0]) == {("nli", 0): 0.95, ("qa", 0): 0.45}
    assert found["promot"].final(Checkpoint.target).value == 0.95


def test_what_another_evaluation_aims_at_is_no_target_of_this_run(tmp_path):
    run = workdir(tmp_path)
    rows = [row(task="rte", prompt=False, value=0.2), row(task="nli", group="nli", shots=4)]
    evaluation(run, rows, targets=["rte"])
    found, results = lines(gather(run))
    assert results.target_name() == "target: nli (accuracy)"
    assert found["promot"].final(Checkpoint.target).value == 0.95
    groups = {(r.task, r.shots): (r.group, r.format_share) for r in found["promot"].finals[0].rows}
    assert groups["rte", 0] == ("other", None)  # shares there are of another format
    assert groups["nli", 4] == ("target", None)


@pytest.mark.parametrize(
    ("of", "written", "says"),
    [
        (f"2-model/100 of {WRITTEN}", WRITTEN + 1, "of an earlier 2-model/100 than the one"),
        (f"1-prompt/50 of {WRITTEN}", WRITTEN, "of 1-prompt/50, and the table is of 2-model"),
        (f"../x/100 of {WRITTEN}", WRITTEN, "does not say of which checkpoint"),
        ("something else", WRITTEN, "does not say of which checkpoint"),
    ],
)
def test_scores_of_other_checkpoints_are_left_out(tmp_path, of, written, says):
    run = workdir(tmp_path)
    checkpoint(run, written=written)
    evaluation(run, [held(shots=4)], of=of)
    source = gather(run)
    assert {r["shots"] for r in source.rows} == {0}
    (note,) = source.notes
    assert note.startswith("Left out, scores of evaluation: ") and says in note


def test_a_step_that_the_run_itself_did_not_score_is_the_run_s_too(tmp_path):
    run = workdir(tmp_path, [r for r in RUN if r["step"] < 100])
    evaluation(run, [held(shots=4, value=0.3)], of=f"2-model/90 of {WRITTEN}")
    found, results = lines(gather(run))
    assert not results.sweep
    (final,) = found["promot"].finals
    assert (final.step, final.seed, final.learning_rate) == (90, 3, 1e-3)


def test_a_run_without_scores_of_its_own_shows_those_of_its_evaluation(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [held(method="base", value=0.8), row(method="base", prompt=False)])
    (run / "results.json").unlink()
    source = gather(run)
    assert {(r["method"], r["stage"], r["step"]) for r in source.rows} == {("base", "2-model", 100)}
    report(str(run))


def test_damaged_evaluations_are_left_out_and_told(tmp_path):
    run = workdir(tmp_path)
    evaluation(run, [held(shots=4)], "evaluation")
    evaluation(run, [held(shots=1)], "evaluation-2")
    evaluation(run, [held(shots=2)], "evaluation-3")
    evaluation(run, [held(shots=3)], "evaluation-4")
    (run / "evaluation" / "results.json").write_text("[3]", encoding="utf-8")
    (run / "evaluation-2" / "results.json").unlink()  # has not come to its end
    (run / "evaluation-3" / "run.json").write_text("[]", encoding="utf-8")
    (run / "evaluation-4" / "config.gin").unlink()
    (run / "evaluation-5").write_text("", encoding="utf-8")
    source = gather(run)
    assert {r["shots"] for r in source.rows} == {0}
    assert [note.split(":")[0].split()[-1] for note in source.notes] == [
        "evaluation", "evaluation-3", "evaluation-4", "evaluation-5"
    ]  # fmt: skip


def test_a_row_that_was_altered_is_refused(tmp_path):
    text = json.dumps(RUN)
    (workdir(tmp_path) / "results.json").write_text(text.replace("0.45", "0.54"), encoding="utf-8")
    with pytest.raises(UserError, match=r"row 8 of results.json .*checksum"):
        report(str(tmp_path))


@pytest.mark.parametrize(
    "about",
    ["[]", "{", '{"stages": 3, "targets": []}', '{"stages": ["a"], "targets": [3]}',
     json.dumps(seal({"stages": [], "targets": []}) | {"base": "x"})],
)  # fmt: skip
def test_a_damaged_run_json_is_named(tmp_path, about):
    (workdir(tmp_path) / "run.json").write_text(about, encoding="utf-8")
    with pytest.raises(UserError, match="run.json is damaged"):
        report(str(tmp_path))


@pytest.mark.parametrize("stage", ["../victim", "/abs/victim", ".."])
def test_stages_lie_in_the_work_directory(tmp_path, stage):
    with pytest.raises(UserError, match="is no plain name"):
        report(str(workdir(tmp_path, stages=["1-prompt", stage])))


def test_a_stage_directory_is_told_from_a_work_directory(tmp_path):
    stage = workdir(tmp_path) / "2-model"
    stage.mkdir()
    with pytest.raises(UserError, match=r"2-model' is a stage of .*: give that"):
        report(str(stage))
    with pytest.raises(UserError, match="does not exist"):
        report(os.path.join(tmp_path, "nowhere"))

"""Runs in this process: what they leave behind, and what the next stage starts from."""

import contextlib
import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from promot_jax.data import file_task
from promot_jax.errors import UserError
from promot_jax.models import Decoding, Prompt, build, unstack_layers
from promot_jax.run import LanguageModel, Stage, run
from promot_jax.training import Checkpoints, Diverged, adamw, make_mesh
from promot_jax.training.variables import Layout, load

STEPS = 16
BRIEF = {"evaluations": [], "select": None, "log_every": 1, "checkpoint_every": None}


both_kinds = pytest.mark.parametrize("kind", tiny_run.KINDS, indirect=True)


@pytest.fixture(scope="module")
def finished(task, kind, tmp_path_factory):
    """ProMoT, run to its end."""
    workdir = tmp_path_factory.mktemp("finished") / "work"
    return run(tiny_run.settings(str(workdir), task, kind=kind))


def layout_of(settings) -> Layout:
    model = build(settings.model, [(p.name, p.length) for p in settings.prompts])
    return Layout(model, make_mesh(settings.mesh))


def rows_of(workdir: Path) -> list[dict]:
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))


def stored(workdir: Path, stage: str) -> tuple[dict[str, np.ndarray], dict]:
    """Variables and note of a stage's best checkpoint, and nothing else."""
    directory = workdir / stage / "checkpoints"
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        step = checkpoints.best()
        variables = checkpoints.variables(step, checkpoints.shapes(step))
        return {path: np.asarray(x) for path, x in variables.items()}, checkpoints.note(step)


@both_kinds
def test_what_lies_in_a_work_directory(finished):
    names = {"config.gin", "run.json", "data.json", "results.json", "1-prompt", "2-model"}
    assert {path.name for path in finished.iterdir()} == names
    for stage in ("1-prompt", "2-model"):
        inside = {path.name for path in (finished / stage).iterdir()}
        assert inside == {"checkpoints", "metrics.jsonl", "tensorboard", "samples"}
        samples = {path.name for path in (finished / stage / "samples").iterdir()}
        assert samples == {f"{tiny_run.TASK}.0shot.{step}.jsonl" for step in (0, 8, 16)}


@both_kinds
def test_results(finished):
    rows = rows_of(finished)
    assert [(r["stage"], r["step"]) for r in rows] == [
        (stage, step) for stage in ("1-prompt", "2-model") for step in (0, 8, 16)
    ]
    assert all(r["method"] == "promot" and r["group"] == "target" and r["prompt"] for r in rows)
    assert {r["learning_rate"] for r in rows} == {0.05, 0.01}
    for stage in ("1-prompt", "2-model"):
        scores = {r["step"]: r["value"] for r in rows if r["stage"] == stage and r["step"]}
        best = max(scores, key=lambda step: (scores[step], step))
        assert [r["step"] for r in rows if r["stage"] == stage and r["selected"]] == [best]


def test_a_stage_one_checkpoint_is_its_prompt(finished):
    variables, note = stored(finished, "1-prompt")
    assert set(variables) == {"prompt/target"}
    assert note["reference"]["seed"] == 3
    assert len(note["reference"]["digest"]) == 16


@both_kinds
def test_what_stage_two_leaves_is_complete(finished, task, kind):
    variables, note = stored(finished, "2-model")
    assert set(variables) == set(layout_of(tiny_run.settings("", task, kind=kind)).abstract())
    assert note["reference"]["digest"] is None
    prompt = stored(finished, "1-prompt")[0]["prompt/target"]
    np.testing.assert_array_equal(variables["prompt/target"], prompt)


@both_kinds
def test_a_stage_directory_loads_with_what_it_refers_to(finished, task, kind):
    layout = layout_of(tiny_run.settings("", task, kind=kind))
    first, last = (load(str(finished / stage), layout) for stage in ("1-prompt", "2-model"))
    assert set(first) == set(last) == set(layout.abstract())
    np.testing.assert_array_equal(first["prompt/target"], last["prompt/target"])
    random = layout.random(3)
    assert all(np.array_equal(first[p], random[p]) for p in first if p.startswith("params/"))
    assert not any(np.array_equal(last[p], random[p]) for p in last if p.endswith("kernel"))


@both_kinds
def test_a_finished_run_does_nothing(finished, task, kind):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    before.pop(finished / "results.json")
    text = (finished / "results.json").read_text(encoding="utf-8")
    run(tiny_run.settings(str(finished), task, kind=kind))
    after = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    after.pop(finished / "results.json")
    assert before == after and text == (finished / "results.json").read_text(encoding="utf-8")


def test_another_run_s_directory_is_refused(finished, task):
    changed = tiny_run.settings(str(finished), task, seed=4)
    with pytest.raises(UserError, match=r"holds another run \(there: seed = 3; now: seed = 4\)"):
        run(changed)
    with pytest.raises(UserError, match="holds another run"):
        run(tiny_run.settings(str(finished), task), config="OTHER = 1\n")


def test_a_directory_left_before_it_was_described_is_taken(task, tmp_path):
    """Killed while it was made; somebody's other files are not touched, though."""
    from promot_jax.run.workdir import claim

    settings = tiny_run.settings(str(tmp_path / "work"), task)
    with claim(settings, "SEED = 3\n", {}):
        pass
    (tmp_path / "work" / "run.json").unlink()
    (tmp_path / "work" / "config.gin").write_text("", encoding="utf-8")
    with claim(settings, "SEED = 3\n", {}) as root:
        assert root == tmp_path / "work"
        with pytest.raises(UserError, match="in use by another process"):
            claim(settings, "SEED = 3\n", {}).__enter__()
    for name in ("thesis.tex", "config.gin"):
        other = tmp_path / name
        other.mkdir()
        (other / name).write_text("mine", encoding="utf-8")
        with pytest.raises(UserError, match=rf"holds files that are no run's \({name}\)"):
            claim(dataclasses.replace(settings, workdir=str(other)), None, {}).__enter__()
        assert (other / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("before", ["nothing", "a run that left nothing"])
def test_killed_while_a_work_directory_is_made(task, tmp_path, before):
    """Whichever file was the last one written, the same command makes it anew."""
    from promot_jax.run.workdir import claim

    class Killed(BaseException):
        pass

    def dying(real, left):
        def at(*given, **named):
            left.pop()
            if not left:
                raise Killed
            return real(*given, **named)

        return at

    settings = tiny_run.settings(str(tmp_path / "work"), task)
    if before != "nothing":
        with claim(settings, "SEED = 2\n", {}):
            pass
    for moment in itertools.count(1):
        left = [None] * moment
        with pytest.MonkeyPatch.context() as patch:  # the moment alone: the files are real
            for name in ("write_bytes", "write_text", "unlink", "replace"):
                patch.setattr(Path, name, dying(getattr(Path, name), left))
            with contextlib.suppress(Killed), claim(settings, "SEED = 3\n", {}):
                break
    assert moment > 6
    assert (tmp_path / "work/config.gin").read_text(encoding="utf-8") == "SEED = 3\n"


def test_the_next_stage_starts_from_the_best_checkpoint(task, tmp_path):
    """The first stage gets better and is then spoilt by a schedule that jumps."""
    import optax

    spoilt = optax.piecewise_constant_schedule(0.02, {STEPS: 1000.0})
    first = tiny_run.stage(
        "first",
        "params",
        STEPS + 8,
        task,
        learning_rate=spoilt,
        checkpoint_every=None,
        optimizer=adamw,
    )
    second = tiny_run.stage(
        "second", "prompt", 1, task, learning_rate=0.0, optimizer=adamw, evaluations=[], select=None
    )
    workdir = run(tiny_run.settings(str(tmp_path / "work"), task, stages=[first, second]))
    scores = {r["step"]: r["value"] for r in rows_of(workdir) if r["stage"] == "1-first"}
    best = max((step for step in scores if step), key=lambda step: (scores[step], step))
    assert best < STEPS + 8, scores
    kept = {path.name for path in (workdir / "1-first" / "checkpoints").iterdir()}
    assert {str(best), str(STEPS + 8)} == {name for name in kept if name.isdecimal()}
    layout = layout_of(tiny_run.settings("", task))
    first, second = (load(str(workdir / stage), layout) for stage in ("1-first", "2-second"))
    assert all(np.array_equal(first[p], second[p]) for p in first)
    model = LanguageModel(str(workdir), {"data": 1})
    answer = model.generate(["what follows ab?"], "target", Decoding(4))
    assert (
        answer
        == [
            row["output"]
            for row in samples(workdir / "1-first", best)
            if row["input"] == "what follows ab?"
        ][:1]
    )


def test_the_best_checkpoint_is_whole(finished, task, tmp_path):
    """Also one from before the model was unfrozen, and spoilt: it holds the prompt alone."""
    joint = tiny_run.stage(
        "joint", "prompt", 12, task, unfreeze=8, evaluate_every=4, learning_rate=0.0
    )
    spoils = dataclasses.replace(joint.train[1], learning_rate=5.0)
    joint = dataclasses.replace(joint, train=[joint.train[0], spoils])
    second = tiny_run.stage("second", "prompt", 1, task, learning_rate=0.0, **BRIEF)
    settings = tiny_run.settings(
        str(tmp_path / "work"), task, stages=[joint, second], base=str(finished)
    )
    workdir = run(settings)
    scores = {r["step"]: r["value"] for r in rows_of(workdir)}
    assert scores[8] > scores[12] and [r["step"] for r in rows_of(workdir) if r["selected"]] == [8]
    assert set(stored(workdir, "1-joint")[0]) == {"prompt/target"}
    layout = layout_of(settings)
    first, last = (load(str(workdir / stage), layout) for stage in ("1-joint", "2-second"))
    assert all(np.array_equal(first[path], last[path]) for path in layout.abstract())


def test_a_stopped_evaluation_is_done_again(task, tmp_path):
    """The checkpoint is saved at once; its scores come when the run goes on."""
    import os
    import signal

    from promot_jax.evaluation import Evaluator
    from promot_jax.training import Interrupted

    alone = run(tiny_run.settings(str(tmp_path / "alone"), task))
    settings = tiny_run.settings(str(tmp_path / "stopped"), task)
    asked = Evaluator.__call__

    def stop_at_8(self, generate, step, *more):
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, generate, step, *more)

    with (
        pytest.MonkeyPatch.context() as patch
    ):  # the moment alone: everything else is the real thing
        patch.setattr(Evaluator, "__call__", stop_at_8)
        with pytest.raises(Interrupted, match="stopped in stage 1-prompt"):
            run(settings)
    stage = tmp_path / "stopped" / "1-prompt" / "checkpoints"
    assert {x.name for x in stage.iterdir() if x.name.isdecimal()} >= {"8"}
    assert [r["step"] for r in rows_of(tmp_path / "stopped")] == [0]
    workdir = run(settings)
    assert (workdir / "results.json").read_text(encoding="utf-8") == (
        alone / "results.json"
    ).read_text(encoding="utf-8")
    for name in ("1-prompt", "2-model"):
        ours, theirs = stored(workdir, name)[0], stored(alone, name)[0]
        assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def test_a_run_that_left_nothing_is_replaced(task, tmp_path):
    """Refused or out of memory at once, it may be corrected in its place; not one with scores."""
    from promot_jax.run.workdir import check, claim

    settings = tiny_run.settings(str(tmp_path / "work"), task)
    with claim(settings, "BATCH_SIZE = 64\n", {}):
        pass
    with claim(settings, "BATCH_SIZE = 8\n", {}) as root:
        assert (root / "config.gin").read_text(encoding="utf-8") == "BATCH_SIZE = 8\n"
    (root / "results.json").write_text("[]\n", encoding="utf-8")
    with pytest.raises(UserError, match="there: BATCH_SIZE = 8; now: BATCH_SIZE = 4"):
        check(settings, "BATCH_SIZE = 4\n", {})
    assert check(settings, f"BATCH_SIZE = 8\nWORKDIR = \\\n    '{'long' * 30}'\n", {})


def test_several_tasks_select_together(task, tmp_path):
    """The best checkpoint is that of the best mean, each score as a share of its scale."""
    from promot_jax.run.stage import selecting_score

    stage = tiny_run.stage("both", "prompt", 8, task)
    asked = dataclasses.replace(stage.evaluations[0], tasks=[task, "other"])
    stage = dataclasses.replace(stage, evaluations=[asked], select=[task, "other"])
    rows = [
        {"task": task, "shots": 4, "value": 0.9, "scale": 1},  # another evaluation's
        {"task": task, "shots": 0, "value": 0.5, "scale": 1},
        {"task": task, "shots": 0, "value": 0.0, "scale": 1},  # a second metric
        {"task": "other", "shots": 0, "value": 30.0, "scale": 100},
    ]
    assert selecting_score(stage, rows) == pytest.approx(0.4)
    assert selecting_score(stage, [*rows[:3], rows[3] | {"value": None}]) is None
    assert selecting_score(stage, [rows[0], rows[3]]) is None  # the first evaluation was not due
    assert selecting_score(dataclasses.replace(stage, select=None), rows) is None
    with pytest.raises(UserError, match="two of its evaluations score .* with 0 shots"):
        dataclasses.replace(stage, evaluations=[asked, asked])


def samples(stage: Path, step: int) -> list[dict]:
    path = stage / "samples" / f"{tiny_run.TASK}.0shot.{step}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_that_ends_with_an_evaluation_can_be_loaded(task, tmp_path):
    short = tiny_run.stage("short", "prompt", 1, task, optimizer=adamw, evaluations=[], select=None)
    whole = tiny_run.stage("short", "prompt", 8, task)
    final = Stage("final", evaluations=whole.evaluations)
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=[short, final])
    workdir = run(settings)
    assert [(r["stage"], r["selected"]) for r in rows_of(workdir)] == [("2-final", True)]
    assert LanguageModel(str(workdir), {"data": 1}).prompts == ("target",)
    assert run(settings) == workdir and len(rows_of(workdir)) == 1


TARGET = (Prompt("target", 4),)


def one_stage(workdir, task, base, pattern="params", steps=2, prompts=TARGET, **changes):
    """A run of one short stage on a base."""
    prompt = "target" if any(p.name == "target" for p in prompts) else None
    stage = tiny_run.stage("only", pattern, steps, task, prompts=prompt, optimizer=adamw, **BRIEF)
    settings = tiny_run.settings(str(workdir), task, stages=[stage], prompts=prompts, base=base)
    return dataclasses.replace(settings, **changes)


def losses(workdir: Path) -> list[float]:
    lines = (workdir / "1-only" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_an_unrolled_base_trains_scanned_to_the_same_loss(finished, task, tmp_path):
    """Whichever layout the base has and whichever the run."""
    flat = dataclasses.replace(tiny_run.MODEL, scan_layers=False)
    found = {}
    for name, model, base in (
        ("scanned", tiny_run.MODEL, finished),
        ("unrolled", flat, finished),
        ("back", tiny_run.MODEL, tmp_path / "unrolled"),
        ("forth", flat, tmp_path / "unrolled"),
    ):
        settings = one_stage(
            tmp_path / name, task, str(base), model=dataclasses.replace(model, dropout_rate=0.0)
        )
        found[name] = losses(run(settings)), stored(tmp_path / name, "1-only")[0]
    np.testing.assert_allclose(found["scanned"][0], found["unrolled"][0], rtol=1e-4)
    np.testing.assert_allclose(found["back"][0], found["forth"][0], rtol=1e-4)
    assert unstack_layers(found["scanned"][1]).keys() == found["unrolled"][1].keys()


def test_a_base_with_prompts(finished, task, tmp_path):
    """Its prompts are kept, new ones are drawn, and ones not asked for are left out."""
    old = stored(finished, "2-model")[0]
    prompts = (Prompt("new", 3), Prompt("target", 4))
    both = run(one_stage(tmp_path / "both", task, str(finished), "params", prompts=prompts))
    variables, note = stored(both, "1-only")
    np.testing.assert_array_equal(variables["prompt/target"], old["prompt/target"])
    rows = old["params/token_embedder/embedding"]
    assert all((row == rows).all(axis=1).any() for row in variables["prompt/new"])
    assert note["reference"]["digest"] is None
    none = run(one_stage(tmp_path / "none", task, str(finished), "params", prompts=()))
    assert not any(path.startswith("prompt/") for path in stored(none, "1-only")[0])
    model = LanguageModel(str(both), {"data": 1})
    assert model.prompts == ("new", "target") and len(model.generate(["a"], ["new"])) == 1


def test_a_changed_base_is_noticed(finished, task, tmp_path):
    """What refers to a base is worth nothing without that very base."""
    base = tmp_path / "base"
    shutil.copytree(finished, base)
    settings = one_stage(tmp_path / "work", task, str(base), "prompt", steps=2)
    workdir = run(settings)
    layout = layout_of(settings)
    assert set(load(str(workdir), layout)) == set(layout.abstract())
    shutil.rmtree(base / "2-model")
    (base / "results.json").unlink()  # which knows of the stage
    with pytest.raises(UserError, match="base .* is no longer what this checkpoint was trained on"):
        load(str(workdir), layout)
    shutil.rmtree(base)
    with pytest.raises(UserError, match="BASE .* is no work directory"):
        load(str(workdir), layout)
    with pytest.raises(UserError, match="BASE .* is no work directory"):
        run(dataclasses.replace(settings, workdir=str(tmp_path / "again")))
    assert not (tmp_path / "again").exists()


def test_another_model_does_not_fit(finished, task, tmp_path):
    wide = dataclasses.replace(tiny_run.MODEL, mlp_dim=48)
    with pytest.raises(UserError, match="mlp_dim|does not fit the model"):
        run(one_stage(tmp_path / "work", task, str(finished), model=wide))


def test_other_data_is_noticed(tmp_path):
    """A stage that goes on is one that goes on with the same rows."""
    rows = [f"what is {a}{b}?\t{b}" for a in "abcdef" for b in "abc"]
    path = tmp_path / "own.tsv"
    workdir = str(tmp_path / "work")

    def go(rows, steps):
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        name = file_task("other_data", str(path), str(path), metric="accuracy")
        stage = tiny_run.stage("only", "prompt", steps, name, evaluations=[], select=None)
        return run(tiny_run.settings(workdir, name, stages=[stage]))

    go(rows, 2)
    for changed in ([*rows[:-1], "what is it?\tx"], rows[::-1], rows[1:]):
        with pytest.raises(UserError, match=r"training rows of other_data/train \(1-only\)"):
            go(changed, 2)
    go(rows, 2)


def test_a_base_s_prompts_that_a_recipe_has_not_are_left_out(finished, task, tmp_path):
    """From the prompt stage alone, whose checkpoint holds nothing else."""
    base = str(finished / "1-prompt")
    none = run(one_stage(tmp_path / "none", task, base, "params", prompts=()))
    assert not any(path.startswith("prompt/") for path in stored(none, "1-only")[0])


def test_a_checkpoint_holds_no_nan(task, tmp_path):
    """The last update is spoilt, and its metrics are those before it; the one before is left."""
    import jax.numpy as jnp
    import optax

    spoilt = lambda rate: optax.scale_by_schedule(lambda n: jnp.where(n < 3, 1e-3, jnp.inf))  # noqa: E731
    stage = tiny_run.stage("only", "prompt", 4, task, **BRIEF | {"checkpoint_every": 2})
    stage = dataclasses.replace(
        stage, train=[dataclasses.replace(stage.train[0], optimizer=spoilt)]
    )
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=[stage])
    with pytest.raises(
        Diverged, match=r"no longer finite after step 4 .*: give .* another WORKDIR"
    ):
        run(settings)
    variables, _ = stored(tmp_path / "work", "1-only")
    kept = {x.name for x in (tmp_path / "work/1-only/checkpoints").iterdir() if x.name.isdecimal()}
    assert kept == {"2"} and all(np.isfinite(x).all() for x in variables.values())


def test_checkpoints_by_time(task, tmp_path):
    """They stay, change nothing, and say for how long they held up the training."""
    found = {}
    for name, by_time in {
        "plain": {},
        "often": {"save_minutes": 1e-9, "keep_minutes": 1e-9},
    }.items():
        how = BRIEF | {"log_every": 2, "optimizer": adamw} | by_time
        settings = tiny_run.settings(
            str(tmp_path / name), task, stages=[tiny_run.stage("only", "prompt", 6, task, **how)]
        )
        work = run(settings)
        found[name] = stored(work, "1-only")[0], losses(work)
    checkpoints = tmp_path / "often/1-only/checkpoints"
    assert {x.name for x in checkpoints.iterdir() if x.name.isdecimal()} == {"2", "4", "6"}
    lines = (tmp_path / "often/1-only/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    held = [json.loads(line)["saving_seconds"] for line in lines]
    assert held[0] == 0 and min(held[1:]) > 0
    for step in ("4", "6"):
        shutil.rmtree(checkpoints / step)
    run(settings)
    found["again"] = stored(work, "1-only")[0], losses(work)
    for name in ("often", "again"):
        assert found[name][1] == found["plain"][1]
        for path, x in found["plain"][0].items():
            np.testing.assert_array_equal(found[name][0][path], x)


def test_a_gradient_of_nothing_is_said(task, tmp_path, capsys):
    """A prompt is trained that is in front of no input."""
    stage = tiny_run.stage("only", "prompt", 12, task, prompts=None, **BRIEF | {"optimizer": adamw})
    run(tiny_run.settings(str(tmp_path / "work"), task, stages=[stage]))
    said = [line for line in capsys.readouterr().err.splitlines() if "exactly 0" in line]
    assert len(said) == 1 and "since step 1, so nothing is learned" in said[0], said


def test_home_is_known(task, tmp_path, monkeypatch):
    """A `~` in quotes, which no shell has seen."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = one_stage("~/one", task, None, steps=1)
    assert run(settings) == tmp_path / "one"
    again = run(one_stage("~/two", task, "~/one", steps=1))
    assert again == tmp_path / "two" and {x.name for x in tmp_path.iterdir()} == {"one", "two"}

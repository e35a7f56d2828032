"""Stages that only generate: what they write, that it is replayed, and that nothing is lost."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import tiny_run

from promot_jax.data import Replay
from promot_jax.errors import UserError
from promot_jax.models import Decoding
from promot_jax.report.sources import gather
from promot_jax.run import Divergence, Generate, LanguageModel, Stage, run
from promot_jax.run.generation import Generator
from promot_jax.training import Interrupted

NAME = "made_rows"


def settings_of(workdir: Path, beside: str, rate: float = 0.5, **generate):
    """Free samples, or answers to a task's inputs; then they are replayed beside the task."""
    given = {"rows": 40, "batch_size": 16} | generate
    made = Stage("made", generate=Generate(NAME, **given))
    model = tiny_run.stage("model", "params", 8, beside, evaluations=[], select=None)
    replay = Replay(NAME, rate)
    model = dataclasses.replace(model, data=dataclasses.replace(model.data, replay=replay))
    return tiny_run.settings(str(workdir), beside, stages=[model], before=[made])


def rows_of(workdir: Path) -> list[dict]:
    lines = (workdir / "1-made" / "generated.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def loss_of(workdir: Path) -> list[float]:
    lines = (workdir / "2-model" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    return run(settings_of(tmp_path_factory.mktemp("made") / "work", task))


def test_free_samples_are_rows_without_inputs(finished):
    rows = rows_of(finished)
    made = json.loads((finished / "1-made" / "generated.json").read_text(encoding="utf-8"))
    assert (made["rows"], made["rows"] + made["lost"]) == (len(rows), 40)
    assert {row["inputs"] for row in rows} == {""} and all(row["targets"].strip() for row in rows)
    assert len({row["targets"] for row in rows}) > 30  # each its own
    assert all(len(row["targets"]) <= 7 for row in rows)  # they and their end fit into 8 tokens
    assert not (finished / "1-made" / "checkpoints").exists()


def test_a_task_s_inputs_are_answered_by_the_model_before(task, tmp_path):
    base = tiny_run.stage("base", "params", 4, task, prompts=None, evaluations=[], select=None)
    first = run(tiny_run.settings(str(tmp_path / "base"), task, stages=[base]))
    settings = settings_of(tmp_path / "work", task, task=task, rows=10, decoding=Decoding())
    workdir = run(dataclasses.replace(settings, base=str(first)))
    rows = rows_of(workdir)
    inputs = [f"what follows {a}{b}?" for a in "abcd" for b in "abc"][:10]
    outputs = LanguageModel(str(first), {"data": 1}).generate(inputs, decoding=Decoding(7))
    expected = [(x, y) for x, y in zip(inputs, outputs, strict=True) if y.strip()]
    assert [(row["inputs"], row["targets"]) for row in rows] == expected and expected


def test_a_killed_stage_goes_on(finished, task, tmp_path, monkeypatch):
    """With the answers that there are, to the same bytes."""
    asked, calls = Generator.__call__, []

    def stop(self, variables, tokens, *more):
        calls.append(len(tokens))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, variables, tokens, *more)

    monkeypatch.setattr(Generator, "__call__", stop)
    settings = settings_of(tmp_path / "work", task)
    with pytest.raises(Interrupted, match="stopped in stage 1-made"):
        run(settings)
    assert not (tmp_path / "work" / "1-made" / "generated.jsonl").exists()
    run(settings)
    assert len(calls) == 3  # of 16, 16 and 8 rows, none again
    names = ("1-made/inputs.jsonl", "1-made/answers.jsonl", "1-made/generated.jsonl")
    for name in names:
        assert (tmp_path / "work" / name).read_bytes() == (finished / name).read_bytes(), name
    assert loss_of(tmp_path / "work") == loss_of(finished)


def test_what_was_made_is_compared_and_made_again(finished, task, tmp_path):
    shutil.copytree(finished, tmp_path / "work")
    rows = tmp_path / "work" / "1-made" / "generated.jsonl"
    before = rows.read_bytes()
    settings = settings_of(tmp_path / "work", task)
    rows.write_bytes(before.replace(b"targets", b"Targets", 1))
    with pytest.raises(UserError, match="generated.jsonl is not as it was written: restore it, or"):
        run(settings)
    rows.unlink()
    run(settings)
    assert rows.read_bytes() == before
    with pytest.raises(UserError, match=r"inputs of made_rows \(1-made\) changed since the run"):
        run(settings_of(tmp_path / "work", task, rows=41))


def test_terms_of_the_loss_take_made_rows_as_well(finished, task, tmp_path):
    """A divergence on free samples, beside the task itself."""
    settings = settings_of(tmp_path / "work", task)
    made, model = settings.stages
    plain = dataclasses.replace(model.data, replay=None)
    rows = dataclasses.replace(plain, task=NAME, prompts=None)
    terms = [Divergence(data=rows)]
    model = dataclasses.replace(model, data=plain, terms=terms, steps=1)
    workdir = run(dataclasses.replace(settings, stages=[made, model]))
    last = (workdir / "2-model" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["kl"] > 0
    with pytest.raises(UserError, match="trains on 'made_rows', which stage 'made' generates only"):
        run(dataclasses.replace(settings, stages=[model, made], workdir=str(tmp_path / "other")))


def test_the_base_s_scores_are_those_of_the_first_stage_that_has_any(finished, tmp_path):
    """A page has the base's line as well where the run begins by generating."""
    shutil.copytree(finished, tmp_path / "work")
    about = json.loads((finished / "run.json").read_text(encoding="utf-8")) | {"base": "there"}
    del about["check"]
    row = {"method": "promot", "stage": "2-model", "task": "a", "group": "other", "n": 9}
    rows = [row | {"step": step, "value": 0.5, "selected": step == 8} for step in (0, 8)]
    for name, content in (("run.json", about), ("results.json", rows)):
        (tmp_path / "work" / name).write_text(json.dumps(content), encoding="utf-8")
    found = gather(tmp_path / "work").rows
    assert [(row["method"], row["step"]) for row in found][:2] == [("base", 0), ("promot", 0)]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"rows": 0}, "Generate.rows = 0: set 1"),
        ({"name": "a b"}, "Generate.name = 'a b': set a short name"),
        ({"starts": ()}, r"Generate.starts = \(\): give a text"),
        ({"starts": ("a", "")}, "none of which is empty"),
        ({"starts": "a", "task": "b"}, "starts = .* has no effect"),
        ({"length": 0}, "Generate.length = 0: set 1"),
    ],
)
def test_settings_that_cannot_be(how, says):
    with pytest.raises(UserError, match=says):
        Generate(**how)


def test_runs_that_cannot_be(task, tmp_path):
    """All of it is said before anything is done."""
    settings = settings_of(tmp_path / "work", task)
    made, model = settings.stages
    for stages, says in (
        ([model, made], "trains on 'made_rows', which stage 'made' generates only then"),
        ([made, dataclasses.replace(made, name="twice"), model], "is that of stage 'made' already"),
        ([dataclasses.replace(made, generate=Generate(task)), model], "that there is: choose"),
        ([dataclasses.replace(made, generate=Generate(NAME, length=8)), model], "set at most 7"),
        (
            [dataclasses.replace(made, generate=Generate(NAME, "no_task")), model],
            "'no_task' is not",
        ),
    ):
        with pytest.raises(UserError, match=says):
            run(dataclasses.replace(settings, stages=stages))
    with pytest.raises(UserError, match="has generate, and steps = 8"):
        dataclasses.replace(model, generate=Generate())
    assert not (tmp_path / "work").exists()

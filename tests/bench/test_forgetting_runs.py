"""The benchmark's table makes runs that can be parsed, and its scheduler does what is missing."""

import json
import multiprocessing
import re

import numpy as np
import pytest
import small_work

from bench.forgetting import again, plan, rows, scheduler, table
from promot_jax.cli import settings
from promot_jax.errors import UserError
from promot_jax.files import lock
from promot_jax.paths import resolve

NLI, QUELLAN = table.TARGETS


@pytest.fixture(scope="module")
def everything():
    return plan.with_those_before(plan.everything())


def test_every_kind_of_run_is_a_run_that_promot_takes(everything, tmp_path):
    kinds = {(run.files, run.about["method"]): run for run in everything.values()}
    for run in kinds.values():
        own = [f"BASE = {plan.SHIPPED[0]!r}"] * bool(run.before)  # what it starts from is not there
        settings.parse(run.files, run.all_bindings(tmp_path) + own)
        assert settings.build("Run").stages


def test_names_tell_runs_apart_and_fit_a_directory(everything):
    commands = {" ".join((*run.files, *run.bindings, *[b.name for b in run.before])): name
                for name, run in everything.items()}  # fmt: skip
    assert len(commands) == len(everything)
    assert all(re.fullmatch(r"[\w./-]+", name) for name in everything)


def test_what_a_run_starts_from_comes_before_it(everything, tmp_path):
    places = {name: place for place, name in enumerate(everything)}
    for name, run in everything.items():
        assert all(places[before.name] < places[name] for before in run.before)
        bases = [x for x in run.all_bindings(tmp_path) if x.startswith("BASE = ")]
        made_of_nothing = run.about["method"] == plan.PRETRAINING
        assert len(bases) == (0 if made_of_nothing else 1)
        if run.before:
            assert bases == [f"BASE = {str(tmp_path / run.before[-1].name)!r}"]


def test_second_stages_share_one_prompt_of_their_own_pair(everything):
    run = everything[f"{NLI}/base1-seed1/promot-lr0.0003"]
    assert [before.name for before in run.before] == [
        "base1",
        f"{NLI}/base1-seed1/prompt_tuning",
    ]


def test_a_run_may_start_from_the_other_targets_or_one_of_several(everything):
    first = f"{NLI}/base0-seed0"
    other = everything[f"{first}/promot_the_other_target_s_prompt-lr0.0003"]
    assert other.before[-1].name == f"{QUELLAN}/base0-seed0/prompt_tuning"
    left_on = everything[f"{first}/promot_prompt_left_on"]
    assert left_on.before[-1].name == f"{first}/promot-lr0.0003"


def test_quick_is_one_pair_and_target():
    quick = plan.everything(quick=True)
    assert {(run.about["target"], run.about["base"]) for run in quick} == {(NLI, 0)}
    assert 5 <= len(quick) <= 15


def test_names_of_methods_and_what_they_start_from():
    names = [method.name for method in table.METHODS]
    swept = [name for method in table.METHODS for name in method.sweeps.values()]
    assert len({*names, *swept}) == len(names) + len(swept)
    assert {method.after for method in table.METHODS} <= {None, *names}
    for method in table.METHODS:
        for file in (f"recipes/{method.recipe}", *(f"remedies/{x}" for x in method.remedies)):
            assert resolve(f"gin/{file}.gin")


def test_bits_survive_and_rows_are_parted():
    right = np.random.default_rng(0).random(301) < 0.7
    assert (rows.unpack(rows.pack(right), 301) == right).all()
    assert rows.chosen_by(301).sum() == 101


def test_rows_of_a_work_directory(tmp_path):
    samples = tmp_path / "1-model/samples"
    samples.mkdir(parents=True)
    scores = {("a", 0): [1.0, 0.0, 1.0], ("b", 0): [0.0, 0.0, 1.0], ("a", 5): [1.0, 1.0, 1.0]}
    for (task, step), values in scores.items():
        lines = "".join(json.dumps({"score": value}) + "\n" for value in values)
        (samples / f"{task}.0shot.{step}.jsonl").write_text(lines, encoding="utf-8")
    found = [
        {"stage": "1-model", "step": step, "task": task, "shots": 0, "format_share": 0.5}
        for task, step in scores
    ]
    (tmp_path / "results.json").write_text(json.dumps(found), encoding="utf-8")
    first, second = rows.points(tmp_path)
    assert (first["stage"], first["step"], first["rows"]) == ("model", 0, 3)
    assert rows.right(first, ["a", "b"]).tolist() == [[True, False, True], [False, False, True]]
    assert second["format"] == {"a": 0.5}


@pytest.fixture
def schedule(tmp_path, monkeypatch):
    """Carries out the runs of one pair, in processes that do next to nothing; says what began."""
    monkeypatch.setattr(scheduler, "context", lambda root: multiprocessing.get_context("spawn"))
    monkeypatch.setattr(scheduler, "work", small_work.work)
    wanted = plan.everything(only=f"{NLI}/base0-seed0/(fine_tuning-lr|prompt_tuning$|promot-)")
    place = tmp_path / NLI / "base0-seed0"

    def carry_out(broken=(), **limits):
        place.mkdir(parents=True, exist_ok=True)
        for old in [place / "begun", *place.glob("*.broken")]:
            old.unlink(missing_ok=True)
        for name in broken:
            (place / f"{name}.broken").touch()
        made = scheduler.Scheduler(wanted, tmp_path, tmp_path / "rows.jsonl.xz", [0, 1])
        whole, begun = made.carry_out(**limits), place / "begun"
        return whole, begun.read_text("utf-8").split() if begun.exists() else [], made

    return carry_out


def test_what_is_missing_is_done_once(schedule, tmp_path):
    whole, begun, made = schedule()
    assert whole
    assert len(begun) == len(set(begun)) == 7
    assert set(made.rows) == set(rows.read(tmp_path / "rows.jsonl.xz"))
    assert schedule()[1] == []
    kept = {path.name.partition("-")[0] for path in tmp_path.glob("*/*/*") if path.is_dir()}
    assert kept == {"prompt_tuning", "promot"}  # others start from them


def test_a_run_of_another_command_is_done_again(schedule, tmp_path):
    schedule()
    file = tmp_path / "rows.jsonl.xz"
    known = rows.read(file)
    known[f"{NLI}/base0-seed0/fine_tuning-lr0.0003"]["command"] = "promot run another"
    rows.write(file, known.values())
    assert schedule()[1] == ["fine_tuning-lr0.0003"]


def test_a_failure_stops_what_starts_from_it_and_nothing_else(schedule):
    whole, begun, made = schedule(broken=["prompt_tuning"])
    assert not whole
    assert len(begun) == 4
    assert made.failed[f"{NLI}/base0-seed0/prompt_tuning"] == "wrong"
    assert sum(why.endswith("failed") for why in made.failed.values()) == 3
    assert len(schedule()[1]) == 4  # only what failed, and what it held up


def test_nothing_begins_after_the_time_is_up(schedule):
    assert schedule(until=0.0)[:2] == (False, [])


def test_two_are_not_at_it_at_once(schedule, tmp_path):
    with (tmp_path / "lock").open("a", encoding="utf-8") as other:
        lock(other)
        with pytest.raises(UserError, match="is in use by another process"):
            schedule()
    assert schedule()[0]


def test_a_sample_comes_from_all_over_the_table():
    every = [run.name for run in plan.everything()]
    found = [run.name for run in again.sample(dict.fromkeys(every), 5)]
    assert len(found) == 5
    assert (found[0], found[-1]) == (every[0], every[-1])


def test_a_sample_of_some_runs_alone():
    every = dict.fromkeys(run.name for run in plan.everything())
    assert all("base0" in run.name for run in again.sample(every, 4, only="base0"))
    with pytest.raises(UserError, match="no rows of such runs in the table"):
        again.sample(every, 4, only="base9")


def test_further_bases_come_before_further_seeds():
    """Every tier has all its bases with seed 0, and no pair is run twice."""
    for pairs in [pairs for of in table.PAIRS.values() for pairs in of.values()]:
        assert len(set(pairs)) == len(pairs)
        bases = [base for base, seed in pairs if seed == 0]
        assert list(pairs[: len(bases)]) == [(base, 0) for base in bases]
        assert {base for base, _ in pairs} == set(bases)


def test_answers_that_are_alike():
    one, other = (
        {"points": [{"rows": 4, "right": {"a": rows.pack(np.array(bits, bool))}}]}
        for bits in ([1, 1, 0, 0], [1, 0, 0, 0])
    )
    assert again.same(one, other) == 0.75
    assert again.same(one, one) == 1


def test_rows_of_a_killed_scheduler_are_not_lost(schedule, tmp_path):
    _, begun, made = schedule()
    file, name = tmp_path / "rows.jsonl.xz", f"{NLI}/base0-seed0/prompt_tuning"
    known = rows.read(file)
    kept = known.pop(name)
    rows.write(file, known.values())
    (tmp_path / "new_rows.jsonl").write_text(json.dumps(kept) + '\n{"cut o', encoding="utf-8")
    assert schedule()[1] == []
    assert name in rows.read(file)
    assert not (tmp_path / "new_rows.jsonl").exists()

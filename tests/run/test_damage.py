"""Damaged work directories: named before anything is trained, and never a result."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import tiny_run

from promot_jax.errors import UserError
from promot_jax.files import seal
from promot_jax.run import LanguageModel, run
from promot_jax.training import adamw

SPOILT = 12  # the step from which on the first stage gets worse


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    """One stage whose best checkpoint (8) is not its last (16), and its settings."""
    import optax

    spoilt = optax.piecewise_constant_schedule(0.02, {SPOILT: 1000.0})
    stage = tiny_run.stage("only", "params", 16, task, learning_rate=spoilt, optimizer=adamw)
    root = tmp_path_factory.mktemp("damage") / "work"
    settings = tiny_run.settings(str(root), task, stages=[stage])
    run(settings)
    assert steps(root) == ["16", "8"]
    return settings


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, and the settings that go on in the copy."""
    root = shutil.copytree(finished.workdir, tmp_path / "work")
    return root, dataclasses.replace(finished, workdir=str(root))


def steps(root: Path) -> list[str]:
    return sorted(x.name for x in (root / "1-only" / "checkpoints").iterdir())


def spoil(checkpoint: Path, name: str = "variables") -> None:
    """Flips a bit in every file of data of a part of a checkpoint."""
    for path in (checkpoint / name / "ocdbt.process_0" / "d").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)


def refused(settings, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        run(settings)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_a_damaged_best_checkpoint_never_becomes_a_result(copied):
    """Of a finished run, by any way to it."""
    root, settings = copied
    spoil(root / "1-only" / "checkpoints" / "8")
    before = (root / "results.json").read_bytes()
    refused(settings, "checkpoints/8 is damaged", "restore it, or delete", "begin the stage anew")
    assert (root / "results.json").read_bytes() == before
    with pytest.raises(UserError, match="checkpoints/8 is damaged .*: restore it$"):
        LanguageModel(str(root), {"data": 1})
    stage = dataclasses.replace(settings.stages[0], steps=1, select=None, evaluations=[])
    below = dataclasses.replace(
        settings, workdir=str(root.parent / "below"), base=str(root), stages=[stage]
    )
    refused(below, "checkpoints/8 is damaged")
    assert not (root.parent / "below").exists()


@pytest.mark.parametrize("part", ["variables", "state"])
def test_a_damaged_newest_checkpoint_is_named_and_can_be_deleted(copied, part):
    """The run goes on from the one before it and ends as it would have."""
    root, settings = copied
    whole = (root / "results.json").read_text(encoding="utf-8")
    longer = dataclasses.replace(settings, stages=[settings.stages[0]])
    # as if it had been killed after this checkpoint, before the end's scores
    rows = [row for row in json.loads(whole) if row["step"] < 16]
    (root / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    note = root / "1-only" / "checkpoints" / "16" / "note" / "metadata"
    noted = json.loads(note.read_text(encoding="utf-8")) | {"rows": len(rows), "score": None}
    note.write_text(json.dumps(seal(noted)), encoding="utf-8")
    spoil(root / "1-only" / "checkpoints" / "16", part)
    refused(longer, "checkpoints/16 is damaged", "or delete it to go on from step 8")
    shutil.rmtree(root / "1-only" / "checkpoints" / "16")
    run(longer)
    assert (root / "results.json").read_text(encoding="utf-8") == whole


def test_a_best_checkpoint_that_is_gone_is_missed(copied):
    root, settings = copied
    shutil.rmtree(root / "1-only" / "checkpoints" / "8")
    refused(settings, "checkpoints/8 is damaged (it was the best one, and is gone)", "stage anew")
    with pytest.raises(UserError, match="checkpoints/8 is damaged"):
        LanguageModel(str(root), {"data": 1})
    shutil.rmtree(root / "1-only")
    run(settings)
    assert steps(root) == ["16", "8"]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_lost_rows_are_missed(copied, kept):
    root, settings = copied
    path = root / "results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))[:kept]
    path.write_text(json.dumps(rows), encoding="utf-8")
    refused(settings, "results.json does not belong to", "what was scored up to step")


def test_scores_that_only_the_results_have_are_taken_from_them(copied):
    """A run killed between its scores and its checkpoint's note."""
    root, settings = copied
    note = root / "1-only" / "checkpoints" / "16" / "note" / "metadata"
    whole = json.loads(note.read_text(encoding="utf-8"))
    early = seal(whole | {"score": None, "rows": whole["rows"] - 1, "best": 8})
    note.write_text(json.dumps(early), encoding="utf-8")
    run(settings)
    assert json.loads(note.read_text(encoding="utf-8")) == whole


def altered(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("results.json", lambda x: altered(x, '"step": 8', '"step": 6')),
        ("results.json", lambda x: altered(x, '"check": "', '"check": "0')),
        ("results.json", lambda x: altered(x, '"check"', '"chick"')),
        ("results.json", lambda x: x[: len(x) // 2]),
        ("results.json", lambda x: ""),
        ("results.json", lambda x: "{}"),
        ("results.json", lambda x: "[[]]"),
        ("results.json", lambda x: "[null]"),
        ("run.json", lambda x: altered(x, '"seed": 3', '"seed": 4')),
        ("run.json", lambda x: altered(x, '"check"', '"chick"')),
        ("run.json", lambda x: "[]"),
        ("run.json", lambda x: ""),
        ("run.json", lambda x: "[" * 100_000),
    ],
)
def test_an_altered_file_is_refused(copied, name, change):
    root, settings = copied
    path = root / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    refused(settings, f"{path} is damaged", "restore it")


def test_a_last_stage_that_is_gone_is_missed(task, tmp_path):
    """The stage before it is not taken for it."""
    first = tiny_run.stage("first", "prompt", 1, task, evaluations=[], select=None)
    last = tiny_run.stage("last", "prompt", 8, task)
    settings = tiny_run.settings(str(tmp_path / "work"), task, stages=[first, last])
    root = run(settings)
    shutil.rmtree(root / "2-last" / "checkpoints" / "8")
    with pytest.raises(UserError, match="2-last/checkpoints/8 is gone.*same run command again"):
        LanguageModel(str(root), {"data": 1})
    run(settings)
    assert LanguageModel(str(root), {"data": 1}).prompts == ("target",)


@pytest.mark.parametrize(
    "change", [{"value": "high"}, {"step": "8"}, {"selected": "yes"}, {"shots": 0.5}]
)
def test_a_row_of_other_types_is_damage_whoever_sealed_it(copied, change):
    root, settings = copied
    rows = json.loads((root / "results.json").read_text(encoding="utf-8"))
    rows[-1] = seal(rows[-1] | change)
    (root / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    name, value = next(iter(change.items()))
    refused(settings, f"results.json is damaged (row {len(rows)}: {name} = {value!r}", "restore it")


def test_behind_a_link_nothing_of_others_is_to_be_deleted(copied, tmp_path):
    """Checkpoints on another disk: the advice is about the stage, not about what holds the link's
    target."""
    root, settings = copied
    other = tmp_path / "other"
    (root / "1-only/checkpoints").rename(other)
    (root / "1-only/checkpoints").symlink_to(other)
    run(settings)
    (other / "8/note/metadata").write_text("{}", encoding="utf-8")
    refused(settings, f"delete {root / '1-only'} to begin the stage anew")


@pytest.mark.parametrize("name", ["08", "\u0669", "\u00b2", "-8"])
def test_directories_of_other_names_are_left_alone(copied, name):
    root, settings = copied
    own = root / "1-only/checkpoints" / name
    own.mkdir()
    (own / "mine").write_text("x", encoding="utf-8")
    before = (root / "results.json").read_bytes()
    run(settings)
    assert (own / "mine").exists() and (root / "results.json").read_bytes() == before

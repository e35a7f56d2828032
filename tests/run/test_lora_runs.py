"""Runs with LoRA: what stages train, what is answered with it, and going on bit by bit."""

import contextlib
import itertools
import json

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import load_file

from promot_jax.convert import export_lora
from promot_jax.data import Batches
from promot_jax.errors import UserError
from promot_jax.evaluation import Evaluation
from promot_jax.models import Decoding, Lora
from promot_jax.models.lora import merged, removed
from promot_jax.run import LanguageModel, run
from promot_jax.training import Checkpoints, adamw, digest

LORA, SHORT = Lora(4), Decoding(4)
ADAPTER = "adapter_model.safetensors"
STAGES = (("lora", "lora"), ("model", "params"))
TEXTS = ["what follows ab?", "what follows cc?"]


def settings(workdir, task, **changes):
    """LoRA first, then the model with LoRA attached; the second number of shots without it."""
    on, off = (
        Evaluation(task, shots, lora=scale, limit=4, batch_size=4, input_length=64, decoding=SHORT)
        for shots, scale in ((0, 1.0), (1, 0.0))
    )
    how = {"optimizer": adamw, "prompts": None, "evaluations": [on, off], "evaluate_every": None}
    stages = [tiny_run.stage(name, part, 6, task, **how) for name, part in STAGES]
    given = {"stages": stages, "prompts": [], "lora": LORA, "kind": tiny_run.DECODER} | changes
    return tiny_run.settings(str(workdir), task, **given)


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    return run(settings(tmp_path_factory.mktemp("lora") / "work", task))


def stored(workdir, stage):
    """Arrays of a stage's last checkpoint, and the sums of its optimizer's."""
    directory = workdir / stage / "checkpoints"
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        step = checkpoints.latest()
        variables = checkpoints.variables(step, checkpoints.shapes(step))
        note = checkpoints.note(step)
        return {path: np.asarray(x) for path, x in variables.items()}, note["state"]


def test_stages_and_results(finished):
    first, state = stored(finished, "1-lora")
    assert first and all(path.startswith("lora/") for path in first)  # and nothing of the model
    assert not any("params" in path for path in state)
    second, _ = stored(finished, "2-model")
    for path, x in first.items():
        np.testing.assert_array_equal(second[path], x)
    rows = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert {(row["shots"], row["lora"]) for row in rows} == {(0, 1.0), (1, 0.0)}
    about = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    assert about["model"]["lora"] == {"rank": 4, "alpha": 8.0, "targets": ["params"]}


def test_a_run_that_was_stopped_is_the_same(finished, task, tmp_path, monkeypatch):
    """In each stage, between two checkpoints: as if nothing had happened, bit by bit."""
    work, call = tmp_path / "work", Batches.__call__

    class Stopped(Exception):
        pass

    for stops in (1, 2):  # once in the first stage, once in the second
        asked = []

        def batch(self, step, *rows, asked=asked, last=stops * 6 - 1):
            asked.append(step)
            if len(asked) == last:
                raise Stopped
            return call(self, step, *rows)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Batches, "__call__", batch)
            run(settings(work, task))
    run(settings(work, task))
    for stage in ("1-lora", "2-model"):
        ours, theirs = stored(work, stage), stored(finished, stage)
        assert ours[1] == theirs[1] and ours[0].keys() == theirs[0].keys()
        assert all(np.array_equal(ours[0][path], theirs[0][path]) for path in ours[0])
    assert (work / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_served(finished):
    """With it, scaled and without; what is served without is the model without it."""
    score = lambda model: [each.log_likelihood for each in model.score(TEXTS, ["b", "c"])]  # noqa: E731
    whole, half, without = (
        LanguageModel(str(finished), {"data": 1}, lora=s) for s in (1.0, 0.5, 0.0)
    )
    assert not any(path.startswith("lora/") for path in without.variables)
    assert len({tuple(score(each)) for each in (whole, half, without)}) == 3
    assert digest(without.variables) == digest(removed(whole.variables))
    for model, s in ((whole, 1.0), (half, 0.5)):
        without.variables = merged(whole.variables, LORA, s)
        np.testing.assert_allclose(score(without), score(model), rtol=1e-4)
    with pytest.raises(UserError, match="lora = nan: set -10 to 10"):
        LanguageModel(str(finished), {"data": 1}, lora=float("nan"))


def test_scanned_layers_are_exported_one_by_one(finished, tmp_path):
    arrays = load_file(export_lora(str(finished), str(tmp_path / "peft")) / ADAPTER)
    stacked, _ = stored(finished, "2-model")
    assert len(arrays) == 2 * 2 * 7  # A and B of each kernel of two layers
    for i, name in itertools.product(range(2), "AB"):
        theirs = arrays[f"base_model.model.model.layers.{i}.mlp.down_proj.lora_{name}.weight"]
        np.testing.assert_array_equal(
            theirs.T, stacked[f"lora/decoder/layers/mlp/wo/{name.lower()}"][i]
        )


def test_bases(finished, task, tmp_path, capsys):
    """A base's LoRA goes on where a run declares the same, and is left out where it has none."""
    brief = {"evaluations": [], "select": None, "optimizer": adamw, "prompts": None}
    stages = [tiny_run.stage("more", "lora", 1, task, learning_rate=0.0, **brief)]
    again = run(settings(tmp_path / "again", task, base=str(finished), stages=stages))
    before, after = stored(finished, "2-model")[0], stored(again, "1-more")[0]
    assert after and all(np.array_equal(after[path], before[path]) for path in after)
    stages = [tiny_run.stage("none", "params", 1, task, **brief)]
    plain = settings(tmp_path / "none", task, base=str(finished), stages=stages, lora=None)
    none = run(plain)
    assert "is left out: gin/models/of_base.gin would keep it" in capsys.readouterr().err
    assert all(path.startswith("params/") for path in stored(none, "1-none")[0])
    other = settings(tmp_path / "other", task, base=str(finished), lora=Lora(4, 4.0))
    with pytest.raises(UserError, match=r"LoRA of other settings .*alpha=8.0.*alpha=4.0"):
        run(other)
    assert not (tmp_path / "other").exists()


def test_settings_that_cannot_work(task, tmp_path):
    with pytest.raises(UserError, match="Evaluation.lora = 0.0: the model has no LoRA"):
        settings("", task, lora=None)
    with pytest.raises(UserError, match="Evaluation.lora = 11.0: set -10 to 10"):
        Evaluation(task, lora=11.0)
    with pytest.raises(UserError, match="Lora.rank = 17 is more than .* set at most"):
        run(settings(tmp_path / "work", task, lora=Lora(17)))
    assert not (tmp_path / "work").exists()

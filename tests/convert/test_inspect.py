"""`promot inspect` says the same of one model in every form it takes."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from t5x_writer import SCANNED, t5x_arrays, write_checkpoint

from promot_jax.cli.main import main
from promot_jax.convert import export_model, export_prompt, import_adapter, import_checkpoint
from promot_jax.models import T5, T5Config, abstract

CONFIG = T5Config(
    vocab_size=384, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=16,
    num_encoder_layers=2, num_decoder_layers=2, relpos_per_layer=True,
)  # fmt: skip
PROMPT = 3
MODEL = (
    2 * 384 * 8 + 2 * 8 + 2 * (2 * 8 + 4 * 64 + 3 * 128 + 64) + 2 * (3 * 8 + 8 * 64 + 3 * 128 + 64)
)  # embedding and head, norms, encoder's layers, decoder's


class Forms(NamedTuple):
    """One model with a prompt, and what became of it."""

    t5x: Path
    workdir: Path
    huggingface: Path
    peft: Path
    npy: Path
    prompted: Path


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> Forms:
    root, rng = tmp_path_factory.mktemp("forms"), np.random.default_rng(0)
    shapes = abstract(T5(CONFIG, (("prompt", PROMPT),)))
    variables = {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in shapes.items()}
    t5x = write_checkpoint(root, t5x_arrays(variables, SCANNED, 2), 1234)
    workdir = import_checkpoint(str(t5x), str(root / "w"), vocabulary="byte")
    huggingface = export_model(str(workdir), str(root / "hf"))
    npy = export_prompt(str(workdir), str(root / "p.npy"))
    prompted = import_adapter(str(npy), str(root / "prompted"), str(workdir), "second")
    return Forms(t5x, workdir, huggingface, huggingface / "prompts" / "prompt", npy, prompted)


@pytest.fixture
def inspect(capsys):
    """(path) -> what `promot inspect --json` says."""

    def call(path) -> dict:
        assert main(["inspect", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize(
    ("form", "kind", "parameters", "prompts"),
    [
        ("t5x", "t5x", MODEL + 24, {"prompt": 3}),
        ("workdir", "promot", MODEL + 24, {"prompt": 3}),
        ("huggingface", "huggingface", MODEL + 24, {"prompt": 3}),
        ("peft", "peft", 24, {"prompt": 3}),
        ("npy", "npy", 24, {"prompt": 3}),
        ("prompted", "promot", 48, {"prompt": 3, "second": 3}),
    ],
)
def test_every_kind(forms, inspect, form, kind, parameters, prompts):
    facts = inspect(getattr(forms, form))
    assert (facts["kind"], facts["parameters"], facts["prompts"]) == (kind, parameters, prompts)
    assert facts["bytes"] == 4 * parameters and set(facts["dtypes"]) == {"float32"}
    if kind in ("peft", "npy"):
        assert "model" not in facts
    else:
        assert facts["family"] == "umt5"
        assert T5Config(**facts["model"]) == CONFIG


def test_t5x(forms, inspect):
    facts = inspect(forms.t5x)
    assert (facts["step"], facts["layout"], facts["format"]) == (1234, "scanned", "legacy")


def test_own(forms, inspect):
    """A work directory, its stage and its checkpoint are one."""
    stage = forms.prompted / "1-import"
    whole, part, single = map(inspect, (forms.prompted, stage, stage / "checkpoints" / "0"))
    assert whole | {"path": ""} == part | {"path": ""} == single | {"path": ""}
    assert (whole["stage"], whole["step"], whole["method"]) == ("1-import", 0, "import")
    assert whole["rest_from"] == whole["base"] == str(forms.workdir)
    assert whole["imported_from"]["path"] == str(forms.npy)
    assert inspect(forms.workdir)["imported_from"]["step"] == 1234
    assert inspect(forms.workdir)["rest_from"] is None


def test_trained(inspect):
    """The base model of the lab was trained here."""
    facts = inspect("promot_jax/assets/lab/base")
    assert facts["stage"] == facts["stages"][-1] and facts["step"] > 0
    assert facts["method"] == "pretrain" and facts["imported_from"] is None
    assert facts["vocabulary"] == {"kind": "sentencepiece", "extra_ids": 0}


@pytest.mark.parametrize("form", Forms._fields)
def test_table(forms, capsys, form):
    assert main(["inspect", str(getattr(forms, form))]) == 0
    said = capsys.readouterr().out
    assert "parameters" in said and "float32" in said and "None" not in said


@pytest.mark.parametrize("path", [".", "none.npy", "1-import/checkpoints/7"])
def test_none(forms, tmp_path, capsys, path):
    """One line that says what was looked for; also for a checkpoint that is not there."""
    given = forms.workdir / path if path[0] == "1" else tmp_path / path
    assert main(["inspect", str(given)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and str(given) in said.err
    if path[0] != "1":
        assert all(word in said.err for word in ("config.json", "adapter_config", "T5X", ".npy"))

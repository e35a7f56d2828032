"""LoRA of PEFT in and out: its logits and ours are the same, attached, scaled and merged.

Ours are at most three times as far from PEFT's in float64 as PEFT's own in float32.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import decoder_models
import hf_models
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from promot_jax.cli.main import main
from promot_jax.convert import import_adapter, import_checkpoint
from promot_jax.convert.inspect import inspect
from promot_jax.errors import UserError
from promot_jax.models import nested
from promot_jax.models.lora import scaled
from promot_jax.run import LanguageModel
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load
from tests.t5_batches import with_segments

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hf_decoders import in_float64

peft = pytest.importorskip("peft", reason="needs make parity")
pytestmark = pytest.mark.skipif(not hf_models.INSTALLED, reason="needs make parity")
IDS = np.random.default_rng(0).integers(10, 450, (2, 9)).astype(np.int32)
PLACES = np.tile(np.arange(IDS.shape[1], dtype=np.int32), (len(IDS), 1))
ALL = "all-linear"
# model -> whether a T5, and PEFT's settings of its adapter
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "t5_1_1": (True, {"target_modules": ALL, "use_rslora": True}),
    "t5_1_0": (True, {"target_modules": ["q", "v"]}),
    "llama": (False, {"target_modules": ALL, "lora_dropout": 0.1}),
    "gemma3": (False, {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [0, 2]}),
}


class Case(NamedTuple):
    """A model of Transformers in `root/model`, PEFT's adapter of it, and our work directories."""

    t5: bool
    root: Path
    settings: dict[str, Any]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> Case:
    import torch

    root, (t5, settings) = tmp_path_factory.mktemp(request.param), CASES[request.param]
    (hf_models if t5 else decoder_models).save(request.param, root / "model")
    import_checkpoint(str(root / "model"), str(root / "base"))
    task = "SEQ_2_SEQ_LM" if t5 else "CAUSAL_LM"
    config = peft.LoraConfig(task_type=task, r=4, lora_alpha=6, **settings)
    made = peft.get_peft_model(opened(t5, root / "model"), config)
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:  # which begins at 0
            parameter.data.normal_(std=0.3)
    made.save_pretrained(root / "adapter")
    arguments = ["import", str(root / "adapter"), str(root / "work"), f"--base={root / 'base'}"]
    assert main(arguments) == 0
    return Case(t5, root, settings)


def opened(t5: bool, directory: Path) -> Any:
    """Transformers' model."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = AutoModelForSeq2SeqLM if t5 else AutoModelForCausalLM
    return kind.from_pretrained(directory, attn_implementation="eager").eval()


def theirs(
    t5: bool, directory: Path, adapter: Path | None = None, double: bool = False
) -> np.ndarray:
    """PEFT's logits; those of Transformers alone without an adapter."""
    import torch

    made = opened(t5, directory)
    if double:
        weights = {name: x.double() for name, x in made.state_dict().items()}
        with in_float64():
            made = type(made)(made.config).double().eval()
        made.load_state_dict(weights)
    if adapter is not None:
        made = peft.PeftModel.from_pretrained(made, adapter).eval()
        made = made.double() if double else made
    if t5:
        tokens = torch.tensor(hf_models.INPUTS)
        given = {"input_ids": tokens, "attention_mask": (tokens > 0).long()}
        given["decoder_input_ids"] = torch.tensor(hf_models.DECODER_INPUTS)
    else:
        given = {"input_ids": torch.tensor(IDS).long()}
    with torch.no_grad():
        if not double:
            return made(**given).logits.numpy()
        with in_float64():
            return made(**given).logits.numpy()


def ours(workdir: Path, scale: float = 1.0) -> np.ndarray:
    """Our logits for the same."""
    about = Description.read(str(workdir))
    model = about.module()
    variables = scaled(load(str(workdir), Layout(model, make_mesh())), scale)
    batch = {"decoder_input_tokens": IDS, "decoder_target_positions": PLACES}
    if about.model.kind == "encoder_decoder":
        batch = with_segments({
            "encoder_input_tokens": hf_models.INPUTS,
            "decoder_input_tokens": hf_models.DECODER_INPUTS,
        })  # fmt: skip
    return np.asarray(jax.jit(lambda v: model.apply(nested(v), batch))(variables))


def assert_same(found: np.ndarray, exact: np.ndarray, single: np.ndarray) -> None:
    assert np.abs(found - exact).max() <= 3 * np.abs(single - exact).max()


def test_in(case):
    """Attached its logits are PEFT's, and removed those of the model alone."""
    t5, root, _ = case
    exact, single = (
        theirs(t5, root / "model", root / "adapter", double) for double in (True, False)
    )
    assert_same(ours(root / "work"), exact, single)
    plain = theirs(t5, root / "model")
    assert np.abs(plain - exact).max() > 0.1
    np.testing.assert_allclose(ours(root / "work", 0.0), plain, atol=1e-4, rtol=0)
    facts = inspect(str(root / "work"))
    adapter = inspect(str(root / "adapter"))
    assert facts["parameters"] == adapter["parameters"]  # and no copy of the base
    assert (adapter["family"], adapter["rank"]) == ("lora", 4)


def test_out(case, tmp_path):
    """The exported adapter is the one that came in; merged, Transformers compute the same."""
    t5, root, settings = case
    work, whole, alone = str(root / "work"), str(tmp_path / "whole"), str(tmp_path / "alone")
    assert main(["export", work, whole]) == 0
    assert main(["export", work, alone, "--lora"]) == 0
    before = load_file(root / "adapter/adapter_model.safetensors")
    told = json.loads((root / "adapter/adapter_config.json").read_text(encoding="utf-8"))
    for adapter in (Path(whole) / "lora", Path(alone)):
        stored = load_file(adapter / "adapter_model.safetensors")
        assert stored.keys() == before.keys()
        assert all(np.array_equal(stored[name], before[name]) for name in before)
        again = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        assert (again["r"], again["task_type"]) == (told["r"], told["task_type"])
        if "layers_to_transform" not in settings:
            assert set(again["target_modules"]) == set(told["target_modules"])
    single = theirs(t5, root / "model", root / "adapter")
    np.testing.assert_allclose(theirs(t5, whole, Path(whole) / "lora"), single, atol=1e-6)
    np.testing.assert_array_equal(theirs(t5, whole), theirs(t5, root / "model"))
    assert main(["export", work, str(tmp_path / "merged"), "--merge"]) == 0
    exact = theirs(t5, root / "model", root / "adapter", True)
    assert_same(theirs(t5, tmp_path / "merged"), exact, single)
    assert not (tmp_path / "merged/lora").exists()
    assert main(["export", work, str(tmp_path / "nothing"), "--merge=0"]) == 0
    stored, given = (
        load_file(path / "model.safetensors") for path in (tmp_path / "nothing", Path(whole))
    )
    assert all(np.array_equal(stored[name], given[name]) for name in given)


def test_an_export_is_served(case, tmp_path):
    """As it lies, and imported again: the same variables."""
    _, root, _ = case
    assert main(["export", str(root / "work"), str(tmp_path / "whole")]) == 0
    first = LanguageModel(str(root / "work"), {"data": 1})
    served = LanguageModel(str(tmp_path / "whole"), {"data": 1})
    lora = first.description.model.lora
    assert served.description.model.lora == lora and lora.rank == 4
    assert served.variables.keys() == first.variables.keys()
    for path, x in first.variables.items():
        np.testing.assert_array_equal(served.variables[path], x)


@pytest.mark.parametrize("case", ["llama"], indirect=True)
def test_bad_adapters(case, tmp_path):
    root = case.root
    settings = json.loads((root / "adapter/adapter_config.json").read_text(encoding="utf-8"))
    arrays = load_file(root / "adapter/adapter_model.safetensors")
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    renamed = {key.replace("up_proj", "upp_proj"): x for key, x in arrays.items()}
    cases = [
        ({"use_dora": True}, arrays, "use_dora = True, which there is not here: merge the adapter"),
        ({"rank_pattern": {"q_proj": 8}}, arrays, "rank_pattern = {'q_proj': 8}, which"),
        ({"modules_to_save": ["lm_head"]}, arrays, r"modules_to_save = \['lm_head'\], which"),
        ({"bias": "lora_only"}, arrays, "bias = 'lora_only', which"),
        ({"init_lora_weights": "pissa"}, arrays, "init_lora_weights = 'pissa', which"),
        ({"r": 0}, arrays, "r = 0: set a whole number"),
        ({"lora_alpha": None}, arrays, "lora_alpha = None: set a number"),
        ({"r": 3}, arrays, r"holds .* not lora_A \[3, in\]"),
        ({"task_type": "SEQ_2_SEQ_LM"}, arrays, "task_type = 'SEQ_2_SEQ_LM', but an adapter"),
        ({}, renamed, "LoRA of model.layers.0.mlp.upp_proj.*did you mean .*up_proj"),
        ({}, arrays | {name: arrays[name][:, 1:].copy()}, r"does not fit .* is \(39, 4\) instead"),
        ({}, {k: x for k, x in arrays.items() if k != name}, "layers_0/mlp/wi_1/a.* is missing"),
        ({}, arrays | {name: arrays[name] * np.float32("nan")}, "up_proj.lora_A.weight has nan at"),
    ]
    for k, (changes, stored, says) in enumerate(cases):
        bad = tmp_path / f"bad{k}"
        bad.mkdir()
        (bad / "adapter_config.json").write_text(json.dumps(settings | changes), encoding="utf-8")
        save_file(stored, bad / "adapter_model.safetensors")
        with pytest.raises(UserError, match=says):
            import_adapter(str(bad), str(tmp_path / "work"), str(root / "base"))
    for arguments, says in [
        ((str(root / "work"),), "has LoRA already: merge"),
        ((str(root / "base"), "x"), "--prompt_name=x: .* is LoRA, which has no name"),
    ]:
        with pytest.raises(UserError, match=says):
            import_adapter(str(root / "adapter"), str(tmp_path / "work"), *arguments)
    with pytest.raises(UserError, match="holds an adapter and no model: give --base"):
        import_checkpoint(str(root / "adapter"), str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("case", ["llama"], indirect=True)
def test_options_that_cannot_work(case, tmp_path, capsys):
    root, out = case.root, str(tmp_path / "out")
    for arguments, says in [
        ([str(root / "base"), out, "--merge"], "--merge: "),
        ([str(root / "base"), out, "--lora"], "has no LoRA in its checkpoint"),
        ([str(root / "work"), out, "--merge=99"], "--merge = 99.0: set -10 to 10"),
        ([str(root / "work"), out, "--lora", "--merge"], "--merge has no effect"),
    ]:
        assert main(["export", *arguments]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1, said
    shutil.rmtree(out, ignore_errors=True)
    with pytest.raises(UserError, match="lora = 0.5: .* has no LoRA: leave it out"):
        LanguageModel(str(root / "base"), {"data": 1}, lora=0.5)

"""Soft prompts of PEFT in and out: its logits and ours are the same."""

import json
from pathlib import Path

import hf_models
import jax
import numpy as np
import pytest
from hf_models import DECODER_INPUTS, INPUTS, INSTALLED, LENGTH, PROMPT_LENGTH
from safetensors.numpy import load_file, save_file

from promot_jax.convert import export_model, import_adapter, import_checkpoint
from promot_jax.convert.inspect import inspect
from promot_jax.errors import UserError
from promot_jax.models import Decoding, Prompt, nested, prompt_ids
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load
from tests.t5_batches import answers, with_segments


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The work directory of a T5 1.1 of Transformers."""
    root = tmp_path_factory.mktemp("base")
    return import_checkpoint(str(hf_models.save("t5_1_1", root / "model")), str(root / "work"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """PEFT's adapter of our prompt, with the second half that it makes by default."""
    directory = tmp_path_factory.mktemp("adapter") / "saved"
    if INSTALLED:
        hf_models.save_adapter(directory, hf_models.model("t5_1_1"), 2)
        return directory
    directory.mkdir()
    settings = {"peft_type": "PROMPT_TUNING", "task_type": "SEQ_2_SEQ_LM"}
    settings |= {"num_virtual_tokens": PROMPT_LENGTH, "num_transformer_submodules": 2}
    (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = np.concatenate([hf_models.prompt(), np.full_like(hf_models.prompt(), 9.0)])
    save_file({"prompt_embeddings": rows}, directory / "adapter_model.safetensors")
    return directory


@pytest.fixture(scope="module")
def prompted(adapter, base, tmp_path_factory) -> Path:
    """The work directory of the model with the adapter's prompt."""
    workdir = tmp_path_factory.mktemp("prompted") / "work"
    return import_adapter(str(adapter), str(workdir), str(base), "target")


def computed(workdir: Path, prompt: str | None) -> dict[str, np.ndarray]:
    """Logits with a prompt in front of every input or none; with one, also what is generated."""
    about = Description.read(str(workdir))
    model = about.module()
    variables = load(str(workdir), Layout(model, make_mesh()))
    tokens = INPUTS
    if prompt is not None:
        ids = prompt_ids([Prompt(*p) for p in about.prompts], about.model.vocab_size)[prompt]
        tokens = np.concatenate([np.tile(ids, (len(tokens), 1)), tokens], axis=1)
    batch = with_segments({"encoder_input_tokens": tokens, "decoder_input_tokens": DECODER_INPUTS})

    @jax.jit
    def both(variables):
        logits = {"logits": model.apply(nested(variables), batch)}
        if prompt is None:
            return logits
        return logits | {"greedy": answers(model, variables, tokens, Decoding(LENGTH))[0]}

    found = jax.device_get(both(variables))
    return found | {"logits": found["logits"][..., :: hf_models.EVERY]}


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours["logits"], theirs["logits"], atol=1e-4, rtol=0)
    if "greedy" in ours:
        np.testing.assert_array_equal(ours["greedy"], theirs["greedy"])


def test_adapter_in(prompted, adapter):
    """With PEFT's adapter our outputs are PEFT's, and without it those of the model alone."""
    assert_same(computed(prompted, "target"), hf_models.expected("t5_1_1", adapter))
    assert_same(computed(prompted, None), hf_models.expected("t5_1_1"))
    stored = prompted / "1-import/checkpoints/0"
    facts = inspect(str(stored))
    assert facts["prompts"] == {"target": PROMPT_LENGTH}
    assert facts["parameters"] == PROMPT_LENGTH * hf_models.SIZES["d_model"]  # and no copy of base


def test_prompts_out(prompted, adapter, tmp_path):
    """The exported adapter holds the prompt for the encoder alone, and PEFT's outputs are ours."""
    second = import_adapter(str(adapter), str(tmp_path / "two"), str(prompted), "other")
    exported = export_model(str(second), str(tmp_path / "exported"))
    assert {path.name for path in (exported / "prompts").iterdir()} == {"target", "other"}
    for name in ("target", "other"):
        stored = load_file(exported / "prompts" / name / "adapter_model.safetensors")
        np.testing.assert_array_equal(stored["prompt_embeddings"], hf_models.prompt())
        settings = json.loads(
            (exported / "prompts" / name / "adapter_config.json").read_text(encoding="utf-8")
        )
        assert settings["num_transformer_submodules"] == 1
        assert settings["num_virtual_tokens"] == PROMPT_LENGTH
    if INSTALLED:
        made = hf_models.classes("t5_1_1")[1].from_pretrained(exported).eval()
        theirs = hf_models.results(made, exported / "prompts" / "target")
        theirs["logits"] = theirs["logits"][..., :: hf_models.EVERY]
        assert_same(computed(second, "target"), theirs)


def test_bad_adapters(adapter, base, prompted, tmp_path):
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rows = load_file(adapter / "adapter_model.safetensors")["prompt_embeddings"]
    cases = [
        ({"peft_type": "IA3"}, rows, "peft_type = 'IA3': only .PROMPT_TUNING. and .LORA."),
        ({"task_type": "CAUSAL_LM"}, rows, "task_type = 'CAUSAL_LM'"),
        ({"num_virtual_tokens": 99}, rows, "num_virtual_tokens = 99"),
        ({"token_dim": 32}, rows[:, :-1].copy(), "token_dim = 32, but its vectors have 31"),
        ({"token_dim": 31}, rows[:, :-1].copy(), "vectors of 31 numbers, but .* has 32"),
        ({}, rows * np.float32(np.nan), "prompt_embeddings has nan at"),
    ]
    for k, (changes, array, says) in enumerate(cases):
        bad = tmp_path / f"bad{k}"
        bad.mkdir()
        (bad / "adapter_config.json").write_text(json.dumps(settings | changes), encoding="utf-8")
        save_file({"prompt_embeddings": array}, bad / "adapter_model.safetensors")
        with pytest.raises(UserError, match=says):
            import_adapter(str(bad), str(tmp_path / "work"), str(base), "target")
    with pytest.raises(UserError, match="--base"):
        import_checkpoint(str(adapter), str(tmp_path / "work"))
    with pytest.raises(UserError, match="--prompt_name=target"):
        import_adapter(str(adapter), str(tmp_path / "work"), str(prompted), "target")
    assert not (tmp_path / "work").exists()


def test_a_prompt_stays_float32_with_a_model_in_bfloat16(adapter, tmp_path):
    model = hf_models.save("t5_1_1", tmp_path / "model")
    base = import_checkpoint(str(model), str(tmp_path / "base"), dtype="bfloat16")
    work = import_adapter(str(adapter), str(tmp_path / "work"), str(base), "target")
    exported = export_model(str(work), str(tmp_path / "exported"))
    found = load_file(exported / "prompts/target/adapter_model.safetensors")["prompt_embeddings"]
    np.testing.assert_array_equal(found, hf_models.prompt())


@pytest.mark.parametrize("name", ["../escaped", "a/b", "..", ""])
def test_a_name_stays_in_its_directory(adapter, base, tmp_path, name):
    with pytest.raises(UserError, match="Prompt.name"):
        import_adapter(str(adapter), str(tmp_path / "work"), str(base), name)
    assert list(tmp_path.iterdir()) == []

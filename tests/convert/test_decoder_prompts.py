"""PEFT's prompts for decoders in and out: its logits and ours are the same.

Ours are at most three times as far from PEFT's in float64 as PEFT's own in float32.
"""

import json
import sys
from pathlib import Path

import decoder_models
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from promot_jax.cli.main import main
from promot_jax.convert import export_model, import_adapter, import_checkpoint
from promot_jax.convert.inspect import inspect
from promot_jax.errors import UserError
from promot_jax.models import Prompt, nested, prompt_ids
from promot_jax.run import LanguageModel
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hf_decoders import in_float64

peft = pytest.importorskip("peft", reason="needs make parity")
pytestmark = pytest.mark.skipif(not decoder_models.INSTALLED, reason="needs make parity")
LENGTH = 3
IDS = np.random.default_rng(0).integers(10, 450, (2, 9))


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma3"])
def base(request, tmp_path_factory) -> Path:
    """A directory with a model as Transformers save it, the work directory of it, an adapter."""
    import torch
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp(request.param)
    decoder_models.save(request.param, root / "model")
    import_checkpoint(str(root / "model"), str(root / "work"))
    torch.manual_seed(0)
    settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    made = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(root / "model"), settings)
    made.save_pretrained(root / "adapter")
    return root


def of_peft(model: Path, adapter: Path, double: bool) -> np.ndarray:
    """PEFT's logits for the text behind the prompt."""
    import torch
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()
    ids = torch.tensor(IDS)
    with torch.no_grad():
        if not double:
            return peft.PeftModel.from_pretrained(made, adapter)(ids).logits[:, LENGTH:].numpy()
        weights = {name: x.double() for name, x in made.state_dict().items()}
        with in_float64():
            exact = type(made)(made.config).double().eval()
        exact.load_state_dict(weights)
        exact = peft.PeftModel.from_pretrained(exact, adapter).double()
        with in_float64():
            return exact(ids).logits[:, LENGTH:].numpy()


def ours(workdir: Path, name: str) -> np.ndarray:
    """Our logits for the same."""
    about = Description.read(str(workdir))
    model = about.module()
    variables = load(str(workdir), Layout(model, make_mesh()))
    prompts = [Prompt(*prompt) for prompt in about.prompts]
    prompt = prompt_ids(prompts, about.model.vocab_size)[name]
    ids = np.concatenate([np.tile(prompt, (len(IDS), 1)), IDS], axis=1).astype(np.int32)
    places = np.tile(np.arange(LENGTH, ids.shape[1], dtype=np.int32), (len(IDS), 1))
    batch = {"decoder_input_tokens": ids, "decoder_target_positions": places}
    return np.asarray(jax.jit(lambda v: model.apply(nested(v), batch))(variables))


def assert_same(found: np.ndarray, model: Path, adapter: Path) -> None:
    theirs, exact = (of_peft(model, adapter, double) for double in (False, True))
    assert np.abs(found - exact).max() <= 3 * np.abs(theirs - exact).max()
    assert np.abs(exact).max() > 1


def test_in_and_out(base, tmp_path):
    """An adapter in, and the prompts of a work directory out, each bit by bit."""
    arguments = ["import", str(base / "adapter"), str(tmp_path / "one"), "--prompt_name=one"]
    assert main([*arguments, f"--base={base / 'work'}"]) == 0
    assert_same(ours(tmp_path / "one", "one"), base / "model", base / "adapter")
    assert inspect(str(tmp_path / "one"))["prompts"] == {"one": LENGTH}
    work = import_adapter(
        str(base / "adapter"), str(tmp_path / "two"), str(tmp_path / "one"), "two"
    )
    exported = export_model(str(work), str(tmp_path / "exported"))
    theirs = load_file(base / "adapter/adapter_model.safetensors")["prompt_embeddings"]
    for name in ("one", "two"):
        adapter = exported / "prompts" / name
        stored = load_file(adapter / "adapter_model.safetensors")["prompt_embeddings"]
        np.testing.assert_array_equal(stored, theirs)
        told, before = (
            json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
            for path in (adapter, base / "adapter")
        )
        for field in ("task_type", "token_dim", "num_layers", "num_attention_heads"):
            assert told[field] == before[field], field
        assert told["num_transformer_submodules"] == before["num_transformer_submodules"] == 1
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (exported / name).read_bytes() == (base / "model" / name).read_bytes()
    assert_same(ours(work, "two"), exported, exported / "prompts" / "two")
    served = LanguageModel(str(exported), {"data": 1})
    assert set(served.prompts) == {"one", "two"}
    source = inspect(str(exported))
    assert source["prompts"] == {"one": LENGTH, "two": LENGTH}


def test_adapters_of_another_model(base, tmp_path):
    theirs = load_file(base / "adapter/adapter_model.safetensors")["prompt_embeddings"]
    settings = json.loads((base / "adapter/adapter_config.json").read_text(encoding="utf-8"))
    width = theirs.shape[1]
    cases = [
        ({"task_type": "SEQ_2_SEQ_LM"}, theirs, "task_type = 'SEQ_2_SEQ_LM', but .*'CAUSAL_LM'"),
        ({"task_type": "SEQ_CLS"}, theirs, "only 'SEQ_2_SEQ_LM' and 'CAUSAL_LM'"),
        ({"peft_type": "PREFIX_TUNING"}, theirs, "only 'PROMPT_TUNING'"),
        (
            {"token_dim": width - 1},
            theirs[:, 1:].copy(),
            rf"vectors of {width - 1} numbers, but .* has {width} \(token_dim\)",
        ),
    ]
    for k, (changes, rows, says) in enumerate(cases):
        (tmp_path / f"{k}").mkdir()
        text = json.dumps(settings | changes)
        (tmp_path / f"{k}/adapter_config.json").write_text(text, encoding="utf-8")
        save_file({"prompt_embeddings": rows}, tmp_path / f"{k}/adapter_model.safetensors")
        with pytest.raises(UserError, match=says):
            import_adapter(str(tmp_path / f"{k}"), str(tmp_path / "w"), str(base / "work"), "x")
    assert not (tmp_path / "w").exists()

"""Every directory of ../shared/trials/make_hf.py: read as Transformers read it, or one line."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hf_models import INSTALLED
from safetensors.numpy import load_file
from tokenizer_files import SENTINELS, TEXTS

from promot_jax.convert import export_model, import_adapter, import_checkpoint, load_checkpoint
from promot_jax.errors import UserError
from promot_jax.models import nested
from promot_jax.training import make_mesh
from promot_jax.training.checkpoints import Checkpoints
from promot_jax.training.variables import stage_directory
from promot_jax.vocabularies import build
from tests.t5_batches import with_segments

BASE = "promot_jax/assets/lab/base"
SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
SCRIPT = SHARED / "trials" / "make_hf.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason=f"{SCRIPT} is not there")
READ = (
    "hf v_added v_added_fast v_declayers v_enc_name v_fp16 v_gated_ok v_madlad v_nodec v_sentinels"
    " v_stale"
).split()
REFUSED = {
    "v_bigger": r"shared.weight .* is \(832, 96\) instead of \(768, 96\)",
    "v_encoder": "an encoder alone",
    "v_eps": "layer_norm_epsilon = 1e-05",
    "v_gelu": "feed_forward_proj = 'gelu'",
    "v_inf16": r"wo.weight has inf at \[0, 0\]",
    "v_lfs": "model.safetensors is a Git LFS pointer",
    "v_lfs_sp": "spiece.model is a Git LFS pointer",
    "v_nan": r"lm_head.weight has nan at \[5, 5\]",
    "v_prefix": "begin with 'model.'",
    "v_stale_copy": "shared.weight, encoder.embed_tokens.weight differ",
    "v_start": "decoder_start_token_id = 2",
    "v_two_tables": "encoder.embed_tokens.weight, decoder.embed_tokens.weight differ",
}
PROMPTS = {"a_null": 5, "a_fp16_double": 5}
REFUSED_PROMPTS = {
    "a_dim": "vectors of 64 numbers, .* has 96",
    "a_lora": "lora_alpha = None: set a number",
    "a_nan": "prompt_embeddings has nan",
}


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trials")
    export_model(BASE, str(root / "hf"))
    subprocess.run([sys.executable, SCRIPT], cwd=root, check=True)
    return root


def test_none_is_left_out(trials):
    known = {*READ, *REFUSED, *PROMPTS, *REFUSED_PROMPTS}
    assert {path.name for path in trials.iterdir() if path.is_dir()} == known


@pytest.mark.parametrize("name", READ)
def test_as_transformers_read_it(trials, name):
    """The same ids of texts, and the same logits of these; without Transformers: it is read."""
    description, files, variables = load_checkpoint(str(trials / name), make_mesh())
    vocabulary = build(description.vocabulary, files)
    if not INSTALLED:
        return
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(trials / name)
        theirs = AutoModelForSeq2SeqLM.from_pretrained(trials / name, dtype=torch.float32).eval()
    texts = TEXTS + SENTINELS * (name in ("v_added", "v_sentinels"))
    for text in texts:
        assert [*vocabulary.encode(text), 1] == tokenizer(text).input_ids, text
    rows = [[*vocabulary.encode(text), 1] for text in texts]
    inputs = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, ids in zip(inputs, rows, strict=True):
        row[: len(ids)] = ids
    outputs = np.roll(inputs[:, :8], 1, axis=1) * (np.arange(8) > 0)
    batch = with_segments(
        {"encoder_input_tokens": inputs, "decoder_input_tokens": outputs.astype(np.int32)}
    )
    ours = description.module().apply(nested(variables), batch)
    tokens, decoder = torch.tensor(inputs).long(), torch.tensor(outputs).long()
    with torch.no_grad():
        expected = theirs(
            input_ids=tokens, attention_mask=(tokens > 0).long(), decoder_input_ids=decoder
        ).logits.numpy()
    seen = np.arange(8) < (inputs > 0).sum(1)[:, None]  # not padding of ours, which sees nothing
    np.testing.assert_allclose(np.asarray(ours)[seen], expected[seen], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_one_line(trials, tmp_path, name):
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        import_checkpoint(str(trials / name), str(tmp_path / "work"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(trials, tmp_path, name):
    work = import_adapter(str(trials / name), str(tmp_path / "work"), BASE, "p")
    _, stage = stage_directory(str(work))
    found = Checkpoints(stage / "checkpoints", read_only=True)
    shapes = found.shapes(found.best())
    array = np.asarray(found.variables(found.best(), shapes)["prompt/p"])
    stored = load_file(trials / name / "adapter_model.safetensors")["prompt_embeddings"]
    np.testing.assert_array_equal(array, stored[: PROMPTS[name]].astype(np.float32))
    found.close()


@pytest.mark.parametrize("name", REFUSED_PROMPTS)
def test_one_line_of_a_prompt(trials, tmp_path, name):
    with pytest.raises(UserError, match=REFUSED_PROMPTS[name]):
        import_adapter(str(trials / name), str(tmp_path / "work"), BASE, "p")
    assert not (tmp_path / "work").exists()

"""`promot import model.gguf WORKDIR`: a work directory, or one line and nothing."""

import gguf_models
import ml_dtypes
import numpy as np
import pytest
from gguf_models import MIXED

from promot_jax.cli.main import main
from promot_jax.convert import import_checkpoint, open_source
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load
from promot_jax.vocabularies import build


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_work_directory(kind, dtype, tmp_path):
    path = str(gguf_models.write(tmp_path / "a.gguf", kind, MIXED, tied=kind != "llama"))
    workdir = str(import_checkpoint(path, str(tmp_path / "work"), dtype=dtype))
    source, about = open_source(path), Description.read(workdir)
    assert about.model.param_dtype == (dtype or "float32")
    assert build(about.vocabulary, about.vocabulary_files(workdir)) == source.vocabulary
    variables = load(workdir, Layout(about.module(), make_mesh({"fsdp": -1})))
    assert set(variables) == set(source.tensors)
    rounded = ml_dtypes.bfloat16 if dtype else np.float32
    for ours, tensor in source.tensors.items():
        np.testing.assert_array_equal(np.asarray(variables[ours]), tensor.read().astype(rounded))


def test_one_line_and_nothing(tmp_path, capsys):
    """Of a truncated file, one that lacks a tensor, and one of another architecture."""
    good = gguf_models.write(tmp_path / "good.gguf", "qwen3").read_bytes()
    path, workdir = tmp_path / "bad.gguf", tmp_path / "work"
    gguf_models.write(tmp_path / "less.gguf", "qwen3", MIXED, leave_out="blk.1.attn_k.weight")
    for content, says in (
        (good[:-1], "is truncated"),
        ((tmp_path / "less.gguf").read_bytes(), "blk.1.attn_k.weight"),
        (good.replace(b"qwen3", b"bloom"), "'bloom'"),
        (b"{}", "is no GGUF file"),
    ):
        path.write_bytes(content)
        assert main(["import", str(path), str(workdir)]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and says in error[0]
        assert not workdir.exists()

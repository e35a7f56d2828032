"""Prompts of google-research/prompt-tuning, in and out, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from t5x_writer import MINIMAL, t5x_arrays, write_checkpoint

from promot_jax.convert import export_prompt, import_adapter, import_checkpoint, npy
from promot_jax.errors import UserError
from promot_jax.models import T5, T5Config, abstract
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load

CONFIG = T5Config(
    vocab_size=384, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=16,
    num_encoder_layers=1, num_decoder_layers=1,
)  # fmt: skip
PROMPT = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A work directory without prompts."""
    root, rng = tmp_path_factory.mktemp("base"), np.random.default_rng(0)
    shapes = abstract(T5(CONFIG))
    variables = {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in shapes.items()}
    write_checkpoint(root / "t5x", t5x_arrays(variables, MINIMAL, 2), 1)
    return import_checkpoint(str(root / "t5x"), str(root / "w"), vocabulary="byte")


@pytest.fixture(scope="module")
def prompted(base, tmp_path_factory) -> Path:
    """A work directory of the base with two prompts, one imported after the other."""
    root = tmp_path_factory.mktemp("prompted")
    file = root / "encoder.prompt.prompt.prompt"  # as prompt-tuning names it
    with file.open("wb") as out:
        np.save(out, PROMPT)
    first = import_adapter(str(file), str(root / "first"), str(base), "rte")
    np.save(root / "more.npy", PROMPT[:2] + 1)
    return import_adapter(str(root / "more.npy"), str(root / "second"), str(first), "more")


def test_in(prompted, base):
    description = Description.read(str(prompted))
    assert description.prompts == (("rte", 5), ("more", 2))
    variables = load(str(prompted), Layout(description.module(), make_mesh({"fsdp": -1})))
    np.testing.assert_array_equal(variables["prompt/rte"], PROMPT)
    np.testing.assert_array_equal(variables["prompt/more"], PROMPT[:2] + 1)
    before = load(str(base), Layout(T5(CONFIG), make_mesh({"fsdp": -1})))
    for path, expected in before.items():
        np.testing.assert_array_equal(variables[path], expected)


def test_out(prompted, tmp_path):
    target = export_prompt(str(prompted), str(tmp_path / "prompt.npy"), "rte")
    found = np.load(target)
    assert found.dtype == np.float32 and [p.name for p in tmp_path.iterdir()] == ["prompt.npy"]
    np.testing.assert_array_equal(found, PROMPT)


def test_the_only_prompt_needs_no_name(prompted, tmp_path):
    target = export_prompt(str(prompted.with_name("first")), str(tmp_path / "p.npy"))
    np.testing.assert_array_equal(np.load(target), PROMPT)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (PROMPT[0], r"shape \(8,\)"),
        (PROMPT.astype(int), "int64"),
        (np.array([[{}]]), "no readable .npy file"),  # pickled
    ],
)
def test_no_prompt(tmp_path, array, says):
    np.save(tmp_path / "p.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=says):
        npy.read(str(tmp_path / "p.npy"))


def test_cut_off(tmp_path):
    np.save(tmp_path / "p.npy", PROMPT)
    content = (tmp_path / "p.npy").read_bytes()
    (tmp_path / "p.npy").write_bytes(content[:-4])
    with pytest.raises(UserError, match="no readable .npy file .* restore it"):
        npy.read(str(tmp_path / "p.npy"))


def test_of_another_width(base, tmp_path):
    np.save(tmp_path / "p.npy", PROMPT[:, :4])
    with pytest.raises(UserError, match="vectors of 4 numbers, but .* has 8"):
        import_adapter(str(tmp_path / "p.npy"), str(tmp_path / "w"), str(base), "rte")


def test_what_cannot_be_exported(base, prompted, tmp_path):
    target = str(tmp_path / "p.npy")
    with pytest.raises(UserError, match="no prompt in its checkpoint"):
        export_prompt(str(base), target)
    with pytest.raises(UserError, match="more, rte|rte, more"):
        export_prompt(str(prompted), target)
    with pytest.raises(UserError, match="--prompt=rtee.*did you mean 'rte'"):
        export_prompt(str(prompted), target, "rtee")
    with pytest.raises(UserError, match="cannot be written .* choose another"):
        export_prompt(str(prompted), str(tmp_path / "none" / "p.npy"), "rte")
    assert list(tmp_path.iterdir()) == []

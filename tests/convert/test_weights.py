"""Files of weights with what people's checkpoints have: as Transformers read them, or one line."""

import json
from pathlib import Path

import hf_models
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from promot_jax.convert import (
    export_model,
    import_adapter,
    import_checkpoint,
    load_checkpoint,
    open_source,
)
from promot_jax.convert.source import check_finite
from promot_jax.errors import UserError
from promot_jax.training import make_mesh

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nsize 3078\n"
)
EMBEDDING = "params/token_embedder/embedding"
INDEX = "model.safetensors.index.json"
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@pytest.fixture
def model(tmp_path) -> Path:
    """A T5 1.1 as Transformers save it, to be spoilt."""
    return hf_models.save("t5_1_1", tmp_path / "model")


def change(directory: Path, **tensors: np.ndarray | None) -> dict[str, np.ndarray]:
    """Other tensors; None: gone. Names have "__" for dots."""
    stored = load_file(directory / "model.safetensors")
    for name, array in tensors.items():
        stored[name.replace("__", ".")] = array
    stored = {name: np.ascontiguousarray(x) for name, x in stored.items() if x is not None}
    save_file(stored, directory / "model.safetensors", metadata={"format": "pt"})
    return stored


def refused(directory: Path, says: str) -> None:
    """Import says it and leaves nothing."""
    work = directory.with_name("work")
    with pytest.raises(UserError, match=says) as caught:
        import_checkpoint(str(directory), str(work))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not work.exists()


def test_a_whole_file_is_read_before_shards(model, capsys):
    """As by Transformers, whatever the index beside it names."""
    table = load_file(model / "model.safetensors")["shared.weight"]
    (model / INDEX).write_text('{"weight_map": {"shared.weight": "old"}}', encoding="utf-8")
    found = open_source(str(model)).tensors[EMBEDDING].read()
    np.testing.assert_array_equal(found, table)
    assert f"{INDEX} and its shards are not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"a": "../model/kept.safetensors"}}, "is no plain name"),
        ({"weight_map": {"a": "{absolute}"}}, "is no plain name"),
        ({"weight_map": {"a": "sub/kept.safetensors"}}, "is no plain name"),
        ({"weight_map": {"a": ".."}}, "is no plain name"),
        ({"weight_map": {"a": 5}}, "5 is no plain name"),
        ({"weight_map": {"a": ["b"]}}, "is no plain name"),
        ({"weight_map": {"a": "gone.safetensors"}}, "gone.safetensors, absent"),
        ({"weight_map": {str(i): f"gone{i}" for i in range(99)}}, "gone11, and 95 more, absent"),
        ({"weight_map": []}, "no weight_map"),
        ({}, "no weight_map"),
        ([], "is damaged"),
    ],
)
def test_an_index_names_files_beside_it(model, index, says):
    """Not others, though these are there."""
    (model / "model.safetensors").rename(model / "kept.safetensors")
    text = json.dumps(index).replace("{absolute}", str(model / "kept.safetensors"))
    (model / INDEX).write_text(text, encoding="utf-8")
    refused(model, says)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"weight_map": NaN}', POINTER, "\xff"])
def test_an_index_that_is_none(model, text):
    (model / "model.safetensors").unlink()
    (model / INDEX).write_text(text, encoding="latin-1")
    refused(model, "damaged|Git LFS pointer")


@pytest.mark.parametrize("name", ["config.json", "spiece.model", "model.safetensors"])
def test_what_git_did_not_fetch(model, name):
    (model / name).write_text(POINTER, encoding="utf-8")
    refused(model, f"{name} is a Git LFS pointer.*git lfs pull")


@pytest.mark.parametrize("copies", [TABLES[:2], TABLES[::2], TABLES[1:], TABLES])
def test_tables_that_differ(model, copies):
    """Transformers 5 give each stack the table under its own name, where it is no copy."""
    table = load_file(model / "model.safetensors")["shared.weight"]
    gone = {"shared.weight": None} | dict.fromkeys(copies, table)
    change(model, **gone)
    np.testing.assert_array_equal(open_source(str(model)).tensors[EMBEDDING].read(), table)
    change(model, **{copies[-1]: table[::-1]})
    refused(model, f"{copies[0]}.*{copies[-1]} differ")


def test_names_with_a_prefix(model):
    stored = change(model)
    change(model, **{f"model.{k}": x for k, x in stored.items()}, **dict.fromkeys(stored))
    refused(model, "begin with 'model.'")


def test_an_encoder_alone(model):
    stored = change(model)
    change(model, **{name: None for name in stored if name.startswith(("decoder", "lm_head"))})
    refused(model, "holds an encoder alone")


def test_at_most_four_problems_are_named(model):
    stored = change(model)
    change(model, **{name: None for name in stored if name.startswith("decoder.block.1")})
    refused(model, "14 tensors: (decoder[^;]*; ){4}and 10 more$")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers_that_are_not_finite(model, value, dtype):
    name = "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    stored = {k: x.astype(dtype) for k, x in change(model).items()}
    stored[name][3, 5] = value
    change(model, **stored)
    refused(model, rf"{name} has {value} at \[5, 3\]")  # as it lies here, transposed
    with pytest.raises(UserError, match=name):
        load_checkpoint(str(model), make_mesh())


def test_every_number_is_looked_at():
    """However the array lies, and however large it is."""
    for shape, place in (((3000, 3000), (2999, 2998)), ((4, 5, 6), (3, 4, 5)), ((), ())):
        array = np.zeros(shape, np.float32)
        check_finite("x", array)
        array[place] = np.nan
        for each in (array, array.T, np.repeat(array[None], 2, 0)[1]):
            with pytest.raises(UserError, match="x has nan at"):
                check_finite("x", each)


def test_an_export_is_finite_too(model, tmp_path):
    """bfloat16 has no number as large as the largest of float32; nothing is left of the export."""
    stored = change(model)
    large = np.where(stored["shared.weight"] > 0, np.finfo(np.float32).max, 0).astype(np.float32)
    change(model, **{"shared.weight": large})
    work = import_checkpoint(str(model), str(tmp_path / "work"))
    with pytest.raises(UserError, match=r"shared.weight has inf at \[0"):
        export_model(str(work), str(tmp_path / "out"), dtype="bfloat16")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "work"}


@pytest.mark.parametrize("kind", ["bert", None, 5, "t5gemma"])
def test_models_of_another_type(model, kind):
    values = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(values | {"model_type": kind}), encoding="utf-8")
    refused(model, f"is a model of type {kind!r}")


def test_generation_settings_and_type_come_back(model, tmp_path):
    """Of the source and, through its base, of a model made from it."""
    values = json.loads((model / "config.json").read_text(encoding="utf-8"))
    values |= {"model_type": "mt5", "tie_word_embeddings": False}
    (model / "config.json").write_text(json.dumps(values), encoding="utf-8")
    own = {"num_beams": 4, "max_new_tokens": 7, "eos_token_id": [1], "note": "é"}
    (model / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    work = import_checkpoint(str(model), str(tmp_path / "work"))
    out = export_model(str(work), str(tmp_path / "out"))
    assert json.loads((out / "generation_config.json").read_text(encoding="utf-8")) == own
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["model_type"] == "mt5"
    np.save(tmp_path / "p.npy", np.ones((3, 32), np.float32))
    prompted = import_adapter(str(tmp_path / "p.npy"), str(tmp_path / "prompted"), str(work), "p")
    out = export_model(str(prompted), str(tmp_path / "out2"))
    assert json.loads((out / "generation_config.json").read_text(encoding="utf-8")) == own
    (work / "huggingface.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    with pytest.raises(UserError, match="huggingface.json is damaged .*delete it"):
        export_model(str(work), str(tmp_path / "out3"))


def test_generation_settings_where_the_source_has_none(model, tmp_path):
    (model / "generation_config.json").unlink(missing_ok=True)
    work = import_checkpoint(str(model), str(tmp_path / "work"))
    out = export_model(str(work), str(tmp_path / "out"))
    found = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
    assert found == {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}

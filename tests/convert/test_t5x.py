"""T5X's checkpoints: every generation, type and layout of them gives the same variables."""

import ast
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import serialization
from t5x_writer import MINIMAL, SCALABLE, SCANNED, t5x_arrays, write_checkpoint

from promot_jax.convert import import_checkpoint, t5x
from promot_jax.errors import UserError
from promot_jax.models import T5, T5Config, abstract
from promot_jax.training import make_mesh
from promot_jax.training.variables import Layout, load

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared")) / "fixtures"
SIZES = {"vocab_size": 32, "emb_dim": 8, "num_heads": 2, "head_dim": 4, "mlp_dim": 16}
LAYERS = {"num_encoder_layers": 2, "num_decoder_layers": 2}
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="t5x's files are not there (fixtures in PROMOT_SHARED)"
)


def variables_of(config: T5Config, prompts=()) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = abstract(T5(config, prompts))
    return {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in shapes.items()}


def same(source, expected) -> None:
    assert source.tensors.keys() == expected.keys()
    for path, tensor in source.tensors.items():
        array = tensor.read()
        assert (array.shape, array.dtype.name) == (tensor.shape, tensor.dtype)
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


@needs_shared
@pytest.mark.parametrize("kind", ["legacy", "orbax"])
def test_what_t5x_wrote(kind):
    """In the two ways it writes: all arrays, and the settings in its config.json's place."""
    with np.load(SHARED / "t5x_tiny" / "params_flat.npz") as file:
        expected = {f"params/{k.removeprefix('target/')}": file[k] for k in file}
    source = t5x.read(str(SHARED / "t5x_tiny" / kind))
    same(source, expected)
    assert source.config == T5Config(
        vocab_size=384, emb_dim=32, num_heads=2, head_dim=16, mlp_dim=64, **LAYERS
    )
    about = {"format": kind, "layout": "minimal", "step": 300, "ignored_arrays": 208}
    assert source.about == about


def table(name: str) -> dict[str, jax.ShapeDtypeStruct]:
    """Paths and shapes that t5x gave for a model."""
    lines = (SHARED / "t5x_params" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t")[:2] for line in lines]
    return {path: jax.ShapeDtypeStruct(ast.literal_eval(shape), "float32") for path, shape in rows}


@needs_shared
@pytest.mark.parametrize(
    ("name", "arrays", "per_layer"),
    [
        ("t5_1_0_small", 131, False),
        ("t5_1_1_small", 190, False),
        ("t5_1_1_small_scalable_noscan", 204, True),
        ("t5_1_1_small_scalable_scan", 29, True),
    ],
)
def test_tables_of_paths(name, arrays, per_layer):
    """Every array of theirs has a place, every parameter of ours an array; no number is lost."""
    theirs = table(name)
    assert len(theirs) == arrays
    tensors = t5x.tensors_of(theirs, "prompt")
    config = t5x.infer(name, tensors)
    ours = {path: leaf.shape for path, leaf in abstract(T5(config)).items()}
    assert {path: tensor.shape for path, tensor in tensors.items()} == ours
    count = sum(math.prod(shape) for shape in ours.values())
    assert count == sum(math.prod(x.shape) for x in theirs.values())
    small = {"vocab_size": 32128, "emb_dim": 512, "head_dim": 64, "relpos_per_layer": per_layer}
    eleven = {"num_heads": 6, "mlp_dim": 1024, "num_encoder_layers": 8, "num_decoder_layers": 8}
    ten = {"num_heads": 8, "mlp_dim": 2048, "num_encoder_layers": 6, "num_decoder_layers": 6}
    ten |= {"mlp_activations": ("relu",), "logits_via_embedding": True}
    assert config == T5Config(**small, **(ten if "1_0" in name else eleven))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", [MINIMAL, SCALABLE, SCANNED])
def test_old_checkpoints(tmp_path, layout, dtype):
    config = T5Config(
        **SIZES, **LAYERS, param_dtype=dtype, relpos_per_layer=layout != MINIMAL,
    )  # fmt: skip
    variables = variables_of(config, (("prompt", 3),))
    arrays = t5x_arrays(variables, layout, config.num_heads)
    directory = write_checkpoint(tmp_path, arrays, 7)
    source = t5x.read(str(directory / "checkpoint"))
    same(source, variables)
    assert source.config == config
    assert source.about["layout"] == ("scanned" if layout == SCANNED else "minimal")
    assert source.about["step"] == 7


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    """T5 1.0 with two checkpoints, and one that was never finished; and the newer's variables."""
    root = tmp_path_factory.mktemp("model")
    config = T5Config(**SIZES, **LAYERS, mlp_activations=("relu",), logits_via_embedding=True)
    variables = variables_of(config)
    arrays = t5x_arrays(variables, MINIMAL, config.num_heads)
    write_checkpoint(root, {name: x + 1 for name, x in arrays.items()}, 9)
    write_checkpoint(root, arrays, 10)
    (root / "checkpoint_11.orbax-checkpoint-tmp-1" / "state").mkdir(parents=True)
    (root / "checkpoint_11.orbax-checkpoint-tmp-1" / "state" / "d").touch()
    return root, config, variables


def test_the_newest_of_a_model_directory(model_directory):
    root, config, variables = model_directory
    source = t5x.read(str(root))
    assert (source.config, source.family, source.about["step"]) == (config, "t5 1.0", 10)
    same(source, variables)


def test_import(model_directory, tmp_path):
    """Into a work directory; the activation, of which nothing is written, is the user's."""
    root, config, variables = model_directory
    made = import_checkpoint(
        str(root), str(tmp_path / "w"), vocabulary="byte", activation="silu"
    )  # fmt: skip
    said = json.loads((made / "run.json").read_text(encoding="utf-8"))
    assert said["model"]["mlp_activations"] == ["silu"]
    assert said["vocabulary"] == {"kind": "byte", "extra_ids": 0}
    loaded = load(str(made), Layout(T5(config), make_mesh({"fsdp": -1})))
    assert loaded.keys() == variables.keys()
    for path, expected in variables.items():
        np.testing.assert_array_equal(loaded[path], expected, err_msg=path)


def test_import_asks_for_the_vocabulary(model_directory, tmp_path):
    with pytest.raises(UserError, match="has no vocabulary .* --vocabulary=byte"):
        import_checkpoint(str(model_directory[0]), str(tmp_path / "w"))
    assert not (tmp_path / "w").exists()


@pytest.fixture
def own(tmp_path):
    """(changes of arrays) -> path of a checkpoint of the tests' own."""
    arrays = t5x_arrays(variables_of(T5Config(**SIZES, **LAYERS)), MINIMAL, 2)

    def write(changes=None) -> Path:
        changed = {k: x for k, x in (arrays | (changes or {})).items() if x is not None}
        return write_checkpoint(tmp_path, changed, 1)

    return write


def test_a_lost_chunk(own):
    """It would read as zeros."""
    directory = own()
    (directory / "target.encoder.layers_0.mlp.wo.kernel" / "1.1").unlink()
    source = t5x.read(str(directory))
    with pytest.raises(UserError, match="encoder/layers_0/mlp/wo/kernel .*1.1. is missing"):
        source.tensors["params/encoder/layers_0/mlp/wo/kernel"].read()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'model_checkpoint_path: "model.ckpt-1"\n', "cannot be read"),  # TensorFlow's
        (b"", "cannot be read"),
    ],
)
def test_a_file_of_another_kind(tmp_path, content, says):
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(UserError, match=says):
        t5x.read(str(tmp_path))


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc", "a\0b"])
def test_arrays_lie_in_the_checkpoint(own, tmp_path, key):
    """Though one is there: what a file names outside of itself is not opened."""
    directory = own()
    name = "target.token_embedder.embedding"
    (directory / name).rename(tmp_path / "outside")
    for leaf in (f"PLACEHOLDER://{key}", {"driver": "zarr", "kvstore": {"path": key}}):
        tree = {"optimizer": {"target": {"token_embedder": {"embedding": leaf}}}}
        (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
        with pytest.raises(UserError, match="names an array outside of itself"):
            t5x.read(str(directory))


def test_numbers_that_are_not_finite(own, tmp_path):
    name = "encoder/layers_0/mlp/wo/kernel"
    spoilt = np.full((SIZES["mlp_dim"], SIZES["emb_dim"]), np.inf, np.float32)
    with pytest.raises(UserError, match=f"{name} has inf at"):
        import_checkpoint(str(own({name: spoilt})), str(tmp_path / "work"), vocabulary="byte")
    assert not (tmp_path / "work").exists()


def test_an_array_that_is_named_and_not_there(own):
    directory = own()
    (directory / "target.token_embedder.embedding" / ".zarray").unlink()
    with pytest.raises(UserError, match="cannot be read .*token_embedder"):
        t5x.read(str(directory))


@pytest.mark.parametrize("path", [".", "none"])
def test_no_checkpoint(tmp_path, path):
    with pytest.raises(UserError, match="no T5X checkpoint: give the directory checkpoint_<step>"):
        t5x.read(str(tmp_path / path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token_embedder/embedding": None}, "'params/token_embedder/embedding' is absent"),
        ({"encoder/relpos_bias/rel_embedding": np.ones((3, 32))}, "width 8 .* into 3 heads"),
    ],
)
def test_no_t5(own, changes, says):
    with pytest.raises(UserError, match=says):
        t5x.read(str(own(changes)))


def test_what_does_not_fit_is_named_at_once(own, tmp_path):
    surplus = {"encoder/adapter/kernel": np.ones((2, 2), np.float32)}
    missing = {"decoder/layers_1/mlp/wo/kernel": None, "decoder/decoder_norm/scale": None}
    with pytest.raises(UserError, match="3 tensors: .*adapter/kernel.*decoder_norm.*wo/kernel"):
        import_checkpoint(str(own(surplus | missing)), str(tmp_path / "w"), vocabulary="byte")


def test_a_bucket(own, bucket):
    """What lies in one is read there."""
    server, url = bucket
    directory = own()
    server.copy(directory.parent, url)
    ours, theirs = (t5x.read(each).tensors for each in (str(directory), f"{url}/"))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(theirs[name].read(), tensor.read())

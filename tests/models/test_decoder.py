"""Settings that change no number of a decoder: scan, remat, packing, a mesh of many devices."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mesh_decoder import PROMPT, VOCAB, batch_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import (
    DecoderConfig,
    abstract,
    init,
    logical_axes,
    loss,
    nested,
    stack_layers,
    unstack_layers,
)
from promot_jax.models.config import RopeScaling

HERE = Path(__file__).parent
GEMMA = {
    "norm_offset": True, "norm_placement": "both", "qk_norm": "head", "scale_embeddings": True,
    "mlp_activation": "gelu", "layer_types": ("local", "global"), "sliding_window": 3,
    "local_rope_theta": 10.0, "rope_scaling": RopeScaling("linear", 2.0),
    "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
}  # fmt: skip
OLMO = {"norm_placement": "after", "qk_norm": "width", "logits_via_embedding": False}
KINDS = {"llama": {}, "qwen": {"qkv_bias": True}, "gemma": GEMMA, "olmo": OLMO}
KINDS["smollm3"] = {"layer_types": ("global", "no_rope")}
SCAN, REMAT = {"scan_layers": True}, {"remat": True}


def measure(model, variables, batch):
    """The loss and its gradients."""
    total = lambda v: loss(model, v, batch, None, 0.1, 1e-4)[0]  # noqa: E731
    return jax.jit(jax.value_and_grad(total))(variables)


def near(gradients, expected):
    assert gradients.keys() == expected.keys()
    for path, wanted in expected.items():
        scale = np.abs(wanted).max()
        assert scale > 0, path
        np.testing.assert_allclose(gradients[path], wanted, atol=1e-4 * scale, err_msg=path)


@pytest.mark.parametrize("kind", KINDS)
def test_scan_and_remat_change_nothing(kind):
    model = tiny(**KINDS[kind])
    variables, batch = variables_of(model), batch_of()
    expected, wanted = measure(model, variables, batch)
    for changes in (SCAN, REMAT, SCAN | REMAT):
        other = tiny(**KINDS[kind], **changes)
        value, gradients = measure(other, variables_of(other), batch)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        near(unstack_layers(gradients), wanted)


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_packed_is_unpacked(kind):
    """Two rows in one, and the same targets: the same loss and gradients."""
    model = tiny(**KINDS[kind])
    variables, batch = variables_of(model), batch_of(rows=2)
    expected, wanted = measure(model, variables, batch)
    length = batch["decoder_input_tokens"].shape[1]
    shift = np.array([[0], [length]], np.int32)
    packed = {name: x.reshape(1, -1) for name, x in batch.items()}
    packed["decoder_target_positions"] = (batch["decoder_target_positions"] + shift).reshape(1, -1)
    packed["decoder_positions"] = np.tile(np.arange(length, dtype=np.int32), 2)[None]
    ends = batch["decoder_target_positions"].max(axis=1)[:, None]
    segments = np.where(np.arange(length) <= ends, [[1], [2]], 0)
    packed["decoder_segment_ids"] = segments.reshape(1, -1).astype(np.int32)
    value, gradients = measure(model, variables, packed)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    near(gradients, wanted)


def test_prompts_have_gradients_and_only_where_they_stand():
    model = tiny(prompts=(("one", 2), ("two", 3)), **GEMMA)
    variables, batch = variables_of(model), batch_of()
    batch["decoder_input_tokens"][:, :3] = [VOCAB + 2, VOCAB + 3, VOCAB + 4]
    _, gradients = measure(model, variables, batch)
    assert not np.abs(gradients["prompt/one"]).any() and np.abs(gradients["prompt/two"]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, SCAN], ids=["", "scan"])
def test_shapes_at_no_cost_are_those_of_init(kind, changes):
    model = tiny(**KINDS[kind], **changes)
    real = jax.jit(lambda key: init(model, key))(jax.random.key(0))  # op by op it takes seconds
    planned, axes = abstract(model), logical_axes(model)
    assert {p: (x.shape, x.dtype) for p, x in real.items()} == {
        p: (x.shape, x.dtype) for p, x in planned.items()
    }
    assert {p: len(names) for p, names in axes.items()} == {p: x.ndim for p, x in real.items()}
    hidden = jax.jit(lambda v: model.apply(nested(v), batch_of(), method="hidden"))(real)
    assert 0.5 < np.sqrt(np.mean(np.square(hidden))) < 2
    assert set(variables_of(model)) == set(real)


def test_bfloat16_parameters_have_gradients_of_their_type():
    model = tiny(dtype="bfloat16", param_dtype="bfloat16", scan_layers=True, **GEMMA)
    variables = variables_of(model)
    value, gradients = measure(model, variables, batch_of())
    assert np.isfinite(value)
    for path, gradient in gradients.items():
        assert gradient.dtype == variables[path].dtype
        assert np.isfinite(gradient.astype(float)).all()
        assert gradient.dtype == (jnp.float32 if path.startswith("prompt") else jnp.bfloat16)


def test_long_positions_stay_apart_in_bfloat16():
    """Angles are float32: two positions that bfloat16 rounds to one give different keys."""
    model = tiny(dtype="bfloat16")
    variables, batch = variables_of(model), batch_of()
    hidden = jax.jit(lambda b: model.apply(nested(variables), b, method="hidden"))
    places = np.arange(batch["decoder_input_tokens"].shape[1], dtype=np.int32)[None]
    places = np.broadcast_to(places, batch["decoder_input_tokens"].shape)
    whole = batch | {"decoder_positions": 1000 + places}
    apart = batch | {"decoder_positions": 1000 + 2 * places}
    whole, apart = (np.asarray(hidden(b), np.float32) for b in (whole, apart))
    assert np.abs(whole - apart).max() > 0.05


@pytest.fixture(scope="module")
def meshes(on_eight_devices):
    """What `mesh_decoder.py` prints."""
    return on_eight_devices(HERE / "mesh_decoder.py")


@pytest.mark.parametrize("case", ["one kv head", "uneven heads", "even heads", "scanned", "splash"])
def test_one_device_is_eight(meshes, case):
    """Also where `tensor` does not divide the heads, and where a kernel cuts by itself."""
    one, eight = meshes[case]
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(eight["logits"], one["logits"], rtol=1e-4, atol=1e-4)
    assert one["losses"][-1] < one["losses"][0]


def test_what_a_device_holds(meshes):
    """kv projections are cut like all others; heads are cut where they can be."""
    assert meshes["parts"] == {"query": 1 / 8, "key": 1 / 8, "out": 1 / 8, "embedding": 1 / 8}
    assert meshes["kv_heads"] == {"one kv head": 1, "even heads": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads = 4 is no multiple of num_kv_heads = 3"),
        ({"head_dim": 7}, "head_dim = 7: rope needs an even number"),
        ({"norm_placement": "between"}, "norm_placement = 'between'"),
        ({"layer_types": ("sliding",)}, "layer_types"),
        ({"layer_types": ("local",)}, "set sliding_window"),
        ({"rope_theta": 0.0}, "rope_theta = 0"),
        ({"attention": "flash"}, "attention = 'flash': set one of"),
        ({"attention": "cudnn"}, None),
    ],
)
def test_what_no_decoder_can_have(changes, message):
    if message is None:  # known only where it runs
        model = tiny(**changes)
        with pytest.raises(UserError, match="it runs on GPUs, and this is a CPU"):
            model.apply(nested(variables_of(model)), batch_of())
        return
    with pytest.raises(UserError, match=message):
        dataclasses.replace(tiny().config, **changes)


def test_lists_from_files_become_what_they_are():
    names = [x.name for x in dataclasses.fields(DecoderConfig)][:8]
    config = DecoderConfig(
        **dict.fromkeys(names, 2),
        layer_types=["global"],
        rope_scaling={"rope_type": "linear", "factor": 2.0},
    )
    assert config.layer_types == ("global",) and config.rope_scaling.factor == 2.0
    assert stack_layers({f"a/layers_{i}/b": np.zeros(1) for i in range(2)}).keys() == {"a/layers/b"}
    assert PROMPT == 2

"""Models in GGUF files: what is read from them, and what is refused."""

import dataclasses
import importlib.util
import os
import random
import struct
from pathlib import Path
from typing import Any

import gguf as package
import gguf_models
import jax
import numpy as np
import pytest
from gguf_models import ARCHITECTURES, MIXED, SENTENCEPIECE

from promot_jax.convert import decoders, gguf, inspect, open_source
from promot_jax.convert.gguf_file import open_file
from promot_jax.convert.importing import compare as compare_shapes
from promot_jax.convert.source import Source
from promot_jax.errors import UserError
from promot_jax.models.config import RopeScaling

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
REAL = os.environ.get("PROMOT_REAL_MODELS")
REAL_MODELS = ("SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf")
needs_transformers = pytest.mark.skipif(not INSTALLED, reason="needs make parity")
needs_real = pytest.mark.skipif(
    not (INSTALLED and REAL), reason="needs make parity, and PROMOT_REAL_MODELS, see docs"
)


def original(kind: str, tied: bool = True) -> dict[str, np.ndarray]:
    """What a file was made of, by our paths and as ours lies."""
    theirs = gguf_models.weights(kind, tied)
    names = decoders.names(config(kind, tied))
    arrays = {ours: theirs[name] for ours, name in names.items()}
    return {ours: x.T if ours.endswith("kernel") else x for ours, x in arrays.items()}


def config(kind: str, tied: bool = True):
    """The settings of a file, written out."""
    width, layers, own = ARCHITECTURES[kind]
    values = {
        "model_type": gguf.gguf_settings.MODEL_TYPES[kind],
        "vocab_size": gguf_models.VOCABULARY,
        "hidden_size": gguf_models.HIDDEN,
        "intermediate_size": gguf_models.FFN,
        "num_hidden_layers": layers,
        "num_attention_heads": gguf_models.HEADS,
        "num_key_value_heads": gguf_models.KV_HEADS,
        "head_dim": width,
        "max_position_embeddings": gguf_models.CONTEXT,
        "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
        "rope_theta": own.get("rope.freq_base", 10000.0),
        "tie_word_embeddings": tied,
        "sliding_window": own.get("attention.sliding_window"),
    }
    return decoders.settings(values, kind)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_number_of_an_unquantised_file(kind, tied, tmp_path):
    if kind in SENTENCEPIECE and not tied:
        pytest.skip("Gemma's head is its embedding")
    path = gguf_models.write(tmp_path / "a.gguf", kind, tied=tied)
    source = open_source(str(path))
    assert source.kind == "gguf" and source.config == config(kind, tied)
    wanted = original(kind, tied)
    assert set(source.tensors) == set(source.names) == set(wanted)
    for ours, array in wanted.items():
        tensor = source.tensors[ours]
        found = tensor.read()
        assert (found.shape, found.dtype.name) == (tensor.shape, tensor.dtype), ours
        np.testing.assert_array_equal(found, array, ours)


def test_missing_and_misshapen_tensors(tmp_path):
    """Named, by both names, before any is read."""
    whole = open_source(str(gguf_models.write(tmp_path / "a.gguf", "gemma3")))
    target = {n: jax.ShapeDtypeStruct(x.shape, np.float32) for n, x in whole.tensors.items()}
    path = str(gguf_models.write(tmp_path / "b.gguf", "gemma3", leave_out="blk.3.ffn_up.weight"))
    says = r"1 tensors: blk.3.ffn_up.weight \(params/decoder/layers_3/mlp/wi_1/kernel\) is missing"
    with pytest.raises(UserError, match=says):
        compare_shapes(path, open_source(path), target)
    given = {"feed_forward_length": 128}
    path = str(gguf_models.write(tmp_path / "c.gguf", "gemma3", settings=given))
    narrow = {n: x.update(shape=(64, 128)) if "wi_" in n else x for n, x in target.items()}
    with pytest.raises(UserError, match=r"blk.*ffn_gate.weight .* is \(64, 256\) instead of"):
        compare_shapes(path, open_source(path), narrow)
    path = str(gguf_models.write(tmp_path / "d.gguf", "gemma3", leave_out="token_embd.weight"))
    with pytest.raises(UserError, match="has no matrix token_embd.weight"):
        open_source(path)


def test_a_copied_head_is_tied(tmp_path):
    path = gguf_models.write(tmp_path / "a.gguf", "llama")
    table = open_file(str(path))
    copy = gguf_models.write(tmp_path / "b.gguf", "llama", copied_head=True)
    source = open_source(str(copy))
    assert source.config.logits_via_embedding and len(source.tensors) == len(table.tensors)


def test_types_of_parameters(tmp_path, capsys):
    """BF16 stays, F16 becomes float32; neither is called quantised."""
    for type_, parameters, stored in (
        ("BF16", "bfloat16", "bfloat16"),
        ("F16", "float32", "float16"),
        ({"ffn_up.weight": "BF16"}, "float32", "float32"),
    ):
        source = open_source(str(gguf_models.write(tmp_path / "a.gguf", "gemma3", type_)))
        assert source.config.param_dtype == parameters
        query = source.tensors["params/decoder/layers_0/self_attention/query/kernel"]
        assert query.read().dtype.name == query.dtype == stored
        norm = source.tensors["params/decoder/decoder_norm/scale"]
        assert norm.read().dtype == np.float32
    assert "quantised" not in capsys.readouterr().err


def test_it_says_what_was_quantised(tmp_path, capsys):
    path = str(gguf_models.write(tmp_path / "a.gguf", "llama", MIXED))
    facts = inspect.inspect(path)
    assert "quantised (2 Q4_1, 2 Q5_0, 2 Q4_0, 2 Q5_1, 1 Q8_0)" in capsys.readouterr().err
    assert facts["quantised"] == {"Q8_0": 1, "Q4_1": 2, "Q5_0": 2, "Q4_0": 2, "Q5_1": 2}
    assert facts["kind"] == "gguf" and facts["family"] == "llama"


@pytest.mark.parametrize("type_", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantised_numbers_are_near(type_, tmp_path):
    """Each number lies within a step of its block of 32 from the one that was quantised."""
    path = gguf_models.write(tmp_path / "a.gguf", "qwen3", type_)
    source = open_source(str(path))
    steps = 2 ** int(type_[1]) / 2 - 1
    for ours, array in original("qwen3").items():
        found = source.tensors[ours].read()
        if array.ndim == 1:
            np.testing.assert_array_equal(found, array)
        else:
            step = np.abs(array).max() / steps
            assert np.abs(found - array).max() <= step * 1.01, ours


SCALING = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def factors(scaling: RopeScaling, theta: float, width: int) -> np.ndarray:
    """What llama.cpp's converter writes for a scaling of Llama 3."""
    found = []
    for i in range(0, width, 2):
        wavelength = 2 * np.pi * theta ** (i / width)
        turns = scaling.original_max_position_embeddings / wavelength
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        share = min(max((turns - low) / (high - low), 0), 1)
        found.append(1 / ((1 - share) / scaling.factor + share))
    return np.float32(found)


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("factor", [8.0, 32.0])
@pytest.mark.parametrize("context", [8192, 100, 4096])
def test_scaled_rope_of_llama_3(context, factor, width, tmp_path):
    """The tensor of factors becomes the scaling that makes the same frequencies."""
    scaling = dataclasses.replace(SCALING, factor=factor, original_max_position_embeddings=context)
    wanted = factors(scaling, 5e5, width)
    found = gguf.gguf_settings._llama3(wanted.astype(np.float64), 5e5, "x")
    np.testing.assert_allclose(factors(RopeScaling(**found), 5e5, width), wanted, rtol=1e-4)
    if context == 8192:
        assert RopeScaling(**found) == scaling


def test_rope_of_a_file(tmp_path):
    path = tmp_path / "a.gguf"
    scaled = factors(SCALING, 5e5, 32)
    given = {"rope.freq_base": 5e5}
    source = open_source(str(gguf_models.write(path, "llama", settings=given, factors=scaled)))
    assert source.config.rope_scaling == SCALING and source.config.rope_theta == 5e5
    assert not [name for name in source.tensors if "rope" in name]
    plain = open_source(str(gguf_models.write(path, "llama", factors=np.ones(16))))
    assert plain.config.rope_scaling is None
    linear = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    source = open_source(str(gguf_models.write(path, "gemma3", settings=linear)))
    assert source.config.rope_scaling == RopeScaling("linear", 8.0)
    source = open_source(
        str(gguf_models.write(path, "gemma3", settings={"rope.freq_base_swa": 2e4}))
    )
    assert source.config.local_rope_theta == 2e4 and source.config.rope_theta == 1e6


def test_gemma_as_published(tmp_path):
    """What files do not say: caps, windows, and the scale, which differs in the 27B."""
    bare = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    path = str(gguf_models.write(tmp_path / "a.gguf", "gemma2", settings=bare))
    found = open_source(path).config
    assert (found.attn_logit_softcapping, found.final_logit_softcapping) == (50, 30)
    assert found.layer_types == ("local", "global") and found.query_pre_attn_scalar == 256
    told = open_file(path).settings | {"gemma2.block_count": 46}
    large = gguf.gguf_settings.settings(told, 512, True, None, "x")
    assert large.query_pre_attn_scalar == gguf_models.HIDDEN / gguf_models.HEADS
    given = {"attention.sliding_window_pattern": [True, True, False]}
    path = str(gguf_models.write(tmp_path / "b.gguf", "gemma2", settings=given))
    assert open_source(path).config.layer_types == ("local", "local", "global")
    given = {"attention.sliding_window_pattern": 3}
    path = str(gguf_models.write(tmp_path / "c.gguf", "gemma3", settings=given))
    assert open_source(path).config.layer_types == ("local", "local", "global")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"expert_count": 8}, "llama.expert_count = 8: we lack this setting"),
        ({"attention.causal": False}, "llama.attention.causal = False: we lack"),
        ({"rope.scaling.type": "yarn"}, "rope.scaling.type = 'yarn': only none and linear"),
        ({"rope.dimension_count": 8, "attention.key_length": 32}, "rope.dimension_count = 8: only"),
        ({"attention.head_count": [4, 2]}, r"head_count = \[4, 2\]: only one positive"),
        ({"block_count": None}, "lacks llama.block_count"),
        ({"attention.layer_norm_rms_epsilon": None}, "lacks llama.attention.layer_norm_rms"),
        ({"rope.freq_base": -1.0}, "rope.freq_base = -1.0: it must be a positive number"),
        ({"attention.sliding_window": 16}, "sliding_window = 16: we lack windows"),
        ({"attention.head_count_kv": 3}, "its header does not make a decoder: .*num_kv_heads = 3"),
    ],
)
def test_settings_that_we_lack(settings, says, tmp_path):
    path = gguf_models.write(tmp_path / "a.gguf", "llama", settings=settings)
    with pytest.raises(UserError, match=says):
        open_source(str(path))


def test_other_files(tmp_path):
    """Each is one line that says what it is."""
    other = tmp_path / "other.gguf"
    good = gguf_models.write(tmp_path / "good.gguf", "llama").read_bytes()
    told = open_file(str(tmp_path / "good.gguf")).settings
    for content, says in (
        (b"", "no GGUF file"),
        (b"GGUF", "truncated or damaged in its header"),
        (b"PK\x03\x04" + bytes(100), "no GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GGUF" + struct.pack(">I", 3) + good[8:], "big-endian"),
        (b"GGUF" + struct.pack("<I", 1) + good[8:], "version 1: only 2 and 3"),
        (good.replace(b"llama", b"falco"), "architecture 'falco': only llama, qwen2"),
        (good.replace(b"llama", b"qwen4"), r"'qwen4' \(did you mean 'qwen"),
        (good[:-100], "is truncated: .* ends at byte .*: download it again"),
    ):
        other.write_bytes(content)
        with pytest.raises(UserError, match=says):
            open_source(str(other))
    for name, value, says in (
        ("general.type", "adapter", "holds a 'adapter', no model"),
        ("split.count", 3, "one of 3 parts: join them"),
    ):
        with pytest.raises(UserError, match=says):
            gguf.gguf_settings.check_kind(told | {name: value}, "x")


def test_a_name_is_not_needed(tmp_path):
    """A file is known by how it begins, too."""
    path = gguf_models.write(tmp_path / "model.bin", "llama")
    assert open_source(str(path)).kind == "gguf"


def test_truncated_anywhere(tmp_path):
    whole = gguf_models.write(tmp_path / "a.gguf", "gemma2").read_bytes()
    path, places = tmp_path / "part.gguf", random.Random(0)
    start = min(x.offset for x in open_file(str(tmp_path / "a.gguf")).tensors.values())
    for size in [*range(4, 200), *(places.randrange(start) for _ in range(200)), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="truncated"):
            open_source(str(path))


def test_damaged_anywhere(tmp_path):
    """A header with wrong bytes is refused in one line, or read: nothing else is raised."""
    whole = gguf_models.write(tmp_path / "a.gguf", "llama").read_bytes()
    start = min(x.offset for x in open_file(str(tmp_path / "a.gguf")).tensors.values())
    path, places, refused = tmp_path / "b.gguf", random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(places.choice((1, 1, 4))):
            damaged[places.choice((places.randrange(start), places.randrange(600)))] ^= 1 << (
                places.randrange(8)
            )
        path.write_bytes(damaged)
        try:
            open_source(str(path))
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 50


def test_types_that_the_package_lacks(tmp_path, monkeypatch):
    path = gguf_models.write(tmp_path / "a.gguf", "llama", "Q8_0")
    data = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    place = data.index(name) + len(name) + 4 + 2 * 8
    assert data[place : place + 4] == struct.pack("<I", package.GGMLQuantizationType.Q8_0)
    for kind, says in ((99, "the type 99"), (package.GGMLQuantizationType.Q8_K, "the type Q8_K")):
        path.write_bytes(data[:place] + struct.pack("<I", kind) + data[place + 4 :])
        with pytest.raises(UserError, match=f"blk.0.attn_q.weight is of {says}, which the package"):
            open_source(str(path))


def test_tensors_that_have_no_place(tmp_path):
    tables = gguf_models.byte_level("smollm")
    path = gguf_models.write(tmp_path / "a.gguf", "qwen2", tokenizer=tables)
    told = open_file(str(path))
    path.write_bytes(path.read_bytes().replace(b"qwen2", b"qwen3"))
    source = open_source(str(path))
    assert "?blk.0.attn_q.bias" in source.tensors
    missing = set(source.names) - set(source.tensors)
    assert missing == {
        f"params/decoder/layers_{i}/self_attention/{x}_norm/scale" for i in (0, 1) for x in "qk"
    }
    assert len(source.tensors) == len(told.tensors)


@needs_transformers
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_same_bits_as_transformers(kind, tmp_path):
    types = MIXED | {"ffn_down.weight": "Q6_K" if kind in SENTENCEPIECE else "Q4_K"}
    path = gguf_models.write(tmp_path / "a.gguf", kind, types, tied=kind != "qwen2")
    compare(open_source(str(path)), transformers(path))


def transformers(path: Path) -> Any:
    """Transformers' model of a file."""
    import torch
    from transformers import AutoModelForCausalLM

    where = {"gguf_file": path.name, "dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(path.parent, **where)


def compare(source: Source, model: Any) -> None:
    """Every number and setting is the one that Transformers read from the same file."""
    theirs, names = model.state_dict(), decoders.names(source.config)
    assert set(names) == set(source.tensors)
    for ours, name in names.items():
        found, wanted = source.tensors[ours].read(), theirs[name].numpy()
        np.testing.assert_array_equal(found, wanted.T if ours.endswith("kernel") else wanted, name)
    values = model.config.to_dict() | {"quantization_config": None}
    eps = float(str(np.float32(values["rms_norm_eps"])))
    assert decoders.settings(values | {"rms_norm_eps": eps}, "theirs") == source.config

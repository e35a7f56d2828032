"""config.json of decoders: both spellings, what their classes assume, and what is refused."""

import dataclasses
import importlib.util
import json

import pytest

from promot_jax.convert import decoders
from promot_jax.convert.decoders import config_json, family_of, names, settings
from promot_jax.errors import UserError
from promot_jax.models.config import DecoderConfig, RopeScaling

needs_transformers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="needs torch and transformers",
)
SIZES = {
    "vocab_size": 99, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 7,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 8.0}
WINDOW = {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 3}


def of(kind: str, **changes) -> DecoderConfig:
    return settings({"model_type": kind} | SIZES | changes, "here")


@needs_transformers
@pytest.mark.parametrize("kind", decoders.FAMILIES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"head_dim": 10}, {"rope_scaling": LINEAR}, {"rope_scaling": LLAMA3}, WINDOW],
    ids=["plain", "head_dim", "linear", "llama3", "window"],
)
def test_there_and_back_through_transformers(kind, changes):
    """Their file -> our settings -> our file -> their class: the same settings and tensors."""
    from transformers import AutoConfig, AutoModelForCausalLM

    lacking = {"gemma2": "rope_scaling", "smollm3": "use_sliding_window"}.get(kind)
    if lacking in changes:
        with pytest.raises(UserError, match=f"{lacking} = "):
            of(kind, **changes)
        return
    given = json.loads(json.dumps(SIZES | IDS | changes))
    theirs = AutoConfig.for_model(kind, **given)
    config = settings(json.loads(theirs.to_json_string()), "here")
    assert config == settings({"model_type": kind} | SIZES | changes, "here")  # the old spelling
    assert family_of(config) == kind
    again = AutoConfig.for_model(**config_json(config, "float32", kind) | IDS)
    assert settings(json.loads(again.to_json_string()), "here") == config
    model = AutoModelForCausalLM.from_config(again)
    shapes = {name: tuple(x.shape) for name, x in model.named_parameters()}
    assert set(names(config).values()) == set(shapes)


def test_a_sparse_text_config_has_its_class_s_defaults():
    """As the larger Gemma 3 were published."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    text |= {"sliding_window": 1024, "rope_scaling": LINEAR}
    config = settings({"model_type": "gemma3", "text_config": text}, "here")
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.max_position_embeddings) == (262208, 131072)
    assert (config.rope_theta, config.local_rope_theta) == (1e6, 1e4)
    assert config.rope_scaling == RopeScaling("linear", 8.0)
    assert config.layer_types == ("local",) * 5 + ("global",) and config.sliding_window == 1024
    assert config.logits_via_embedding and config.scale_embeddings and config.norm_offset
    assert config_json(config, "bfloat16", "gemma3")["model_type"] == "gemma3_text"


def test_what_the_classes_assume():
    assert not of("llama").logits_via_embedding and of("smollm3").logits_via_embedding
    assert of("llama").head_dim == 6 and of("qwen3").head_dim == 128
    assert of("llama", num_key_value_heads=None).num_kv_heads == 4
    assert of("olmo2").rms_norm_eps == 1e-5 and of("llama").rms_norm_eps == 1e-6
    assert of("smollm3").layer_types == ("global",) * 3 + ("no_rope",)
    assert of("smollm3").rope_theta == 2e6 and of("qwen2").rope_theta == 1e4
    assert of("gemma2").layer_types == ("local", "global")
    assert of("gemma2").attn_logit_softcapping == 50 and of("gemma2").final_logit_softcapping == 30
    assert of("gemma2", final_logit_softcapping=None).final_logit_softcapping is None
    assert of("qwen2", sliding_window=9).sliding_window is None  # use_sliding_window is not set


def test_one_name_means_two_norms():
    llama, olmo, gemma = (names(of(kind)) for kind in ("llama", "olmo2", "gemma2"))
    layer, theirs = "params/decoder/layers_3", "model.layers.3.post_attention_layernorm.weight"
    assert llama[f"{layer}/pre_mlp_layer_norm/scale"] == theirs
    for table in (olmo, gemma):
        assert table[f"{layer}/post_self_attention_layer_norm/scale"] == theirs
    assert "params/decoder/logits_dense/kernel" in olmo


def test_names_of_a_multimodal_file():
    for name in ("language_model.model.norm.weight", "model.language_model.norm.weight"):
        assert decoders.text_name(name) == "model.norm.weight"
    assert decoders.text_name("language_model.lm_head.weight") == "lm_head.weight"
    assert decoders.text_name("model.norm.weight") == "model.norm.weight"
    assert decoders.IGNORED.fullmatch("model.vision_tower.encoder.layers.0.mlp.fc1.weight")
    assert decoders.IGNORED.fullmatch("multi_modal_projector.mm_input_projection_weight")
    assert not decoders.IGNORED.fullmatch("model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("mistral", {}, "a model of type 'mistral': only llama, qwen2"),
        ("llama", {"attention_bias": True}, "attention_bias = True"),
        ("llama", {"mlp_bias": True}, "mlp_bias = True"),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        ("smollm3", WINDOW, "use_sliding_window = True"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers = .*0 or 1 for each of 7"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type = 'yarn'"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_type = 'dynamic'"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope scaling lacks factor"),
        ("llama", {"rope_scaling": LINEAR | {"mscale": 2.0}}, "rope scaling's mscale = 2.0"),
        ("llama", {"rope_scaling": LLAMA3 | {"factor": 0.5}}, "factor = 0.5: set at least 1"),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "this family has one rope"),
        ("gemma3_text", {"rope_parameters": {"rope_theta": 9.0}}, "which kind of layer"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": LINEAR}},
            "layers with a window are never scaled",
        ),
        ("gemma2", {"rope_scaling": LINEAR}, "rope_scaling = 'linear'"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 7}, "layer_types = 'chunked_attention'"),
        ("qwen3", {"layer_types": ["full_attention"]}, "the kind of each of the 7 layers"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 7}, "use_sliding_window = None"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu': only silu"),
        ("llama", {"hidden_size": None}, "lacks hidden_size"),
        ("llama", {"num_key_value_heads": 3}, "no multiple of num_kv_heads = 3"),
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ("gemma3", {}, "lacks text_config"),
    ],
)
def test_what_we_lack_is_refused_by_name(kind, changes, message):
    with pytest.raises(UserError, match=message) as error:
        of(kind, **changes)
    assert "here" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", decoders.FAMILIES)
@pytest.mark.parametrize("odd", ["8", -1, 0, 1.5, [], {}, [1], {"a": 1}, True, 1e30], ids=repr)
def test_odd_values_are_refused_or_read_but_never_crash(kind, odd):
    usual = set(SIZES) | {"head_dim", "rope_theta", "rope_scaling", "rope_parameters"}
    usual |= {"layer_types", "sliding_window", "no_rope_layers", "hidden_act", "rms_norm_eps"}
    usual |= {"query_pre_attn_scalar", "final_logit_softcapping", "sliding_window_pattern"}
    usual |= {"tie_word_embeddings", "rope_local_base_freq", "max_window_layers"}
    for name in [*usual, *decoders.OFF]:
        try:
            of(kind, **({"use_sliding_window": True} if kind == "qwen2" else {}) | {name: odd})
        except UserError as error:
            assert "here" in str(error)


def test_what_no_family_is_cannot_be_written():
    config = dataclasses.replace(of("llama"), norm_offset=True)
    with pytest.raises(UserError, match=r"llama, the nearest, has no norm_offset = True"):
        config_json(config, "float32")
    window = dataclasses.replace(of("llama"), layer_types=("local",), sliding_window=4)
    with pytest.raises(UserError, match="has no layer_types"):
        config_json(window, "float32", "llama")
    assert config_json(of("llama"), "float32", "gemma2")["model_type"] == "llama"

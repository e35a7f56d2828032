"""gin/models: sizes are the published ones, and what Transformers call the same model is it."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from promot_jax.cli import settings
from promot_jax.cli.gin_files import settings_of
from promot_jax.convert import decoders
from promot_jax.models import abstract, build

MODELS = sorted((Path(__file__).parents[2] / "gin/models").glob("*.gin"))
MODELS = {path.stem: path for path in MODELS if path.stem not in ("lab", "of_base")}
GIVEN = ["WORKDIR = 'out'", "BASE = None"]
RECIPE, TASK = "gin/recipes/finetune.gin", "gin/tasks/lab_nli.gin"
QWEN = {"hidden_act": "silu", "max_window_layers": 28, "rms_norm_eps": 1e-6, "rope_theta": 1000000}
QWEN |= {"sliding_window": 32768, "use_sliding_window": False, "vocab_size": 151936}
QWEN |= {"tie_word_embeddings": True}
QWEN3 = QWEN | {
    "model_type": "qwen3", "head_dim": 128, "num_attention_heads": 16, "num_hidden_layers": 28,
    "num_key_value_heads": 8, "max_position_embeddings": 40960, "sliding_window": None,
    "attention_bias": False,
}  # fmt: skip
SMOLLM2 = {
    "model_type": "llama", "hidden_act": "silu", "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05, "rope_theta": 100000, "rope_scaling": None, "vocab_size": 49152,
    "tie_word_embeddings": True, "attention_bias": False, "rope_interleaved": False,
}  # fmt: skip
LLAMA3 = {
    "model_type": "llama", "hidden_act": "silu", "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "vocab_size": 128256, "num_key_value_heads": 8,
    "num_attention_heads": 32, "mlp_bias": False, "pretraining_tp": 1,
}  # fmt: skip
ROPE = {
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3_text", "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 32768, "num_attention_heads": 4, "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "vocab_size": 262144,
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": False,
}  # fmt: skip
# config.json of the published model, as far as it is about the model.
PUBLISHED = {
    "smollm2_135m": SMOLLM2 | {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    "smollm2_360m": SMOLLM2 | {
        "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 15, "num_key_value_heads": 5,
    },
    "qwen2_5_0_5b": QWEN | {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
    },
    "qwen3_0_6b": QWEN3 | {"hidden_size": 1024, "intermediate_size": 3072},
    "qwen3_1_7b": QWEN3 | {"hidden_size": 2048, "intermediate_size": 6144},
    "llama3_2_1b": LLAMA3 | {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "tie_word_embeddings": True, "rope_scaling": ROPE | {"factor": 32.0},
    },
    "llama3_1_8b": LLAMA3 | {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "tie_word_embeddings": False, "rope_scaling": ROPE | {"factor": 8.0},
    },
    "olmo2_1b": {
        "model_type": "olmo2", "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 16,
        "num_hidden_layers": 16, "num_key_value_heads": 16, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 500000, "tie_word_embeddings": False,
        "vocab_size": 100352, "attention_bias": False,
    },
    "gemma3_270m": GEMMA3 | {
        "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
        "layer_types": [*["sliding_attention"] * 5, "full_attention"] * 3,
    },
    "gemma3_1b": GEMMA3 | {
        "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "sliding_window_pattern": 6,
    },
    # The rest is what the class assumes.
    "gemma3_4b": {
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory) -> dict[str, str]:
    """Kind of model -> a vocabulary, since those of the models lie elsewhere."""
    directory = tmp_path_factory.mktemp("vocabulary")
    Tokenizer(models.BPE({"a": 0, "</s>": 1}, [])).save(str(directory / "tokenizer.json"))
    told = json.dumps({"eos_token": "</s>"})
    (directory / "tokenizer_config.json").write_text(told, encoding="utf-8")
    return {
        "DecoderConfig": str(directory / "tokenizer.json"),
        "T5Config": "promot_jax/assets/lab/sentencepiece.model",
    }


def configured(path: Path, vocabularies: dict[str, str]):
    """The configuration that a model's file makes."""
    kind = re.search(r"models\.(\w+):", path.read_text(encoding="utf-8"))[1]
    given = [*GIVEN, f"VOCABULARY_FILE = '{vocabularies[kind]}'"]
    settings.parse([RECIPE, str(path), TASK], given)
    return settings.build("Run").model


def parameters(config) -> int:
    """Of a model of this size: each further layer has as many as the second."""
    names = [x.name for x in dataclasses.fields(config) if re.match(r"num_(\w+_)?layers", x.name)]
    [layers] = {getattr(config, name) for name in names}
    one, two = (
        sum(
            x.size
            for x in abstract(
                build(dataclasses.replace(config, **dict.fromkeys(names, n)))
            ).values()
        )
        for n in (1, 2)
    )
    return one + (layers - 1) * (two - one)


@pytest.mark.parametrize("path", MODELS.values(), ids=MODELS)
def test_the_number_in_the_header(path, vocabularies):
    header = path.read_text(encoding="utf-8").partition("\n")[0]
    told = re.search(r"parameters \(([\d,]+)\)", header)[1]
    assert f"{parameters(configured(path, vocabularies)):,}" == told


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_decoder_is_the_published_one(name, vocabularies):
    """What an import of it gives: the file and the work directory go together."""
    ours = configured(MODELS[name], vocabularies)
    how = ("dtype", "param_dtype", "scan_layers", "remat")
    theirs = decoders.settings(PUBLISHED[name], name)
    assert ours == dataclasses.replace(theirs, **{field: getattr(ours, field) for field in how})
    rate = settings_of(str(MODELS[name]))["PROMPT_LEARNING_RATE"]
    assert rate == theirs.prompt_learning_rate  # as gin/models/of_base.gin sets it
    again = decoders.settings(decoders.config_json(ours, "float32"), name)
    assert again == theirs


def test_every_decoder_is_compared():
    there = {n for n, x in MODELS.items() if "DecoderConfig" in x.read_text(encoding="utf-8")}
    assert there == set(PUBLISHED)

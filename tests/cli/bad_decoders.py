"""Command lines about decoder-only models with one thing wrong."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import small_tokenizers
from command_lines import ASKED, TINY, Bad, decoder, on_base, run
from safetensors.numpy import save

Files = dict[str, str | bytes]


@functools.cache
def tokenizer(family: str = "gemma") -> Files:
    """The files of a small tokenizer."""
    with tempfile.TemporaryDirectory() as directory:
        made = small_tokenizers.FAMILIES[family](Path(directory) / "hf")
        return {path.name: path.read_bytes() for path in made.iterdir()}


def inside(directory: str, files: Files) -> Files:
    """The same files in a directory."""
    return {f"{directory}/{name}": content for name, content in files.items()}


def tiny(name: str, says: list[str], *more: str, files: Files | None = None, **settings) -> Bad:
    """A run of a tiny Gemma with its tokenizer."""
    there = tokenizer() if files is None else files
    return Bad(f"decoder: {name}", decoder(*more, **settings), says, inside("hf", there))


def tuned(name: str, arguments: list[str], says: list[str], files: Files | None = None) -> Bad:
    """A command line about a tiny Gemma that was tuned."""
    return Bad(f"decoder: {name}", arguments, says, files or {})


def infer(name: str, says: list[str], *more: str, files: Files = ASKED) -> Bad:
    """`promot infer` of it."""
    asked = ["infer", "tuned", "--input=asked.jsonl", "--output=o.jsonl", *more]
    return tuned(f"infer: {name}", asked, says, files)


FIELD = "--gin.models.DecoderConfig."
RUNS = [
    tiny(
        "input", ["INPUT_LENGTH = 120 and TARGET_LENGTH = 16", "context of 128"], INPUT_LENGTH=120
    ),
    tiny(
        "input of an evaluation",
        ["EVAL_INPUT_LENGTH = 125", "context of 128"],
        EVAL_INPUT_LENGTH=125,
    ),
    tiny("output", ["MAX_OUTPUT_LENGTH = 128", "context of 128"], MAX_OUTPUT_LENGTH=128),
    tiny(
        "a prompt that fills the input",
        ["prompt 'target' has 64 tokens", "input_length"],
        recipe="promot",
        PROMPT_LENGTH=64,
    ),
    tiny("no tokenizer", ["no tokenizer at 'hf/none.json'"], VOCABULARY_FILE="hf/none.json"),
    tiny("a tokenizer of something else", ["tokenizer.json"], files={"tokenizer.json": '{"a": 1}'}),
    tiny(
        "a tokenizer without EOS",
        ["does not tell what ends a text", "eos_token"],
        files={"tokenizer.json": tokenizer()["tokenizer.json"]},
    ),
    tiny("an EOS that is not there", ["eos_id = 999"], "--gin.data.tokenizer.eos_id=999"),
    tiny("a BOS that is not there", ["bos_id = 999"], "--gin.data.tokenizer.bos_id=999"),
    tiny(
        "fewer rows than ids", ["450 ids", "DecoderConfig.vocab_size = 99"], f"{FIELD}vocab_size=99"
    ),
    tiny(
        "no chat template",
        ["chat = True", "no chat template"],
        CHAT=True,
        files=tokenizer("llama2"),
    ),
    tiny("chat", ["tokenizer.chat = 'yes'", "True or False"], CHAT="yes"),
    tiny(
        "rope scaling",
        ["rope_type = 'yarn'", "'linear', 'llama3'"],
        f"{FIELD}rope_scaling={{'rope_type': 'yarn', 'factor': 4.0}}",
    ),
    tiny(
        "rope scaling of other fields",
        ["rope_scaling = {'type'", "factor and rope_type are needed"],
        f"{FIELD}rope_scaling={{'type': 'linear', 'factor': 4.0}}",
    ),
    tiny("kernel", ["attention = 'splash'", "TPUs"], f"{FIELD}attention='splash'"),
    tiny("heads", ["num_heads = 2", "num_kv_heads = 4"], f"{FIELD}num_kv_heads=4"),
    tiny(
        "template",
        ["shot_template", "name {inputs}, then {targets}"],
        "--gin.data.file_task.shot_template='{targets} of {inputs}'",
    ),
    tiny(
        "T5's setting",
        ["T5Config.dropout_rate = 0.1 has no effect"],
        "--gin.models.T5Config.dropout_rate=0.1",
    ),
]
KIND = "is of another kind of model"
BASES = [
    tiny("a base of T5's", [KIND, "encoder_decoder"], BASE="trained"),
    tuned("a base of a decoder for T5", run(BASE="tuned"), [KIND, "decoder_only"]),
    tuned(
        "T5's setting of a base",
        on_base("--gin.models.T5Config.dropout_rate=0.1"),
        ["T5Config.dropout_rate = 0.1 has no effect"],
    ),
    tuned(
        "dropout of a base",
        on_base("--gin.run.base_model.dropout_rate=0.1"),
        ["base_model.dropout_rate = 0.1", "has none"],
    ),
    tuned(
        "another tokenizer than the base's",
        decoder(BASE="tuned"),
        ["another vocabulary"],
        inside("hf", tokenizer("llama")),
    ),
    tuned(
        "another width than the base's",
        decoder(f"{FIELD}emb_dim=8", BASE="tuned"),
        ["emb_dim"],
        inside("hf", tokenizer()),
    ),
]
INFER = [
    infer("output", ["max_length = 128", "context of 128"], "--max_length=128"),
    infer(
        "too long",
        ["line 1", "200 tokens", "more than the model's context"],
        "--max_length=8",
        "--too_long=error",
        files={"asked.jsonl": json.dumps({"inputs": "z" * 199}) + "\n"},
    ),
]

LLAMA = {
    "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": TINY["vocab_size"],
    "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu", "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}  # fmt: skip
WITHOUT_EOS = {"tokenizer.json": tokenizer()["tokenizer.json"]}


def tensors() -> dict[str, np.ndarray]:
    """The weights of `LLAMA`."""
    names = [f"self_attn.{x}_proj" for x in "qkvo"] + [
        f"mlp.{x}_proj" for x in ("gate", "up", "down")
    ]
    shapes = {f"model.layers.0.{name}.weight": (4, 4) for name in names}
    norms = ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm")
    shapes |= {f"model.{name}.weight": (4,) for name in norms}
    shapes["model.embed_tokens.weight"] = (TINY["vocab_size"], 4)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def here(
    name: str, says: list[str], files: Files | None = None, without: str = "", **changes
) -> Bad:
    """An import of a directory of Transformers."""
    kept = {each: array for each, array in tensors().items() if each != without}
    found = {"config.json": json.dumps(LLAMA | changes), "model.safetensors": save(kept)}
    found |= tokenizer() if files is None else files
    return Bad(f"import: {name}", ["import", "hf", "o"], says, inside("hf", found))


def adapter(name: str, says: list[str], **changes) -> Bad:
    """An import of a prompt for a tiny Gemma that was tuned."""
    about = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 1}
    about |= {"token_dim": 16} | changes
    vectors = {"prompt_embeddings": np.zeros((1, about["token_dim"]), np.float32)}
    files = {"adapter_config.json": json.dumps(about), "adapter_model.safetensors": save(vectors)}
    arguments = ["import", "hf", "o", "--base=tuned"]
    return tuned(f"adapter: {name}", arguments, says, inside("hf", files))


def gguf(name: str, says: list[str], content: bytes) -> Bad:
    return Bad(f"import: GGUF, {name}", ["import", "x.gguf", "o"], says, {"x.gguf": content})


HEADER = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")


def architecture(name: bytes) -> bytes:
    """A file that has nothing but its architecture."""
    key, text = b"general.architecture", (8).to_bytes(4, "little")
    return HEADER + b"".join(
        [len(key).to_bytes(8, "little"), key, text, len(name).to_bytes(8, "little"), name]
    )


IMPORTS = [
    here("a decoder that we lack", ["type 'mistral'", "llama"], model_type="mistral"),
    here("YaRN", ["rope_type = 'yarn'"], rope_scaling={"rope_type": "yarn", "factor": 4.0}),
    here("YaRN, spelt anew", ["'yarn'"], rope_parameters={"rope_type": "yarn", "factor": 4.0}),
    here(
        "dynamic, spelt as of old", ["'dynamic'"], rope_scaling={"type": "dynamic", "factor": 4.0}
    ),
    here("linear by nothing", ["lacks factor"], rope_scaling={"rope_type": "linear"}),
    here("a bias", ["attention_bias = True", "we lack"], attention_bias=True),
    here("no tokenizer", ["has no vocabulary", "tokenizer.json"], {}),
    here("no EOS", ["does not tell what ends a text", "eos_token"], WITHOUT_EOS),
    here("an EOS that is not there", ["eos_id = 999"], WITHOUT_EOS, eos_token_id=999),
    here(
        "half a tokenizer",
        ["no tokenizer.json"],
        {"tokenizer.json": tokenizer()["tokenizer.json"][:99]},
    ),
    here(
        "a tensor less",
        ["mlp.up_proj.weight", "is missing"],
        None,
        "model.layers.0.mlp.up_proj.weight",
    ),
    here("another width", ["(450, 4) instead of (450, 8)"], hidden_size=8, head_dim=4),
    here("no width", ["hidden_size = 'wide'"], hidden_size="wide"),
    adapter("another width", ["vectors of 8", "--base=tuned has 16"], token_dim=8),
    adapter("another kind", ["'SEQ_2_SEQ_LM'", "'CAUSAL_LM'"], task_type="SEQ_2_SEQ_LM"),
    gguf(
        "another architecture",
        ["'phi3'", "llama, qwen2, qwen3, gemma2, gemma3"],
        architecture(b"phi3"),
    ),
    gguf("half a header", ["truncated", "download it again"], architecture(b"llama")[:40]),
    gguf("a text", ["is no GGUF file"], b"version https://git"),
    gguf("an old version", ["version 1"], b"GGUF\1\0\0\0" + b"\0" * 16),
]
DECODERS = RUNS + BASES + INFER + IMPORTS

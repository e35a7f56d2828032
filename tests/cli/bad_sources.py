"""Command lines of `promot import`, `export` and `inspect` with one thing wrong."""

import numpy as np
from command_lines import LONG, Bad
from safetensors.numpy import save

CONVERT = [
    Bad(
        "export: prompt", ["export", "trained", "o", "--prompt=target"], ["--prompt has no effect"]
    ),
    Bad("export: type", ["export", "trained", "o.npy", "--dtype=float32"], ["--dtype has no"]),
    Bad("import: sentinels", ["import", "trained", "o", "--extra_ids=3"], ["--extra_ids has no"]),
    Bad("import: rubbish", ["import", "mine.tsv", "o"], ["'mine.tsv' is no checkpoint"]),
    Bad("inspect: rubbish", ["inspect", "bad.npy"], ["'bad.npy'", "npy"], {"bad.npy": "x"}),
]

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
T5 = (
    '{"model_type": "t5", "vocab_size": 8, "d_model": 4, "num_layers": 1, "num_heads": 1,'
    ' "d_kv": 4, "d_ff": 4}'
)
ADAPTER = '{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 1, "token_dim": %s}'


def tensors(*names: str) -> bytes:
    """A file of weights."""
    return save({name: np.zeros((1, 4), np.float32) for name in names})


def here(name: str, says: list[str], config: str | bytes | None = T5, **files: str | bytes) -> Bad:
    """An import of what lies here."""
    paths = {
        "weights": "model.safetensors",
        "index": "model.safetensors.index.json",
        "adapter": "adapter_config.json",
        "prompt": "adapter_model.safetensors",
    }
    named = {paths[key]: content for key, content in files.items()}
    named |= {"config.json": config} if config is not None else {}
    return Bad(f"import: {name}", ["import", ".", "o"], says, named)


PROMPT = {"config": None, "prompt": tensors("prompt_embeddings")}
SOURCES = [
    here("settings not fetched", ["config.json is a Git LFS pointer"], LFS),
    here("settings of no JSON", ["config.json is damaged", "NaN"], '{"a": NaN}'),
    here("settings too deep", ["config.json", "too deeply"], "[" * 99999),
    here("settings in a list", ["config.json", "no JSON object"], "[]"),
    here("settings in Latin-1", ["config.json is damaged"], '{"a": "é"}'.encode("latin-1")),
    here("another model", ["type 'bert'", "t5"], '{"model_type": "bert"}'),
    here("no weights", ["neither model.safetensors nor"]),
    here("weights not fetched", ["is a Git LFS pointer"], weights=LFS),
    here("cut weights", ["is damaged"], weights=tensors("a")[:-1]),
    here("prefix", ["begin with 'model.'"], weights=tensors("model.shared.weight")),
    here("encoder", ["encoder alone"], weights=tensors("shared.weight", "encoder.x")),
    here("a shard outside", ["'../x' is no plain name"], index='{"weight_map": {"a": "../x"}}'),
    here("a shard at a path", ["'/x' is no plain name"], index='{"weight_map": {"a": "/x"}}'),
    here("an index too deep", ["index.json is damaged", "too deeply"], index="[" * 99999),
    here("another adapter", ["peft_type = 'IA3'"], None, adapter='{"peft_type": "IA3"}'),
    here("an adapter of two widths", ["token_dim = 8", "4"], adapter=ADAPTER % 8, **PROMPT),
    here("an adapter alone", ["--base"], adapter=ADAPTER % 4, **PROMPT),
    Bad("import: name of a source", ["import", LONG, "o"], ["too long"]),
    Bad("export: a bucket", ["export", "trained", "gs://b/x"], ["DEST = 'gs://b/x'", "local"]),
    Bad("export: no destination", ["export", "trained", ""], ["DEST = ''", "local"]),
    Bad("export: name", ["export", "trained", LONG], ["too long"]),
    Bad("export: below a file", ["export", "trained", "mine.tsv/x"], ["DEST = 'mine.tsv/x'"]),
    Bad("export: prompt below a file", ["export", "trained", "mine.tsv/x.npy"], ["mine.tsv/x.npy"]),
]

"""A Hugging Face model with tokens of its own through every verb, and whatever the locale."""

import json
import os
import subprocess

import numpy as np
import pytest
from command_lines import SCRIPT, SMALL, flags, own_task
from safetensors.numpy import load_file, save_file

BASE = "promot_jax/assets/lab/base"
TOKENS = {"<ent>": 724, "{": 719, "é": 725}  # "{" is a piece as well
OWN = {"num_beams": 2, "max_new_tokens": 9}


def fields(content: str) -> dict:
    names = ("lstrip", "rstrip", "single_word", "normalized")
    return {"content": content, "special": content == "<ent>"} | dict.fromkeys(names, False)


@pytest.fixture(scope="module")
def source(promot, tmp_path_factory):
    """The lab's base as a directory of Transformers whose tokenizer has tokens added to it."""
    root = tmp_path_factory.mktemp("source")
    done = promot(["export", BASE, "hf"], root)
    assert done.code == 0, done.err
    path = root / "hf" / "tokenizer_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["added_tokens_decoder"] = {str(i): fields(content) for content, i in TOKENS.items()}
    path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    (root / "hf/generation_config.json").write_text(json.dumps(OWN), encoding="utf-8")
    return root / "hf"


def added(directory) -> dict[str, int]:
    """What a work directory says of added tokens."""
    told = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    return {token["content"]: token["id"] for token in told["vocabulary"]["added_tokens"]}


def test_in_training_evaluation_answers_and_out(promot, source, tmp_path):
    assert promot(["import", source, "base"], tmp_path).code == 0
    assert added(tmp_path / "base") == TOKENS
    lines = [f"what is <ent>{a}{{?\t<ent> é{a}\n" for a in "abcdefgh"]
    (tmp_path / "mine.tsv").write_text("".join(lines), encoding="utf-8")
    settings = {"WORKDIR": "out", "BASE": "base"} | SMALL
    arguments = [
        "run", "--gin_file=gin/recipes/finetune.gin", "--gin_file=gin/models/of_base.gin",
        *own_task("mine.tsv", "added_tokens"), *flags(**settings),
    ]  # fmt: skip
    done = promot(arguments, tmp_path)
    assert done.code == 0, done.err
    assert added(tmp_path / "out") == TOKENS
    sample = next((tmp_path / "out/1-model/samples").glob("*.0.jsonl"))
    asked = json.loads(sample.read_text(encoding="utf-8").splitlines()[0])["input"]
    assert asked.startswith("what is<ent> ") and asked.endswith("{ ?")  # as the ids are read

    # Out, and served as it lies, with a last norm of zero: all ids are equally likely.
    assert promot(["export", "out", "hf"], tmp_path).code == 0
    told = json.loads((tmp_path / "hf/generation_config.json").read_text(encoding="utf-8"))
    assert told == OWN  # of the base's source
    weights = load_file(tmp_path / "hf/model.safetensors")
    weights["decoder.final_layer_norm.weight"] *= 0
    (tmp_path / "asked.jsonl").write_text('{"inputs": "a <ent>", "targets": "é"}\n', "utf-8")
    save_file(weights, tmp_path / "hf/model.safetensors", metadata={"format": "pt"})
    score = ["infer", "hf", "--input=asked.jsonl", "--output=o.jsonl", "--score"]
    done = promot(score, tmp_path)
    assert done.code == 0, done.err
    answer = json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))
    assert answer["tokens"] == 2  # "é" is one, and EOS
    np.testing.assert_allclose(answer["score"], -2 * np.log(768), rtol=1e-5)


def test_in_another_locale(promot, source, tmp_path):
    """The same work directory, byte by byte, where a program's own encoding is not UTF-8."""
    assert promot(["import", source, "here"], tmp_path).code == 0
    other = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = os.environ | other | {"JAX_PLATFORMS": "cpu"}
    command = [SCRIPT, "import", source, "there"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for name in ("sentencepiece.model", "huggingface.json"):
        here, there = (tmp_path / place / name for place in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    assert added(tmp_path / "there") == TOKENS

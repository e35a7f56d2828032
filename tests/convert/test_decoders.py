"""Decoder-only models of Transformers in and out: the same bits, the same settings, the same text.

Logits are compared in tests/models and, with prompts, in test_decoder_prompts.py.
"""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import decoder_models
import ml_dtypes
import numpy as np
import pytest
from decoder_models import FAMILIES, INSTALLED, ROWS
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer

from promot_jax.cli.main import main
from promot_jax.convert import decoders, export_model, import_checkpoint, kept, open_source
from promot_jax.models import Decoding
from promot_jax.run import LanguageModel
from promot_jax.training.description import Description

torch = pytest.importorskip("torch", reason="needs make parity")
pytestmark = pytest.mark.skipif(not INSTALLED, reason="needs make parity")
CARRIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "generation_config.json",
)  # fmt: skip


class Converted(NamedTuple):
    """A family's directory, the work directory made of it, and what that was exported to."""

    family: str
    original: Path
    workdir: Path
    exported: Path


@pytest.fixture(scope="module", params=FAMILIES)
def converted(request, tmp_path_factory) -> Converted:
    """By way of the command line."""
    root = tmp_path_factory.mktemp(request.param)
    original = decoder_models.save(request.param, root / "original")
    (original / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    assert main(["import", str(original), str(root / "work")]) == 0
    assert main(["export", str(root / "work"), str(root / "exported")]) == 0
    return Converted(request.param, original, root / "work", root / "exported")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A Llama, to be copied and spoilt."""
    return decoder_models.save("llama", tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture
def copy(llama, tmp_path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def arrays(directory: Path) -> dict[str, np.ndarray]:
    """All tensors of a directory's safetensors."""
    files = sorted(directory.glob("*.safetensors"))
    return {name: array for file in files for name, array in load_file(file).items()}


def assert_same_bits(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(read(path) | values), encoding="utf-8")


def test_an_export_is_the_original(converted):
    """Every tensor bit by bit, and what stands around them."""
    assert_same_bits(arrays(converted.exported), arrays(converted.original))
    for name in (*CARRIED, "merges.txt"):
        theirs = (converted.original / name).read_bytes()
        assert (converted.exported / name).read_bytes() == theirs, name
    assert read(converted.exported / "config.json") == read(converted.original / "config.json")


def test_transformers_open_an_export(converted):
    """The same model, and the same tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = AutoModelForCausalLM.from_pretrained(converted.exported)
    theirs = AutoModelForCausalLM.from_pretrained(converted.original)
    assert type(made) is type(theirs)
    ours = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    assert_same_bits(ours, {name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    ours, theirs = map(AutoTokenizer.from_pretrained, (converted.exported, converted.original))
    messages = [{"role": "user", "content": "Hi?"}]
    written = [x.apply_chat_template(messages, tokenize=False) for x in (ours, theirs)]
    assert written[0] == written[1] and "Hi?" in written[0]
    assert made.generation_config.temperature == 0.6


def test_the_tokenizer_reads_as_transformers_do(converted):
    """1,000 lines of many scripts, and the special ids."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(converted.exported)
    ours = Description.read(str(converted.workdir)).load_vocabulary(str(converted.workdir))
    lines = decoder_models.lines()
    expected = theirs(lines, add_special_tokens=False).input_ids
    assert [ours.encode(line) for line in lines] == expected
    front = theirs("a").input_ids[: -len(ours.encode("a"))]
    assert front == ([] if ours.bos_id is None else [ours.bos_id])
    told = read(converted.original / "generation_config.json")
    assert ours.eos_id == theirs.eos_token_id and ours.pad_id == theirs.pad_token_id
    assert set(ours.stop_ids) == {theirs.eos_token_id, *told["eos_token_id"]}


def test_inspect(converted, capsys):
    """The same of the directory, the work directory and the export."""
    found = []
    for path in (converted.original, converted.workdir, converted.exported):
        assert main(["inspect", str(path), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
        assert main(["inspect", str(path)]) == 0
        assert "None" not in capsys.readouterr().out
    theirs = arrays(converted.original)
    for facts in found:
        assert facts["family"] == converted.family.removesuffix("_tied")
        assert facts["parameters"] == sum(array.size for array in theirs.values())
        assert facts["kind_of_model"] == "decoder_only"
        assert facts["model"]["vocab_size"] == ROWS
        assert facts["vocabulary"]["kind"] == "tokenizer"
    assert found[0]["model"] == found[1]["model"] == found[2]["model"]


def test_without_what_was_kept(converted, tmp_path):
    """As of a model that was never Transformers': the same model, ids and chats."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    work = shutil.copytree(converted.workdir, tmp_path / "work")
    shutil.rmtree(work / kept.DIRECTORY)
    (work / kept.FILE).unlink()
    exported = export_model(str(work), str(tmp_path / "exported"))
    assert_same_bits(arrays(exported), arrays(converted.original))
    ours, theirs = map(AutoModelForCausalLM.from_pretrained, (exported, converted.original))
    assert type(ours) is type(theirs)
    ids = torch.arange(3, 33)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    stops, told = (x.generation_config.eos_token_id for x in (ours, theirs))
    assert stops == (told[0] if len(told) == 1 else sorted(told))
    ours, theirs = map(AutoTokenizer.from_pretrained, (exported, converted.original))
    lines = decoder_models.lines(200)
    assert ours(lines).input_ids == theirs(lines).input_ids
    for name in ("bos", "eos", "pad"):
        assert getattr(ours, f"{name}_token") == getattr(theirs, f"{name}_token")
    messages = [{"role": "user", "content": "Hi?"}]
    written = [x.apply_chat_template(messages, tokenize=False) for x in (ours, theirs)]
    assert written[0] == written[1]


def test_the_older_spelling(converted, tmp_path):
    """rope_theta, rope_scaling and torch_dtype in the place of rope_parameters and dtype."""
    copy = shutil.copytree(converted.original, tmp_path / "copy")
    newer = open_source(str(copy)).config
    told = decoders.config_json(newer, "float32", read(copy / "config.json")["model_type"])
    (copy / "config.json").write_text(json.dumps(told), encoding="utf-8")
    assert "rope_parameters" not in told and open_source(str(copy)).config == newer
    work = import_checkpoint(str(copy), str(tmp_path / "work"))
    exported = export_model(str(work), str(tmp_path / "exported"))
    assert read(exported / "config.json") == told


def test_shards_and_bfloat16(tmp_path):
    original = decoder_models.save("llama", tmp_path / "o", dtype="bfloat16", shard="30KB")
    assert len(list(original.glob("model-*.safetensors"))) > 3
    stored = load_file(shard := next(iter(sorted(original.glob("model-*.safetensors")))))
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}  # of old ones
    save_file(stored | more, shard, metadata={"format": "pt"})
    workdir = import_checkpoint(str(original), str(tmp_path / "work"))
    save_file(stored, shard, metadata={"format": "pt"})
    assert Description.read(str(workdir)).model.param_dtype == "bfloat16"
    exported = export_model(str(workdir), str(tmp_path / "exported"), shard_size="20KB")
    assert_same_bits(arrays(exported), arrays(original))
    assert read(exported / "config.json")["dtype"] == "bfloat16"
    wide = export_model(str(workdir), str(tmp_path / "wide"), dtype="float32")
    assert read(wide / "config.json")["dtype"] == "float32"
    for name, array in arrays(wide).items():
        np.testing.assert_array_equal(array.astype(ml_dtypes.bfloat16), arrays(original)[name])


def test_a_copy_of_the_table_is_a_tied_head(tmp_path):
    original = decoder_models.save("llama_tied", tmp_path / "o")
    stored = arrays(original)
    tied = stored | {"lm_head.weight": stored["model.embed_tokens.weight"]}
    save_file(tied, original / "model.safetensors", metadata={"format": "pt"})
    assert open_source(str(original)).config.logits_via_embedding
    exported = export_model(
        str(import_checkpoint(str(original), str(tmp_path / "work"))), str(tmp_path / "exported")
    )
    assert_same_bits(arrays(exported), stored)
    own = tied | {"lm_head.weight": stored["model.embed_tokens.weight"] + 1}
    save_file(own, original / "model.safetensors", metadata={"format": "pt"})
    work = import_checkpoint(str(original), str(tmp_path / "own"))
    exported = export_model(str(work), str(tmp_path / "untied"))
    assert_same_bits(arrays(exported), own)
    assert read(exported / "config.json")["tie_word_embeddings"] is False


@pytest.mark.parametrize("old", [True, False])
def test_the_text_model_of_a_multimodal_one(tmp_path, capsys, old):
    """Both spellings of its tensors; settings that config.json leaves to the class."""
    text = decoder_models.save("gemma3", tmp_path / "text")
    both = Path(shutil.copytree(text, tmp_path / "both"))
    stored = arrays(text)
    before, after = (
        ("model.", "language_model.model.") if old else ("model.", "model.language_model.")
    )
    tensors = {name.replace(before, after, 1): array for name, array in stored.items()}
    tower = "vision_tower" if old else "model.vision_tower"
    tensors[f"{tower}.vision_model.post_layernorm.weight"] = np.ones(7, np.float32)
    projector = "multi_modal_projector" if old else "model.multi_modal_projector"
    tensors[f"{projector}.mm_input_projection_weight"] = np.ones((7, 9), np.float32)
    save_file(tensors, both / "model.safetensors", metadata={"format": "pt"})
    inner = read(text / "config.json")
    for name in ("architectures", "tie_word_embeddings", "pad_token_id", "bos_token_id"):
        inner.pop(name, None)
    outer = {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": inner | {"eos_token_id": 1}, "vision_config": {"hidden_size": 7},
        "eos_token_id": [1, 6], "initializer_range": 0.02, "torch_dtype": "float32",
    }  # fmt: skip
    (both / "config.json").write_text(json.dumps(outer), encoding="utf-8")
    work = import_checkpoint(str(both), str(tmp_path / "work"))
    said = " ".join(capsys.readouterr().err.split())
    assert "without 2 tensors of vision_tower and multi_modal_projector" in said
    exported = export_model(str(work), str(tmp_path / "exported"))
    assert_same_bits(arrays(exported), stored)
    told = read(exported / "config.json")
    assert told["model_type"] == "gemma3_text" and told["eos_token_id"] == [1, 6]
    assert told["architectures"] == ["Gemma3ForCausalLM"] and "vision_config" not in told
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(exported)
    assert type(made).__name__ == "Gemma3ForCausalLM" and made.config.sliding_window == 5


def test_a_model_without_its_head(tmp_path):
    """What was saved of the model inside, whose head is tied."""
    original = decoder_models.save("qwen3", tmp_path / "o")
    stored = arrays(original)
    inside = {name.removeprefix("model."): array for name, array in stored.items()}
    save_file(inside, original / "model.safetensors", metadata={"format": "pt"})
    work = import_checkpoint(str(original), str(tmp_path / "work"))
    assert_same_bits(arrays(export_model(str(work), str(tmp_path / "exported"))), stored)


def test_rows_are_those_of_the_table(copy, tmp_path):
    change(copy / "config.json", vocab_size=600)
    work = import_checkpoint(str(copy), str(tmp_path / "work"))
    assert Description.read(str(work)).model.vocab_size == ROWS
    exported = export_model(str(work), str(tmp_path / "exported"))
    assert read(exported / "config.json")["vocab_size"] == ROWS


def test_another_vocabulary(copy, tmp_path):
    """Then nothing of the old one is given back."""
    (tmp_path / "other").mkdir()
    decoder_models.save_tokenizer("gemma", tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    work = import_checkpoint(str(copy), str(tmp_path / "work"), vocabulary=str(path))
    exported = export_model(str(work), str(tmp_path / "exported"))
    from transformers import AutoTokenizer

    ours, theirs = map(AutoTokenizer.from_pretrained, (exported, tmp_path / "other"))
    lines = decoder_models.lines(100)
    assert ours(lines).input_ids == theirs(lines).input_ids
    assert (ours.eos_token_id, ours.pad_token_id, ours.bos_token_id) == (1, 0, 2)
    assert read(exported / "config.json")["eos_token_id"] == [1, 6]
    assert read(exported / "generation_config.json")["eos_token_id"] == [1, 6]


def test_a_run_of_it_has_what_an_export_needs(converted, tmp_path):
    """A work directory that begins with its variables keeps its tokenizer's files."""
    (tmp_path / "run").mkdir()
    kept.inherit(tmp_path / "run", str(converted.workdir))
    for name in (kept.FILE, *(f"{kept.DIRECTORY}/{file}" for file in CARRIED[1:])):
        theirs = (converted.workdir / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == theirs
    kept.inherit(tmp_path / "run", None)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_kept_file_that_was_changed_is_named(converted, tmp_path, capsys):
    work = shutil.copytree(converted.workdir, tmp_path / "work")
    path = work / kept.DIRECTORY / "tokenizer_config.json"
    path.write_text("{}", encoding="utf-8")
    assert main(["export", str(work), str(tmp_path / "exported")]) == 2
    assert f"{path} has been changed" in capsys.readouterr().err
    path.unlink()
    assert main(["export", str(work), str(tmp_path / "exported")]) == 2
    assert f"{path} cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()


def test_it_is_served_as_it_lies(converted):
    """A directory of Transformers, and the work directory of it."""
    ours, theirs = (
        LanguageModel(str(path), {"data": 1}) for path in (converted.workdir, converted.original)
    )
    texts = ["The capital of France", "東京は"]
    assert theirs.generate(texts, decoding=Decoding(8)) == ours.generate(
        texts, decoding=Decoding(8)
    )


def test_what_is_said_of_layers(copy, tmp_path, capsys):
    """The tensors of all layers are one row."""
    assert main(["import", str(copy), str(tmp_path / "work")]) == 0
    said = capsys.readouterr().err
    assert "model.layers.*.self_attn.q_proj.weight" in said and "layers.0" not in said


def test_an_image_token_of_a_text_model_is_left_out(tmp_path, capsys):
    """Gemma 3's small models have a tokenizer with one token that they have no row for."""
    original = decoder_models.save("gemma3", tmp_path / "o")
    made = Tokenizer.from_file(str(original / "tokenizer.json"))
    rows = made.get_vocab_size()
    stored = arrays(original)
    stored["model.embed_tokens.weight"] = stored["model.embed_tokens.weight"][:rows].copy()
    save_file(stored, original / "model.safetensors", metadata={"format": "pt"})
    change(original / "config.json", vocab_size=rows)
    made.add_special_tokens([AddedToken("<image_soft_token>", normalized=False)])
    made.save(str(original / "tokenizer.json"))
    work = import_checkpoint(str(original), str(tmp_path / "work"))
    assert "<image_soft_token> is left out" in " ".join(capsys.readouterr().err.split())
    vocabulary = Description.read(str(work)).load_vocabulary(str(work))
    assert max(vocabulary.encode("a<image_soft_token>b")) < rows
    exported = export_model(str(work), str(tmp_path / "exported"))
    theirs = (original / "tokenizer.json").read_bytes()
    assert (exported / "tokenizer.json").read_bytes() == theirs


SPOILT = [
    ("config.json", {"model_type": "mistral"}, "type 'mistral'.*only .*llama, qwen2"),
    ("config.json", {"model_type": None}, "type None"),
    ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("config.json", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn'"),
    ("config.json", {"attention_bias": True}, "attention_bias = True"),
    ("config.json", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("config.json", {"num_key_value_heads": 3}, "num_kv_heads = 3"),
    ("config.json", {"hidden_size": None}, "lacks hidden_size"),
    ("config.json", {"num_hidden_layers": 5}, "layers.4.* is missing"),
    ("config.json", {"num_hidden_layers": 3}, "layers.3.* has no place"),
    ("config.json", {"tie_word_embeddings": "yes"}, "tie_word_embeddings = 'yes'"),
    ("tokenizer.json", {"model": {"type": "BPE", "vocab": 3}}, "no tokenizer.json"),
    ("generation_config.json", {"eos_token_id": "x"}, "eos_token_id = 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "changes", "says"), SPOILT)
def test_a_setting_that_cannot_be(copy, tmp_path, capsys, file, changes, says):
    """One line that names it, and nothing is left behind."""
    change(copy / file, **changes)
    code = main(["import", str(copy), str(tmp_path / "work")])
    assert code == 2 and not (tmp_path / "work").exists()
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and re.search(says, said), said


def _more_ids(directory: Path) -> None:
    made = Tokenizer.from_file(str(directory / "tokenizer.json"))
    made.add_tokens([f"word{i}" for i in range(ROWS)])
    made.save(str(directory / "tokenizer.json"))


def _no_end(directory: Path) -> None:
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        told = {n: x for n, x in read(directory / file).items() if not n.startswith("eos_token")}
        (directory / file).write_text(json.dumps(told), encoding="utf-8")


def _pointer(name: str):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    return lambda directory: (directory / name).write_text(text, encoding="utf-8")


def _old_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").rename(directory / "vocab.json")


def _no_number(directory: Path) -> None:
    stored = arrays(directory)
    stored["model.norm.weight"][3] = np.nan
    save_file(stored, directory / "model.safetensors")


def _prefix(directory: Path) -> None:
    stored = {f"base_model.{name}": array for name, array in arrays(directory).items()}
    save_file(stored, directory / "model.safetensors")


def _no_head(directory: Path) -> None:
    stored = arrays(directory)
    del stored["lm_head.weight"]
    save_file(stored, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_more_ids, r"tokenizer.json has 1240 ids \('word40' \(640\).* only 640 embeddings"),
        (_no_end, "does not tell what ends a text"),
        (_pointer("tokenizer.json"), "tokenizer.json is a Git LFS pointer"),
        (_pointer("model.safetensors"), "model.safetensors is a Git LFS pointer"),
        (_old_tokenizer, "tokenizer in vocab.json alone: write a tokenizer.json with"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "give --vocabulary, .*r.json,"),
        (_no_number, r"model.norm.weight has nan at \[3\]"),
        (_prefix, "all 39 tensors begin with 'base_model.'"),
        (_no_head, r"lm_head.weight \(.*\) is missing"),
    ],
)
def test_a_directory_that_cannot_be(copy, tmp_path, capsys, spoil, says):
    spoil(copy)
    assert main(["import", str(copy), str(tmp_path / "work")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(says, said), said
    assert not (tmp_path / "work").exists()

"""Directories whose tokenizer is a SentencePiece model alone: the ids that Transformers give."""

import io
import json
from pathlib import Path

import decoder_models
import hf_models
import pytest
from sentencepiece import SentencePieceTrainer

from promot_jax.cli.main import main
from promot_jax.convert import export_model, import_checkpoint
from promot_jax.training.description import Description

pytestmark = pytest.mark.skipif(not decoder_models.INSTALLED, reason="needs make parity")
GEMMA = {
    "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>",
    "eos_piece": "<eos>", "bos_piece": "<bos>", "add_dummy_prefix": False,
    "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>"],
}  # fmt: skip
LLAMA = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
NAMES = {
    "llama": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "gemma3": {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>"},
}
CLASSES = {"llama": "LlamaTokenizer", "gemma3": "GemmaTokenizer"}


def trained(**settings) -> bytes:
    """A SentencePiece model of BPE, as Llama 2 and Gemma have it."""
    made = io.BytesIO()
    usual = {
        "model_type": "bpe", "vocab_size": 620, "byte_fallback": True, "split_digits": True,
        "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
        "character_coverage": 0.98, "allow_whitespace_only_pieces": True, "minloglevel": 2,
    }  # fmt: skip
    texts = iter(decoder_models.SCRIPTS * 5)
    SentencePieceTrainer.train(sentence_iterator=texts, model_writer=made, **usual | settings)
    return made.getvalue()


@pytest.fixture(scope="module", params=CLASSES)
def original(request, tmp_path_factory) -> Path:
    """A directory as older ones are."""
    directory = tmp_path_factory.mktemp(request.param) / "model"
    decoder_models.model(request.param).save_pretrained(directory)
    settings = GEMMA if request.param == "gemma3" else LLAMA
    (directory / "tokenizer.model").write_bytes(trained(**settings))
    told = {f"{name}_token": token for name, token in NAMES[request.param].items()}
    told |= {"tokenizer_class": CLASSES[request.param], "add_bos_token": True}
    decoder_models.write(directory / "tokenizer_config.json", told)
    return directory


def test_ids_are_those_of_transformers(original, tmp_path):
    """Of the directory, and of an export of it."""
    from transformers import AutoTokenizer

    work = import_checkpoint(str(original), str(tmp_path / "work"))
    exported = export_model(str(work), str(tmp_path / "exported"))
    theirs, again = map(AutoTokenizer.from_pretrained, (original, exported))
    ours = Description.read(str(work)).load_vocabulary(str(work))
    for line in decoder_models.lines():
        ids = theirs(line).input_ids
        assert [ours.bos_id, *ours.encode(line)] == ids == again(line).input_ids, line
    assert ours.eos_id == theirs.eos_token_id
    assert (exported / "tokenizer.model").read_bytes() == (
        original / "tokenizer.model"
    ).read_bytes()


@pytest.mark.parametrize(
    ("model", "added", "says"),
    [
        (b"no model", {}, "tokenizer.model is no SentencePiece model"),
        (hf_models.SPIECE.read_bytes(), {}, "is no BPE"),
        (None, {"<new>": 620}, "adds '<new>' to its tokenizer.model"),
    ],
)
def test_what_only_transformers_put_together(original, tmp_path, capsys, model, added, says):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in original.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    if model is not None:
        (copy / "tokenizer.model").write_bytes(model)
    (copy / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    assert main(["import", str(copy), str(tmp_path / "work")]) == 2
    assert says in capsys.readouterr().err

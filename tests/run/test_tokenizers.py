"""Runs with a tokenizer.json: its copy in the work directory, and chat."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import tiny_run

sys.path.insert(0, str(Path(__file__).parents[1] / "vocabularies"))

import small_tokenizers

from promot_jax import data
from promot_jax.data import TrainData
from promot_jax.errors import UserError
from promot_jax.models import DecoderConfig
from promot_jax.run import LanguageModel, base_vocabulary, run
from promot_jax.training import adamw
from promot_jax.training.description import Description


def settings(workdir, task, vocabulary, **changes):
    model = dataclasses.replace(tiny_run.MODEL, vocab_size=vocabulary.vocab_size)
    return tiny_run.settings(
        str(workdir), task, 4, vocabulary=vocabulary, model=model, optimizer=adamw, **changes
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory, task):
    """A finished run, and its vocabulary."""
    root = tmp_path_factory.mktemp("made")
    vocabulary = data.tokenizer(str(small_tokenizers.gemma(root / "hf")))
    return run(settings(root / "work", task, vocabulary)), vocabulary


def test_a_work_directory_has_its_tokenizer(made):
    workdir, vocabulary = made
    told = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["vocabulary"]
    wanted = {"bos_id": 2, "eos_id": 1, "pad_id": 0, "stop_ids": [1, 5], "chat": False}
    assert told["kind"] == "tokenizer" and {name: told[name] for name in wanted} == wanted
    for name, content in vocabulary.files().items():
        assert (workdir / name).read_bytes() == content
    model = LanguageModel(str(workdir))
    assert model.vocabulary == vocabulary == base_vocabulary(str(workdir))
    assert model.generate(["what follows a?"], "target")


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_files_are_sealed(made, name):
    workdir, _ = made
    path = workdir / name
    before = path.read_bytes()
    try:
        path.write_bytes(before + b" ")
        with pytest.raises(UserError, match=f"{name} has been changed since it was written"):
            LanguageModel(str(workdir))
        path.unlink()
        with pytest.raises(UserError, match=f"lacks its {name} .*: restore it"):
            base_vocabulary(str(workdir))
    finally:
        path.write_bytes(before)


def test_chat_can_be_turned_on_with_a_base(made, task, tmp_path):
    workdir, vocabulary = made
    chat = base_vocabulary(str(workdir), chat=True)
    assert chat == vocabulary and chat.chat and not vocabulary.chat
    tuned = run(settings(tmp_path / "w", task, chat, base=str(workdir)))
    assert Description.read(str(tuned)).vocabulary["chat"] is True
    assert LanguageModel(str(tuned)).vocabulary.chat
    with pytest.raises(UserError, match="holds another run .*'chat': True"):
        run(settings(tmp_path / "w", task, vocabulary, base=str(workdir)))
    with pytest.raises(UserError, match="chat = 3: set True or False or None"):
        base_vocabulary(str(workdir), chat=3)


def test_another_tokenizer_than_the_base_has(made, task, tmp_path):
    workdir, vocabulary = made
    other = dataclasses.replace(
        vocabulary, special=dataclasses.replace(vocabulary.special, pad_id=3)
    )
    with pytest.raises(UserError, match="has another vocabulary than VOCABULARY"):
        run(settings(tmp_path / "w", task, other, base=str(workdir)))


def test_no_template_to_turn_on(task, tmp_path):
    vocabulary = data.tokenizer(str(small_tokenizers.llama2(tmp_path / "hf")))
    workdir = run(settings(tmp_path / "w", task, vocabulary))
    assert not (workdir / "chat_template.jinja").exists()
    with pytest.raises(UserError, match="has no chat template"):
        base_vocabulary(str(workdir), chat=True)


DECODER = DecoderConfig(
    vocab_size=450,
    emb_dim=16,
    num_heads=2,
    num_kv_heads=1,
    num_layers=1,
    head_dim=8,
    mlp_dim=32,
    max_position_embeddings=256,
    scale_embeddings=True,
    logits_via_embedding=True,
)


@pytest.mark.parametrize("chat", [False, True])
def test_a_decoder_learns_to_answer(task, tmp_path, chat):
    """Plain text with BOS in front, or turns, which hold their own; one answer ends as learned."""
    vocabulary = data.tokenizer(str(small_tokenizers.gemma(tmp_path / "hf")), chat=chat)
    parts = {"learning_rate": 0.01, "optimizer": adamw, "prompts": "target"}
    lengths = {"input_length": 96, "target_length": 8, "batch_size": 18, "prompts": "target"}
    stage = tiny_run.stage("model", "params", 150, task, evaluate_every=None, **parts)
    stage = dataclasses.replace(
        stage, data=TrainData(task, **lengths), evaluations=(), select=None, label_smoothing=0.0
    )
    changes = {"stages": [stage], "model": DECODER, "vocabulary": vocabulary}
    workdir = run(tiny_run.settings(str(tmp_path / "w"), task, **changes))
    model = LanguageModel(str(workdir))
    assert model.generate(["what follows ab?", "what follows cc?"], "target") == ["b", "c"]
    ids = model.encode("what follows ab?", None).tolist()
    assert ids.count(vocabulary.special.bos_id) == 1 and ids[0] == vocabulary.special.bos_id
    assert (model.vocabulary.encode("<start_of_turn>")[0] in ids) == chat
    target = model.encode_target("what follows ab?", "b").tolist()
    assert target[-1] == vocabulary.eos_id == (5 if chat else 1) and target.count(target[-1]) == 1


def test_a_run_goes_on_another_day(task, tmp_path):
    """Its template writes the day into every row, which must be those that it began with."""
    directory = small_tokenizers.smollm2(tmp_path / "hf")
    template = "{{ strftime_now('%d %b %Y') }} " + small_tokenizers.CHATML
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    today = data.tokenizer(str(directory), chat=True)
    earlier = dataclasses.replace(today, day="2024-07-26")
    first = run(settings(tmp_path / "w", task, earlier))
    before = (first / "results.json").read_bytes()
    run(settings(tmp_path / "w", task, today))
    assert (first / "results.json").read_bytes() == before
    assert LanguageModel(str(first)).vocabulary.render("x").startswith("26 Jul 2024")

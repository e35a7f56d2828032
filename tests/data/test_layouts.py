"""How both kinds of models read a pair; nothing is lost, twice there, or out of its place."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.data.layouts import TEMPLATE, make_layout
from promot_jax.data.tokens import Encoder
from promot_jax.errors import UserError
from promot_jax.vocabularies import text_of

sys.path.insert(0, str(Path(__file__).parents[1] / "vocabularies"))

import small_tokenizers

T5, DECODER = "encoder_decoder", "decoder_only"
CHATS = ("gemma", "smollm2", "llama", "qwen")


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory):
    """Bytes, and tokenizers with BOS and without, as a chat too."""
    root, found = tmp_path_factory.mktemp("vocabularies"), {"byte": data.byte()}
    for family, make in small_tokenizers.FAMILIES.items():
        found[family] = data.tokenizer(str(make(root / family)))
    return found | {f"{family} chat": found[family].with_chat(True) for family in CHATS}


ids = st.lists(st.integers(0, 99), min_size=1, max_size=6)
some_pairs = st.lists(st.tuples(ids, st.lists(st.integers(0, 99), max_size=5)), max_size=5)


@settings(deadline=None)
@given(some_pairs, st.booleans())
def test_a_decoder_s_row(pairs, packed):
    """Each target's token once, behind the column that predicts it; segments and positions."""
    pairs = pairs if packed else pairs[:1]
    size = [sum(len(pair[k]) for pair in pairs) + 2 for k in (0, 1)]
    layout = make_layout(DECODER, data.byte())
    batch = layout.empty(2, *size, packed)
    layout.write(batch, 1, pairs)
    assert not any(array[0].any() for array in batch.values())  # the other row
    row = {name.removeprefix("decoder_"): array[1] for name, array in batch.items()}
    weights, x, y = row["loss_weights"], 0, 0
    for segment, (inputs, targets) in enumerate(pairs, start=1):
        text = [*inputs, *targets]
        read = slice(x, x + max(len(text) - 1, len(inputs)))
        assert row["input_tokens"][read].tolist() == text[: read.stop - x]
        if packed:
            assert (row["segment_ids"][read] == segment).all()
            assert row["positions"][read].tolist() == list(range(read.stop - x))
        answered = slice(y, y + len(targets))
        assert row["target_tokens"][answered].tolist() == targets
        assert [text[p - x + 1] for p in row["target_positions"][answered]] == targets
        x, y = read.stop, answered.stop
    assert weights.tolist() == [1] * y + [0] * (size[1] - y)
    names = ["input_tokens", *(["segment_ids", "positions"] if packed else [])]
    assert not any(row[name][x:].any() for name in names)
    assert all(
        array.dtype == (np.float32 if n == "loss_weights" else np.int32) for n, array in row.items()
    )


def test_one_row_of_a_decoder(text_task):
    """The space in front of a target is the target's, and the prompt stands in front of BOS."""
    train = data.TrainData(text_task([("ab", "c")]), 5, 4, batch_size=1, prompts="q")
    ids = {"q": np.array([310, 311])}
    batch = data.Batches(train, data.byte(), 259, ids, DECODER)(0)
    a, space = ord("a") + 3, ord(" ") + 3
    assert {name.removeprefix("decoder_"): array[0].tolist() for name, array in batch.items()} == {
        "input_tokens": [310, 311, a, a + 1, space, a + 2, 0, 0, 0],
        "target_tokens": [space, a + 2, 1, 0],
        "target_positions": [3, 4, 5, 0],
        "loss_weights": [1, 1, 1, 0],
    }


SHOTS = data.TaskInfo(shot_template="Q: {inputs}\nA: {targets}.", separator="\n\n")
PAIRS = [(f"what is {a}{b}?", f"{b} or {a}") for a in "abcd" for b in "xyz"]


@pytest.fixture(scope="module")
def asked(text_task):
    """A task whose questions are asked again in its validation split."""
    return text_task(PAIRS, PAIRS, SHOTS)


FORMS = ["byte", *small_tokenizers.FAMILIES, *(f"{family} chat" for family in CHATS)]


@pytest.mark.parametrize("kind", [T5, DECODER])
@pytest.mark.parametrize("name", FORMS)
def test_what_is_trained_is_what_is_asked(vocabularies, asked, name, kind):
    """To the token: the inputs of training, with shots, are those of an evaluation."""
    vocabulary = vocabularies[name]
    size = vocabulary.vocab_size
    encoder = Encoder(asked, vocabulary, size, (2,), 0, kind)
    examples = data.load_examples(asked, "validation")
    for shots in (0, 2):
        found = data.eval_set(asked, "validation", shots, vocabulary, size, None, 999, kind=kind)
        trained = encoder.inputs(examples, [shots] * len(examples))
        assert all(map(np.array_equal, trained, found.tokens))
        assert found.stop_texts == (("\n\n",) if kind == DECODER else ())


@pytest.mark.parametrize("name", ["byte", "gemma", "smollm2", "llama", "qwen"])
def test_a_decoder_reads_the_template(vocabularies, asked, name):
    """Shots, question and answer are one text, written alike; BOS is there once, EOS at the end."""
    vocabulary = vocabularies[name]
    encoder = Encoder(asked, vocabulary, vocabulary.vocab_size, (1,), 0, DECODER)
    example = data.load_examples(asked, "train")[0]
    [inputs], [targets] = encoder.inputs([example], [1]), encoder.targets([example])
    text = text_of(vocabulary, inputs + targets)
    form = "Q: {}\nA: {}."
    shot, question = text.split("\n\n")
    assert question == form.format(example.inputs, example.targets)
    assert shot in {form.format(*pair) for pair in PAIRS} - {question}
    bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    assert inputs[: len(bos)] == bos and (not bos or (inputs + targets).count(bos[0]) == 1)
    assert targets[-1] == vocabulary.eos_id
    assert encoder.layout.answer(text_of(vocabulary, targets)) == example.targets
    if name in ("smollm2", "qwen", "llama"):  # whose words begin with their space
        assert inputs + targets == [*bos, *vocabulary.encode(text), vocabulary.eos_id]


def test_a_target_stands_behind_other_text(tmp_path):
    """Whatever the vocabulary puts in front of a text of its own, as Llama 2's does a space."""
    directory = small_tokenizers.gemma(tmp_path / "hf")
    told = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    prepend = {"type": "Prepend", "prepend": "▁"}
    told["normalizer"] = {"type": "Sequence", "normalizers": [prepend, told["normalizer"]]}
    told["pre_tokenizer"] |= {"pattern": {"String": "▁"}, "behavior": "MergedWithNext"}
    (directory / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    vocabulary = data.tokenizer(str(directory))
    whole, alone = vocabulary.encode("line and"), vocabulary.encode(" and")
    targets = make_layout(DECODER, vocabulary).target_ids("line", "and")
    assert vocabulary.encode("line") + targets == [*whole, vocabulary.eos_id]
    assert len(targets) < 1 + len(alone)


@pytest.mark.parametrize("family", CHATS)
def test_a_decoder_reads_turns(vocabularies, asked, family):
    """The user's turn has the shots, the assistant's the answer, which ends the turn."""
    vocabulary = vocabularies[f"{family} chat"]
    encoder = Encoder(asked, vocabulary, vocabulary.vocab_size, (1,), 0, DECODER)
    example = data.load_examples(asked, "train")[0]
    [inputs], [targets] = encoder.inputs([example], [1]), encoder.targets([example])
    text = text_of(vocabulary, inputs)
    assert text.count("Q: ") == 2 and f"Q: {example.inputs}\nA:" in text
    assert text.rstrip().endswith(("assistant", "model"))
    special = vocabulary.special.bos_id
    assert inputs.count(special) == 1 if special is not None else special not in inputs
    assert [i for i in targets if i in vocabulary.stop_ids] == [targets[-1]] == [vocabulary.eos_id]
    assert text_of(vocabulary, targets).strip().startswith(example.targets)


@given(st.text(max_size=12), st.text(max_size=8))
def test_nothing_of_a_text_is_lost(vocabularies, text, target):
    """Bytes can write everything: what a decoder reads is input, space and target."""
    for name in ("byte", "smollm2"):
        vocabulary = vocabularies[name]
        layout = make_layout(DECODER, vocabulary)
        inputs = layout.input_ids(layout.before(text))
        targets = layout.target_ids(text, target)
        assert layout.answer(text_of(vocabulary, targets)) == target or name != "byte"
        assert inputs and targets[-1] == vocabulary.eos_id
        if name == "byte":
            assert text_of(vocabulary, [*inputs, *targets]) == f"{text} {target}"


def test_no_text_at_all(vocabularies):
    """What a decoder then answers to is what its vocabulary puts between texts."""
    found = {name: make_layout(DECODER, v).input_ids("") for name, v in vocabularies.items()}
    assert found["byte"] == [1] and found["gemma"] == [2] and found["qwen"] != []
    assert {len(ids) for name, ids in found.items() if "chat" not in name} == {1}


UNREADABLE = ["{targets}, {inputs}", "{inputs}", "{inputs} {targets} {inputs}", "{inputs}{inputs}"]


@pytest.mark.parametrize("template", UNREADABLE)
def test_a_template_that_a_decoder_cannot_read(text_task, template):
    name = text_task(PAIRS, info=dataclasses.replace(SHOTS, shot_template=template))
    train = data.TrainData(name, 64, 16)
    data.Batches(train, data.byte(), 259)
    with pytest.raises(UserError, match="shot_template = .* name {inputs}, then {targets}, each"):
        data.Batches(train, data.byte(), 259, kind=DECODER)
    assert make_layout(DECODER, data.byte(), "{{{inputs}}}: {targets}").before("a") == "{a}:"
    assert data.TaskInfo().shot_template == TEMPLATE


@pytest.mark.parametrize("family", ["gemma", "qwen"])
def test_a_task_that_yields_ids(source, vocabularies, family):
    """Its text goes on behind the input: BOS in front where there is one, EOS at the end alone."""
    vocabulary = vocabularies[family]
    feature = seqio.Feature(data.as_seqio(vocabulary), add_eos=True)
    seqio.TaskRegistry.add(
        f"ids_of_{family}",
        source=source({"train": {"inputs": ["ab", ""], "targets": [" d", " e"]}}),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
        metric_fns=[],
    )
    bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    size = vocabulary.vocab_size
    found = data.eval_set(f"ids_of_{family}", "train", 0, vocabulary, size, None, 9, kind=DECODER)
    nothing = bos or [vocabulary.prefix_id]
    assert [x.tolist() for x in found.tokens] == [[*bos, *vocabulary.encode("ab")], nothing]
    encoder = Encoder(f"ids_of_{family}", vocabulary, size, kind=DECODER)
    ended = [*vocabulary.encode(" d"), vocabulary.eos_id]
    assert encoder.targets(found.examples[:1]) == [ended]


def test_stop_texts():
    """A separator that answers have, or that is no more than a space, cuts nothing off."""
    for kind in (T5, DECODER):
        layout = make_layout(kind, data.byte())
        assert layout.stop_texts("\n\n", ["a\n\nb", "c"]) == layout.stop_texts(" ", ["a"]) == ()
    assert layout.stop_texts("\n\n", ["a\nb"]) == ("\n\n",)

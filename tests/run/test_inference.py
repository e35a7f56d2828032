"""A work directory as a model: batches change nothing, files of any size, and going on."""

import copy as copying
import dataclasses
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from promot_jax.data import padded_length
from promot_jax.data.layouts import padded
from promot_jax.errors import UserError
from promot_jax.models import Decoding
from promot_jax.run import Answering, LanguageModel, infer

TEXTS = [f"what follows {'abc' * n}?" for n in (1, 9, 30, 2, 8, 3, 17, 1, 12)]
PROMPTS = ["target", None, None] * 3
SHORT = Decoding(4)
both_kinds = pytest.mark.parametrize("kind", tiny_run.KINDS, indirect=True)


@pytest.fixture(scope="module")
def model(served):
    return LanguageModel(str(served), {"data": 1})


@both_kinds
def test_batches_change_nothing(model):
    """Texts of three lengths and two prompts, in batches of four, with other neighbours."""
    outputs = model.generate(TEXTS, PROMPTS, SHORT, batch_size=4)
    turned = model.generate(TEXTS[::-1], PROMPTS[::-1], SHORT, batch_size=4)
    assert outputs == turned[::-1]
    assert len(set(outputs)) > 1
    assert outputs[0] != model.generate(TEXTS[:1] * 4, None, SHORT, batch_size=4)[0]
    assert model.generate([]) == []


def same(ours, theirs):
    """Which scores are equal; a sum's last bit depends on how far a batch is padded."""
    numbers = [[score.log_likelihood for score in scores] for scores in (ours, theirs)]
    return np.isclose(*numbers, rtol=1e-5).tolist()


@both_kinds
def test_scores(model):
    targets = [f"{'xyz' * n}!" for n in range(len(TEXTS))]
    scores = model.score(TEXTS, targets, PROMPTS, batch_size=4)
    turned = model.score(TEXTS[::-1], targets[::-1], PROMPTS[::-1], batch_size=4)
    assert same(scores, turned[::-1]) == [True] * len(TEXTS)
    more = 1 + model.layout.one_text  # EOS, and a decoder's space in front
    assert [score.tokens for score in scores] == [len(target) + more for target in targets]
    assert all(score.log_likelihood < 0 for score in scores)
    bare = model.score(TEXTS, targets, batch_size=4)
    assert same(scores, bare) == [p is None for p in PROMPTS]
    with pytest.raises(UserError, match="2 targets for 1 texts"):
        model.score(["a"], ["b", "c"])


@both_kinds
def test_greedy_is_what_generate_finds(model):
    row = model.encode(TEXTS[0], None)
    found = model.generator(model.variables, *padded([row], 4, 32), SHORT)[0]
    [score] = model.score_ids([row], [found[found > 0]])
    assert score.greedy and score.tokens == (found > 0).sum()


only_decoder = pytest.mark.parametrize("kind", [tiny_run.DECODER], indirect=True)


@only_decoder
def test_a_decoder_answers_no_text_too(model):
    """Without BOS and prompt there is nothing to answer to: it then reads the end of a text."""
    ids = model.encode("", None)
    assert ids.tolist() == [model.vocabulary.eos_id]
    texts = ["", TEXTS[2], "a"]
    alone = [model.generate([text], None, SHORT) for text in texts]
    assert model.generate(texts, None, SHORT) == [text for [text] in alone]
    scores = model.score(texts, ["x", "y", "z"])
    assert scores[0].log_likelihood == pytest.approx(model.score([""], ["x"])[0].log_likelihood)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Lines of two and a half windows."""
    rows = [{"inputs": f"{TEXTS[i % 9][:20]} {i}", "prompt": PROMPTS[i % 9]} for i in range(2600)]
    return write(tmp_path_factory.mktemp("asked") / "in.jsonl", rows)


SAMPLED = Answering(batch_size=256, decoding=Decoding(4, temperature=1.0))


@pytest.fixture(scope="module")
def answered(model, asked, tmp_path_factory):
    """Their answers, in one go, sampled."""
    output = tmp_path_factory.mktemp("answered") / "out.jsonl"
    assert infer(model, asked, output, SAMPLED) == 2600
    return output


def copy(answered, tmp_path):
    """An output with what lies beside it."""
    for path in answered.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / answered.name


def test_a_continued_file_is_the_uninterrupted_one(model, asked, answered, tmp_path):
    """Wherever it was cut off."""
    whole, output = answered.read_bytes(), copy(answered, tmp_path)
    assert [(row["inputs"], row["prompt"]) for row in lines(output)] == [
        (row["inputs"], row["prompt"]) for row in lines(asked)
    ]
    for kept, first in ((0, 256), (1500, 1024 + 256), (2599, 2048 + 256), (2600, None)):
        cut, seen = sum(map(len, whole.splitlines(keepends=True)[:kept])), []
        output.write_bytes(whole[: cut + 9])
        assert infer(model, asked, output, SAMPLED, seen.append) == 2600
        assert output.read_bytes() == whole
        assert seen[:1] == ([first] if first else [])


class Stop(Exception):
    """What a test ends a call with."""


def stop_at(rows):
    def on_rows(done):
        if done >= rows:
            raise Stop

    return on_rows


def test_a_batch_that_is_done_is_kept(model, asked, answered, tmp_path):
    """Whatever ends the process: the next one computes no finished batch again."""
    output, progress = tmp_path / "out.jsonl", tmp_path / "out.jsonl.progress"
    with pytest.raises(Stop):
        infer(model, asked, output, SAMPLED, stop_at(1024 + 2 * 256))
    left = progress.read_bytes()
    assert left.count(b"\n") == 1 + 2  # a window, two batches of the next
    with progress.open("ab") as file:
        file.write(b'{"window": "half a li')
    with pytest.raises(Stop):
        infer(model, asked, output, SAMPLED, stop_at(1024 + 2 * 256))
    assert progress.read_bytes() == left
    assert infer(model, asked, output, SAMPLED) == 2600
    assert output.read_bytes() == answered.read_bytes()


def test_batches_of_lines_that_changed_are_done_again(model, asked, tmp_path):
    """They are in no output yet, so that only their texts tell."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    shutil.copy(asked, source)
    with pytest.raises(Stop):
        infer(model, source, output, SAMPLED, stop_at(1024 + 2 * 256))
    rows = lines(source)
    rows[1024:] = [row | {"inputs": "something else"} for row in rows[1024:]]
    write(source, rows)
    assert infer(model, source, output, SAMPLED) == 2600
    other = tmp_path / "other.jsonl"
    assert infer(model, source, other, SAMPLED) == 2600
    assert output.read_bytes() == other.read_bytes()


def test_an_input_that_grows(model, asked, answered, tmp_path):
    """Continued where whole windows end; an input that changes meanwhile is refused."""
    source, output = tmp_path / "in.jsonl", copy(answered, tmp_path)
    write(source, [*lines(asked), {"inputs": "one more"}])
    assert infer(model, source, output, SAMPLED) == 2601
    assert output.read_bytes().startswith(answered.read_bytes()[:100_000])
    assert lines(output)[-1]["inputs"] == "one more"

    def grow(_):
        with source.open("a", encoding="utf-8") as file:
            file.write('{"inputs": "late"}\n')

    with pytest.raises(UserError, match="in.jsonl changed while it was answered: run"):
        infer(model, source, tmp_path / "new.jsonl", SAMPLED, grow)


@pytest.mark.parametrize("touch", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_output_that_is_touched_while_it_is_written(model, asked, tmp_path, touch):
    output = tmp_path / "out.jsonl"

    def on_rows(done):
        if done == 1024 + 256:
            touch(output)

    with pytest.raises(UserError, match="was changed, replaced or removed while it was written"):
        infer(model, asked, output, SAMPLED, on_rows)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def overwrite(start: bytes, more: bytes = b""):
    """Damage: other bytes at a file's beginning, and more at its end."""
    return lambda path: path.write_bytes(start + path.read_bytes()[len(start) :] + more)


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("", lambda path: flip(path, path.read_bytes().index(b'"output": "') + 11), "1 to 1024"),
        ("", lambda path: flip(path, path.stat().st_size - 4), "2049 to 2600 are not as"),
        ("", lambda path: flip(path, 15), "line 1, does not answer"),
        ("", overwrite(b"\xff" * 50), "line 1, does not answer"),
        ("", overwrite(b"[" * 5000 + b"\n"), "line 1, does not answer"),
        ("", overwrite(b"", b"{}\n"), "line 2601, does not answer"),
        (".made_by.json", lambda path: flip(path, 40), "out.jsonl.made_by.json"),
        (".made_by.json", lambda path: path.write_bytes(b"[]"), "damaged: give another"),
        (".made_by.json", overwrite(b"\xff"), "damaged: give another"),
        (".made_by.json", lambda path: path.unlink(), "damaged: give another"),
        (".progress", lambda path: path.unlink(), "out.jsonl.progress"),
        (".progress", lambda path: flip(path, 30), "line 1 of out.jsonl.progress"),
    ],
)
def test_nothing_is_added_to_a_damaged_output(model, asked, answered, tmp_path, name, damage, says):
    copy(answered, tmp_path)
    damage(tmp_path / f"out.jsonl{name}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=says):
        infer(model, asked, tmp_path / "out.jsonl", SAMPLED)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_made_an_output(model, asked, answered, served, tmp_path):
    """Other settings, weights, prompts or vocabularies do not continue it; other batches do."""
    output = copy(answered, tmp_path)
    for changes, says in (
        ({"prompt": "target"}, "prompt = None, not 'target', of the lines that name none"),
        ({"decoding": Decoding(4)}, "temperature = 1.0, not 0.0"),
        ({"input_length": 5000}, "input_length = 4096, not 5000"),
    ):
        with pytest.raises(UserError, match=says):
            infer(model, asked, output, dataclasses.replace(SAMPLED, **changes))
    fewer = dataclasses.replace(SAMPLED, batch_size=8, input_length=2000)
    assert infer(model, asked, output, fewer) == 2600
    with pytest.raises(UserError, match="input_length = 2000, not 4096"):
        infer(model, asked, output, SAMPLED)
    other = LanguageModel(str(served), {"data": 1})
    other.variables = other.variables | {"prompt/target": other.variables["prompt/target"] + 1}
    with pytest.raises(UserError, match="begun with another model"):
        infer(other, asked, output, fewer)


LONG = [{"inputs": text} for text in ("a", "b" * 99, "c", "d" * 199)]


def test_too_long(model, tmp_path):
    source, output, named = write(tmp_path / "in.jsonl", LONG), tmp_path / "out.jsonl", []
    refused = Answering(batch_size=2, input_length=64, too_long="error")
    with pytest.raises(UserError, match=r"line 2, has 100 tokens .* --input_length = 64"):
        infer(model, source, output, refused)
    assert not output.exists()
    how = Answering(input_length=64, decoding=SHORT)
    for _ in range(2):  # the second time it is done already
        named.clear()
        assert infer(model, source, output, how, on_long=lambda *long: named.append(long)) == 4
        assert named == [(2, 100), (4, 200)]
    assert [row.get("too_long") for row in lines(output)] == [None, 100, None, 200]
    assert [row["output"] is None for row in lines(output)] == [False, True, False, True]
    with pytest.raises(UserError, match="text 1 has 100 tokens, more than input_length = 64"):
        at_most(model, 64).generate([row["inputs"] for row in LONG])


@only_decoder
def test_more_than_the_context(model, tmp_path):
    """256 tokens, the output's too."""
    rows = [{"inputs": letter * n} for letter, n in (("a", 1), ("b", 253), ("c", 252))]
    source, output, named = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", []
    how = Answering(decoding=SHORT)
    assert infer(model, source, output, how, on_long=lambda *long: named.append(long)) == 3
    assert named == [(2, 253)] and lines(output)[1]["output"] is None
    with pytest.raises(UserError, match="line 2, has 253 tokens .* more than the model's context"):
        infer(model, source, tmp_path / "o", dataclasses.replace(how, too_long="error"))
    with pytest.raises(UserError, match="text 1 has 253 tokens, and .* of 256 has room for 252"):
        model.generate([row["inputs"] for row in rows], None, SHORT)
    with pytest.raises(UserError, match="text 0 has 252 tokens, and .* of 256 has room for 251"):
        model.score([rows[2]["inputs"]], ["xyz"])
    model.score([rows[2]["inputs"]], ["xy"])


def at_most(model, tokens):
    """The same model with another bound."""
    short = copying.copy(model)
    short.input_length = tokens
    return short


def test_long_rows_go_in_smaller_batches(model):
    """Their numbers do not depend on it, and no batch is larger than 64 rows of 512 tokens."""
    rows = [np.full(n, 5, np.int32) for n in (9, 513, 700, 3000, 20, 5000, 9, 2049, 1025, 40)]
    found = list(model.batches(64, rows))
    assert sorted(i for batch in found for i in batch.rows) == list(range(10))
    assert all(len(batch.rows) <= batch.size for batch in found)
    for batch in found:
        length = max(padded_length(len(rows[i])) for i in batch.rows)
        assert batch.size == 1 or batch.size * length**2 <= 64 * 512**2
    assert [batch.size for batch in found] == [4, 2, 1, 1, 1, 1]


def test_scoring_a_file(model, tmp_path):
    rows = [{"inputs": text, "targets": text[-3:], "prompt": None} for text in TEXTS]
    source, output = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert infer(model, source, output, Answering("target", score=True, batch_size=4)) == 9
    scores = model.score(TEXTS, [text[-3:] for text in TEXTS], batch_size=4)
    assert lines(output) == [
        row | {"score": found.log_likelihood, "tokens": found.tokens, "greedy": found.greedy}
        for row, found in zip(rows, scores, strict=True)
    ]
    with pytest.raises(UserError, match="begun with score = True, not False"):
        infer(model, source, output, Answering("target", batch_size=4))
    with pytest.raises(UserError, match='line 2: each line must be like .*"targets"'):
        write(source, [rows[0], {"inputs": "a"}])
        infer(model, source, tmp_path / "other.jsonl", Answering(score=True))


def test_memory_does_not_grow_with_the_file(model, tmp_path):
    peaks = []
    for count in (1_100, 6_600):
        source = write(tmp_path / f"{count}.jsonl", ({"inputs": f"{i:05}"} for i in range(count)))
        tracemalloc.start()
        how = Answering(decoding=Decoding(1))
        assert infer(model, source, tmp_path / f"{count}.out.jsonl", how) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]

"""A work directory as a model: batches change nothing, files of any size, and going on."""

import json
import tracemalloc

import numpy as np
import pytest

from promot_jax.errors import UserError
from promot_jax.models import Decoding
from promot_jax.run import Answering, LanguageModel, infer

TEXTS = [f"what follows {'abc' * n}?" for n in (1, 9, 30, 2, 8, 3, 17, 1, 12)]
PROMPTS = ["target", None, None] * 3
SHORT = Decoding(4)


@pytest.fixture(scope="module")
def model(served):
    return LanguageModel(str(served), {"data": 1})


def test_batches_change_nothing(model):
    """Texts of three lengths and two prompts, in batches of four, with other neighbours."""
    outputs = model.generate(TEXTS, PROMPTS, SHORT, batch_size=4)
    turned = model.generate(TEXTS[::-1], PROMPTS[::-1], SHORT, batch_size=4)
    assert outputs == turned[::-1]
    assert len(set(outputs)) > 1
    assert outputs[0] != model.generate(TEXTS[:1] * 4, None, SHORT, batch_size=4)[0]
    assert model.generate([]) == []


def test_scores(model):
    targets = [f"{'xyz' * n}!" for n in range(len(TEXTS))]
    scores = model.score(TEXTS, targets, PROMPTS, batch_size=4)
    turned = model.score(TEXTS[::-1], targets[::-1], PROMPTS[::-1], batch_size=4)
    assert scores == turned[::-1]
    assert [score.tokens for score in scores] == [len(target) + 1 for target in targets]
    assert all(score.log_likelihood < 0 for score in scores)
    bare = model.score(TEXTS, targets, batch_size=4)
    assert [a == b for a, b in zip(scores, bare, strict=True)] == [p is None for p in PROMPTS]
    with pytest.raises(UserError, match="2 targets for 1 texts"):
        model.score(["a"], ["b", "c"])


def test_greedy_is_what_generate_finds(model):
    row = model.encode(TEXTS[0], None)
    tokens = np.zeros((4, 32), np.int32)
    tokens[:, : len(row)] = row
    found = model.generator(model.variables, tokens, SHORT)[0]
    [score] = model.score_ids([row], [found[found > 0]])
    assert score.greedy and score.tokens == (found > 0).sum()


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Lines of two and a half windows of batches of two."""
    rows = [{"inputs": TEXTS[i % 9], "prompt": PROMPTS[i % 9]} for i in range(40)]
    return write(tmp_path_factory.mktemp("asked") / "in.jsonl", rows)


def test_a_continued_file_is_the_uninterrupted_one(model, asked, tmp_path):
    """Wherever it was cut off, and even when outputs are sampled."""
    how = Answering(batch_size=2, decoding=Decoding(4, temperature=1.0))
    output, seen = tmp_path / "out.jsonl", []
    assert infer(model, asked, output, how, seen.append) == 40
    assert seen == [16, 32, 40]
    whole = output.read_bytes()
    assert [(row["inputs"], row["prompt"]) for row in lines(output)] == [
        (row["inputs"], row["prompt"]) for row in lines(asked)
    ]
    for kept, redone in ((0, 3), (5, 3), (16, 2), (23, 2), (39, 1), (40, 0)):
        cut = sum(map(len, whole.splitlines(keepends=True)[:kept]))
        output.write_bytes(whole[: cut + 9])
        seen.clear()
        assert infer(model, asked, output, how, seen.append) == 40
        assert (output.read_bytes(), len(seen)) == (whole, redone)


def test_too_long(model, asked, tmp_path):
    output = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=r"line 3, has 105 tokens .* --input_length = 64"):
        infer(model, asked, output, Answering(batch_size=2, input_length=64))
    assert not output.exists()
    how = Answering(batch_size=2, input_length=64, too_long="flag", decoding=SHORT)
    assert infer(model, asked, output, how) == 40
    for i, row in enumerate(lines(output)):
        length = len(model.encode(TEXTS[i % 9], PROMPTS[i % 9]))
        assert row.get("too_long") == (length if length > 64 else None)
        assert (row["output"] is None) == (length > 64)


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
    for count in (2_000, 16_000):
        source = write(tmp_path / f"{count}.jsonl", ({"inputs": f"{i:05}"} for i in range(count)))
        tracemalloc.start()
        how = Answering(decoding=Decoding(1))
        assert infer(model, source, tmp_path / f"{count}.out.jsonl", how) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]

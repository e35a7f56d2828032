import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.errors import UserError

PROMPT = np.arange(300, 303)
INFO = data.TaskInfo(separator="|", shot_template="{inputs}>{targets}")


@pytest.fixture(scope="module")
def task(text_task):
    train = [(f"i{n}", "t") for n in range(30)]
    alphabet = string.ascii_letters + string.digits
    return text_task(train, [(alphabet[: 3 * n], "t") for n in range(20)], info=INFO)


def text(tokens):
    return data.byte().decode(tokens[tokens < 259].tolist())


@settings(deadline=None, max_examples=50)
@given(st.integers(4, 90), st.integers(0, 5), st.booleans())
def test_no_row_is_lost(task, input_length, shots, prompt):
    prompt_ids = PROMPT if prompt else None
    found = data.eval_set(task, "validation", shots, data.byte(), 259, prompt_ids, input_length)
    whole = data.eval_set(task, "validation", shots, data.byte(), 259, prompt_ids, 1000)
    assert whole.too_long == 0
    assert found.examples == data.load_examples(task, "validation")
    changed, shots_left = 0, []
    for tokens, full, example in zip(found.tokens, whole.tokens, found.examples, strict=True):
        assert len(tokens) <= input_length
        assert tokens.dtype == np.int32
        assert tokens[-1] == 1
        assert (tokens[:3] == PROMPT).all() if prompt else (tokens < 300).all()
        *kept, question = text(tokens).split("|")
        assert kept == text(full).split("|")[: len(kept)]  # the last shots went first
        if question != example.inputs:
            assert not kept  # tokens go only when no shot is left
            assert len(tokens) == input_length  # and no more than must
            end = min(15, (input_length - 3 * prompt) // 2 - 1)  # with EOS 16, or half
            assert example.inputs.startswith(question[: len(question) - end])
            assert end <= 0 or question[-end:] == example.inputs[-end:]
        shots_left.append(len(kept))
        changed += not np.array_equal(tokens, full)
    assert found.too_long == changed
    assert found.mean_shots == pytest.approx(np.mean(shots_left))


def test_limit_seed_and_shots(task):
    def make(shots=2, limit=None, seed=0):
        return data.eval_set(task, "validation", shots, data.byte(), 259, None, 99, limit, seed)

    assert len(make(limit=5).tokens) == 5
    assert make().tokens[7].tolist() == make(limit=8).tokens[7].tolist()
    assert make().tokens[7].tolist() != make(seed=1).tokens[7].tolist()
    two, three = text(make(2).tokens[3]).split("|"), text(make(3).tokens[3]).split("|")
    assert three[:2] == two[:2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "no split 'test'"),
        ({"shots": 31}, "shots=31"),
        ({"shots": -1}, "shots=-1"),
        ({"vocab_size": 100}, "vocab_size=100"),
        ({"prompt_ids": np.arange(300, 310), "input_length": 10}, "10 tokens.*input_length=10"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_errors(task, arguments, message):
    usual = {
        "split": "validation", "shots": 0, "vocabulary": data.byte(), "vocab_size": 259,
        "prompt_ids": None, "input_length": 99,
    }  # fmt: skip
    with pytest.raises(UserError, match=message):
        data.eval_set(task, **(usual | arguments))

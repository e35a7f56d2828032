"""Generation: cached equals uncached, beams, sampling, EOS, and a prompt a row."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tiny_models import batch_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import Decoding, nested, stack_layers
from promot_jax.models.model import START
from tests.t5_batches import all_answers, answers, segments_of, with_segments

LENGTH = 7
EOS = 1


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def variables(model):
    """Random ones whose head is sharpened, so that rows differ and some end."""
    variables = variables_of(model)
    head = variables["params/decoder/logits_dense/kernel"]
    return variables | {"params/decoder/logits_dense/kernel": 3 * head}


@pytest.fixture(scope="module")
def inputs():
    names = ["first", None, "second", None, "first", "second"]
    return batch_of(rows=6, inputs=10, prompts=names)["encoder_input_tokens"]


@pytest.fixture(scope="module")
def run(model):
    """(variables, inputs, decoding) -> ids and scores, compiled once for each decoding."""
    return jax.jit(functools.partial(answers, model), static_argnums=2)


@pytest.fixture(scope="module")
def greedy(run, variables, inputs):
    return tuple(map(np.asarray, run(variables, inputs, Decoding(LENGTH))))


def by_full_forward(model, variables, inputs):
    """Greedy search that computes everything anew for every token."""

    @jax.jit
    def logits(previous):
        batch = with_segments({"encoder_input_tokens": inputs, "decoder_input_tokens": previous})
        return jax.nn.log_softmax(model.apply(nested(variables), batch))

    ids = np.zeros((len(inputs), LENGTH + 1), np.int32)
    scores, done = np.zeros(len(inputs)), np.zeros(len(inputs), bool)
    for i in range(LENGTH):
        now = np.asarray(logits(ids[:, :LENGTH]))[:, i]
        token = now.argmax(-1)
        scores += np.where(done, 0, now.max(-1))
        ids[:, i + 1] = np.where(done, 0, token)
        done |= token == EOS
    return ids[:, 1:], scores


def test_the_cache_changes_nothing(model, variables, inputs, greedy):
    ids, scores = by_full_forward(model, variables, inputs)
    np.testing.assert_array_equal(greedy[0], ids)
    np.testing.assert_allclose(greedy[1], scores, rtol=1e-4)


def test_scanned_layers_change_nothing(variables, inputs, greedy):
    model = tiny(scan_layers=True)
    ids, scores = jax.jit(lambda v: answers(model, v, inputs, Decoding(LENGTH)))(
        stack_layers(variables)
    )
    np.testing.assert_array_equal(ids, greedy[0])
    np.testing.assert_allclose(scores, greedy[1], rtol=1e-4)


def test_each_row_is_answered_alone(run, variables, inputs, greedy):
    """Whatever its neighbours' prompts are and however long they are."""
    for row in range(3):
        alone = np.repeat(inputs[row : row + 1], len(inputs), axis=0)
        np.testing.assert_array_equal(run(variables, alone, Decoding(LENGTH))[0][0], greedy[0][row])
    bare = np.where(inputs[:1] >= 64, 3, inputs[:1])
    assert not np.array_equal(
        run(variables, np.repeat(bare, 6, axis=0), Decoding(LENGTH))[1][0], greedy[1][0]
    )


@pytest.fixture(scope="module")
def ending(variables):
    """Variables that make EOS likely."""
    head = np.array(variables["params/decoder/logits_dense/kernel"])
    head[:, EOS] *= 3
    return variables | {"params/decoder/logits_dense/kernel": head}


def test_after_eos_comes_padding(run, ending, inputs):
    ids = np.asarray(run(ending, inputs, Decoding(LENGTH))[0])
    ends = [list(row).index(EOS) for row in ids if EOS in row]
    assert ends and min(ends) < LENGTH - 1
    for row in ids:
        if EOS in row:
            assert not row[list(row).index(EOS) + 1 :].any()


def test_beam_search_finds_the_best(model, ending, inputs):
    """With as many beams as there are prefixes, nothing is better than what it finds."""
    decoding = Decoding(2, beams=64, length_penalty=0.0)
    ids, scores = jax.jit(lambda v: all_answers(model, v, inputs, decoding))(ending)
    exhaustive = best_of_all(model, ending, inputs)
    np.testing.assert_allclose(scores[:, 0], exhaustive, rtol=1e-4)
    assert np.all(np.diff(scores, axis=1) <= 1e-6)  # best first
    assert all(EOS in row for row in ids[:, 0])


def best_of_all(model, variables, inputs):
    """The best log-probability of an output of at most two tokens that ends."""

    @jax.jit
    def logits(previous):
        batch = with_segments({"encoder_input_tokens": inputs, "decoder_input_tokens": previous})
        return jax.nn.log_softmax(model.apply(nested(variables), batch))

    best = np.full(len(inputs), -np.inf)
    for token in range(64):
        previous = np.tile(np.array([0, token], np.int32), (len(inputs), 1))
        found = np.asarray(logits(previous))
        two = found[:, 0, token] + found[:, 1, EOS]
        best = np.maximum(best, found[:, 0, EOS] if token == EOS else two)
    return best


def test_more_beams_are_never_worse(run, ending, inputs):
    scores = [
        np.asarray(run(ending, inputs, Decoding(4, beams=n, length_penalty=0.0))[1]) for n in (2, 6)
    ]
    assert np.all(scores[1] >= scores[0] - 1e-5)


def test_one_beam_is_greedy(model, variables, inputs, greedy):
    from promot_jax.models import decoding as room

    settings = Decoding(LENGTH, length_penalty=0.0)

    @jax.jit
    def one_beam(variables):
        tree = nested(variables)
        _, cache, kept = model.apply(tree, inputs, segments_of(inputs), LENGTH, method="prefill")
        step = lambda *now: model.apply(tree, now[0], now[1], kept, now[2], method="decode_step")  # noqa: E731
        logits, cache = step(np.full(len(inputs), START), cache, 0)
        return room._beam_search(step, lambda ids: ids == EOS, logits, cache, settings)

    ids, _ = one_beam(variables)
    unfinished = [EOS not in row for row in greedy[0]]
    np.testing.assert_array_equal(ids[unfinished, 0], greedy[0][unfinished])


def test_sampling_from_one_is_greedy(run, variables, inputs, greedy):
    for changes in ({"top_k": 1}, {"top_p": 1e-6}):
        ids, scores = run(variables, inputs, Decoding(LENGTH, temperature=0.7, **changes))
        np.testing.assert_array_equal(ids, greedy[0])
        np.testing.assert_allclose(scores, greedy[1], rtol=1e-4)


def test_seeds(run, variables, inputs):
    settings = Decoding(LENGTH, temperature=1.0)
    first, again = (np.asarray(run(variables, inputs, settings)[0]) for _ in range(2))
    other = run(variables, inputs, dataclasses.replace(settings, seed=1))[0]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_samples_depend_on_the_number_of_a_row_alone(model, variables, inputs):
    """So on no batch: the same in another order, and different for equal inputs."""
    sample = Decoding(LENGTH, temperature=2.0)
    draw = jax.jit(lambda inputs, rows: answers(model, variables, inputs, sample, rows)[0])
    numbers = np.arange(7, 7 + len(inputs))
    straight, turned = draw(inputs, numbers), draw(inputs[::-1], numbers[::-1])
    np.testing.assert_array_equal(straight, turned[::-1])
    alike = np.asarray(draw(np.repeat(inputs[:1], len(inputs), axis=0), numbers))
    assert len({tuple(row) for row in alike}) > 1


UNEQUAL, EQUAL = (0.5, 0.3, 0.15, 0.05), (0.25, 0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("probabilities", "changes", "allowed"),
    [
        (UNEQUAL, {"top_k": 2}, {0, 1}),
        (UNEQUAL, {"top_p": 0.75}, {0, 1}),
        (UNEQUAL, {"top_p": 0.6}, {0, 1}),
        (UNEQUAL, {"top_p": 0.4}, {0}),
        (UNEQUAL, {"top_k": 3, "top_p": 0.8}, {0, 1}),  # 0.53, 0.32, 0.16 among these
        (EQUAL, {"top_k": 2}, {0, 1}),
        (EQUAL, {"top_p": 0.5}, {0, 1}),
    ],
)
def test_what_may_be_sampled(probabilities, changes, allowed):
    """As few of the likeliest as hold top_p; of equals the first."""
    from promot_jax.models.decoding import _choose

    logits = np.tile(np.log(probabilities).astype(np.float32), (400, 1))
    drawn = _choose(
        logits,
        jax.random.split(jax.random.key(0), len(logits)),
        Decoding(temperature=1.0, **changes),
    )
    assert set(np.asarray(drawn)) == allowed


def test_temperature():
    from promot_jax.models.decoding import _choose

    logits = np.tile(np.log([0.5, 0.3, 0.2]).astype(np.float32), (3000, 1))
    shares = []
    for temperature in (0.5, 1.0, 5.0):
        keys = jax.random.split(jax.random.key(0), len(logits))
        drawn = _choose(logits, keys, Decoding(temperature=temperature))
        shares.append(np.mean(np.asarray(drawn) == 0))
    expected = [
        p[0] ** (1 / t) / sum(q ** (1 / t) for q in p)
        for p, t in [((0.5, 0.3, 0.2), t) for t in (0.5, 1.0, 5.0)]
    ]
    np.testing.assert_allclose(shares, expected, atol=0.04)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 0}, "Decoding.max_length = 0"),
        ({"beams": 0}, "Decoding.beams = 0"),
        ({"temperature": -1.0}, "Decoding.temperature = -1.0"),
        ({"top_k": -1}, "Decoding.top_k = -1"),
        ({"top_p": 0.0}, "Decoding.top_p = 0.0"),
        ({"beams": 2, "temperature": 1.0}, "Decoding.beams = 2 with temperature"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        Decoding(**changes)

"""Soft prompts as extra token ids: the same as vectors in front, and gone where left out."""

import jax
import numpy as np
import pytest
from tiny_models import IDS, PROMPTS, VOCAB, batch_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import (
    Prompt,
    class_labels,
    from_file,
    from_text,
    init_prompts,
    loss,
    nested,
    prompt_ids,
    random_uniform,
    sampled_vocabulary,
)
from promot_jax.models.t5 import same_segment
from tests.t5_batches import with_segments


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def variables(model):
    return variables_of(model)


@pytest.fixture(scope="module")
def logits(model):
    return jax.jit(lambda variables, batch: model.apply(nested(variables), batch))


def by_hand(model, variables, batch, vectors):
    """Logits with vectors [rows, length, embed] concatenated in front of the embedded inputs."""

    def apply(module, batch):
        inputs, targets = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
        x = jax.numpy.concatenate([vectors, module.embed(inputs)], axis=1)
        real = jax.numpy.pad((inputs > 0).astype(int), ((0, 0), (vectors.shape[1], 0)))
        real = real.at[:, : vectors.shape[1]].set(1)
        encoded = module.encoder(x, same_segment(real, real), None)
        length = targets.shape[1]
        causal = jax.numpy.tril(jax.numpy.ones((length, length), bool))[None, None]
        cross = same_segment(jax.numpy.ones_like(targets), real)
        hidden, _ = module.decoder(module.embed(targets), encoded, causal, cross, None)
        return module.logits(hidden)

    return jax.jit(lambda v, b: model.apply(nested(v), b, method=apply))(variables, batch)


def in_front(batch, names):
    """The batch with each row's prompt in front of its inputs."""
    soft = np.stack([IDS[name] for name in names])
    tokens = np.concatenate([soft, batch["encoder_input_tokens"]], axis=1)
    return with_segments(batch | {"encoder_input_tokens": tokens})


@pytest.mark.parametrize("name", IDS)
def test_ids_equal_vectors_in_front(model, variables, logits, name):
    batch = batch_of()
    vectors = np.tile(variables[f"prompt/{name}"], (3, 1, 1))
    expected = by_hand(model, variables, batch, vectors)
    ours = logits(variables, in_front(batch, [name] * 3))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(ours, logits(variables, batch), atol=1e-2)


def test_left_out_they_are_gone(model, variables, logits):
    batch = batch_of()
    bare, without = tiny(prompts=()), {k: v for k, v in variables.items() if k[:6] == "params"}
    expected = jax.jit(lambda v: bare.apply(nested(v), batch))(without)
    np.testing.assert_array_equal(logits(variables, batch), expected)


def test_each_row_has_its_own(variables, logits):
    """Rows with either prompt and with none in one batch: each as in a batch of its own kind."""
    names = ["first", None, "second"]
    mixed = batch_of(inputs=11, prompts=names)
    together = np.asarray(logits(variables, mixed))
    for row in range(3):
        alone = {key: np.repeat(value[row : row + 1], 3, axis=0) for key, value in mixed.items()}
        np.testing.assert_allclose(logits(variables, alone)[0], together[row], atol=1e-5)
    ids = mixed["encoder_input_tokens"]
    assert [(row >= VOCAB).sum() for row in ids] == [3, 0, 2]


def test_only_the_rows_used_have_a_gradient(model, variables):
    batch = batch_of(inputs=11, prompts=["second"] * 3)
    prompts = {path: x for path, x in variables.items() if path.startswith("prompt/")}
    gradients = jax.jit(jax.grad(lambda p: loss(model, variables | p, batch)[0]))(prompts)
    assert np.all(gradients["prompt/first"] == 0)
    assert np.all(np.abs(gradients["prompt/second"]).sum(axis=1) > 0)


def test_ids_follow_the_order_of_declaration():
    assert {name: list(ids) for name, ids in IDS.items()} == {
        "first": [VOCAB, VOCAB + 1, VOCAB + 2],
        "second": [VOCAB + 3, VOCAB + 4],
    }
    with pytest.raises(UserError, match="two prompts are named 'first'"):
        prompt_ids([*PROMPTS, PROMPTS[0]], VOCAB)


@pytest.mark.parametrize("length", [0, -1, 1.5])
def test_a_prompt_has_a_length(length):
    with pytest.raises(UserError, match="Prompt.length"):
        Prompt("p", length)


class Words:
    """Every word is its own length as an id."""

    def encode(self, text):
        return [len(word) for word in text.split()]


EMBEDDING = np.arange(40, dtype=np.float32).reshape(10, 4)


def draw(initializer, length, key=0):
    return np.asarray(initializer(jax.random.key(key), EMBEDDING, length))


def test_sampled_vocabulary():
    rows = draw(sampled_vocabulary(top=5), 5)
    assert sorted(rows[:, 0] // 4) == [0, 1, 2, 3, 4]  # each at most once, and only the first ids
    assert draw(sampled_vocabulary(top=5), 12).shape == (12, 4)  # more than there are: repeated
    np.testing.assert_array_equal(draw(sampled_vocabulary(), 5), draw(sampled_vocabulary(), 5))
    assert not np.array_equal(draw(sampled_vocabulary(), 5), draw(sampled_vocabulary(), 5, key=1))


def test_random_uniform():
    rows = draw(random_uniform(0.1), 50)
    assert rows.shape == (50, 4) and np.abs(rows).max() <= 0.1 and np.abs(rows).max() > 0.08


def test_from_text_is_repeated():
    rows = draw(from_text("a bbb", Words()), 5)
    np.testing.assert_array_equal(rows, EMBEDDING[[1, 3, 1, 3, 1]])
    with pytest.raises(UserError, match="has no token"):
        from_text("", Words())


def test_class_labels_come_first():
    labels = class_labels(["a bbb", "cc"], Words())
    rows = draw(labels, 4)
    np.testing.assert_array_equal(rows[:2], [EMBEDDING[[1, 3]].mean(axis=0), EMBEDDING[2]])
    assert all(any(np.array_equal(row, known) for known in EMBEDDING) for row in rows[2:])
    assert draw(labels, 1).shape == (1, 4)  # shorter than the labels
    with pytest.raises(UserError, match="at least one token"):
        class_labels(["a", ""], Words())


def test_from_file(tmp_path):
    path = tmp_path / "prompt.npy"
    np.save(path, EMBEDDING[:3])
    np.testing.assert_array_equal(draw(from_file(str(path)), 3), EMBEDDING[:3])
    with pytest.raises(UserError, match="set Prompt.length to 3"):
        draw(from_file(str(path)), 5)
    with pytest.raises(UserError, match="no readable .npy file"):
        from_file(str(tmp_path / "absent.npy"))


def test_prompts_draw_from_keys_of_their_own():
    prompts = [Prompt("a", 3, random_uniform()), Prompt("b", 3, random_uniform())]
    drawn = init_prompts(jax.random.key(0), EMBEDDING, prompts)
    assert not np.array_equal(drawn["a"], drawn["b"])

"""How far a run went: each number against NumPy, or against another way to the same one."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bench.forgetting import drift, noise
from promot_jax.data import eval_set
from promot_jax.run import LanguageModel
from tasks import lab  # noqa: F401  (registers its tasks)

BASE = "promot_jax/assets/lab/base"


@pytest.fixture(scope="module")
def models():
    """The lab's base, and one whose head was moved."""
    first, moved = LanguageModel(BASE), LanguageModel(BASE)
    head = next(path for path in moved.variables if "logits" in path)
    change = np.random.default_rng(0).normal(scale=0.3, size=moved.variables[head].shape)
    moved.variables = dict(moved.variables) | {head: moved.variables[head] + jnp.float32(change)}
    return first, moved


def test_kl_is_the_sum_over_the_vocabulary(models):
    """The distribution of an answer's first token, token by token, as `score_ids` gives it."""
    first, moved = models
    inputs = [first.encode(text, None) for text in ("say: Nora Hugo", "Q: where is Velm? A:")]
    size = first.description.model.vocab_size
    every = [np.array([token], np.int32) for token in range(size)]

    def log_p(model):
        return np.array([
            [found.log_likelihood for found in model.score_ids([ids] * size, every, 256)]
            for ids in inputs
        ])  # fmt: skip

    p0, p = log_p(first), log_p(moved)
    expected = np.mean(np.sum(np.exp(p0) * (p0 - p), axis=1))
    pairs = (inputs, [np.array([5], np.int32)] * 2)
    found = drift.divergence(moved, first.variables, moved.variables, pairs, pairs)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 0.01
    same = drift.divergence(first, first.variables, first.variables, pairs, pairs)
    assert same == pytest.approx(0, abs=1e-6)


def test_distance_and_share_of_what_changed(models):
    first, moved = models
    before = {path: np.asarray(x) for path, x in first.variables.items()}
    after = {path: np.asarray(x) for path, x in moved.variables.items()}
    square = lambda arrays: sum(float((x.astype(float) ** 2).sum()) for x in arrays)  # noqa: E731
    expected = (square(after[p] - before[p] for p in before) / square(before.values())) ** 0.5
    found = drift.distances(first.variables, moved.variables)
    assert found["distance"] == pytest.approx(expected, rel=1e-4)
    head = next(x.size for path, x in before.items() if "logits" in path)
    assert found["changed"] == pytest.approx(head / sum(x.size for x in before.values()))


def test_noise_is_of_the_prompts_size_and_nothing_where_all_is_kept():
    prompt = jnp.asarray(np.random.default_rng(0).normal(scale=3, size=(20, 96)), jnp.float32)
    change = noise.noise(seed=1)
    kept = {share: change(prompt, prompt, jnp.float32(share), None) for share in (1.0, 0.9, 0.5)}
    assert (kept[1.0] == prompt).all()
    sizes = {share: float(jnp.std(x - prompt)) for share, x in kept.items()}
    assert sizes[0.5] == pytest.approx(3.0, rel=0.05)
    assert sizes[0.9] == pytest.approx(0.6, rel=0.05)
    np.testing.assert_allclose((kept[0.9] - prompt) * 5, kept[0.5] - prompt, rtol=1e-3, atol=1e-5)
    assert not (noise.noise(seed=2)(prompt, prompt, jnp.float32(0.5), None) == kept[0.5]).any()


def test_what_is_taken_away_is_the_base(models):
    """LoRA that is left on the target alone."""
    first, _ = models
    variables = dict(first.variables) | {"lora/decoder/layers_0/mlp/wo/b": jnp.ones((2, 3))}
    without = drift.without_lora(variables)
    assert not without.pop("lora/decoder/layers_0/mlp/wo/b").any()
    assert without == dict(first.variables)


def test_what_is_in_the_weights_is_asked_without_a_prompt(models):
    """As `generate` answers the same rows."""
    for model, task in zip(models, ("lab_qa", "lab_translate_zorvian"), strict=True):
        config = model.description.model
        rows = eval_set(
            task, "test", 0, model.vocabulary, config.vocab_size, None, 512, 200
        ).examples
        answers = model.generate([row.inputs for row in rows])
        right = np.mean([a == row.targets for a, row in zip(answers, rows, strict=True)])
        assert drift.plain_score(model, model.variables, task) == pytest.approx(right, abs=0.011)
        assert right > 0


def test_sums_of_a_log_count_every_update(tmp_path):
    lines = [
        {"step": 2, "learning_rate": 0.1, "loss": 4.0, "seconds": 1.0},
        {"step": 4, "learning_rate": 0.1, "loss": 1.0, "seconds": 2.0},
        {"step": 5, "learning_rate": 0.2, "loss": 0.25, "seconds": 3.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("1-prompt", "2-model", "10-wise_ft"):
        (tmp_path / name).mkdir()
        log = text if name != "10-wise_ft" else ""
        (tmp_path / name / "metrics.jsonl").write_text(log, encoding="utf-8")
    found = drift.of_log(drift.last_training(tmp_path))
    assert found["rate_sqrt_loss"] == pytest.approx(2 * 0.1 * 2 + 2 * 0.1 * 1 + 0.2 * 0.5)
    assert (found["updates"], found["seconds"]) == (5, 3.0)
    assert drift.last_training(tmp_path).name == "2-model"

"""LoRA in the models and in training: its formula, its beginning, removed, scaled and merged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import (
    DECODER,
    T5,
    Trainer,
    both_kinds,
    copies,
    descent,
    loss_of,
    tiny,
    variables_of,
)

from promot_jax.errors import UserError
from promot_jax.models import Lora, T5Config, abstract, init_lora, nested, stack_layers
from promot_jax.models.layers import Dense
from promot_jax.models.lora import merged, paths_of, removed, scaled
from promot_jax.training import Part

LORA = Lora(4, 6.0)
KERNEL = {
    T5: "params/decoder/layers_0/encoder_decoder_attention/value/kernel",
    DECODER: "params/decoder/layers_1/mlp/wo/kernel",
}


@pytest.fixture(scope="module")
def model(kind):
    return tiny(kind, lora=LORA)


@pytest.fixture(scope="module")
def variables(model):
    return variables_of(model)


def changed(before, after) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_a_layer_is_the_formula():
    rng = np.random.default_rng(0)
    x, w, a, b = (rng.normal(size=s).astype("f") for s in ((2, 3, 5), (5, 7), (5, 4), (4, 7)))
    sizes = {"vocab_size": 8, "emb_dim": 5, "num_heads": 1, "head_dim": 5, "mlp_dim": 7}
    config = T5Config(num_encoder_layers=1, num_decoder_layers=1, lora=LORA, **sizes)
    layer = Dense(config, 7, ("embed", "mlp"))
    y = layer.apply({"params": {"kernel": w}, "lora": {"a": a, "b": b}}, x)
    np.testing.assert_allclose(y, x @ w + 6.0 / 4 * (x @ a) @ b, rtol=1e-5, atol=1e-5)


def hidden_of(model, variables, batch):
    def both(module):
        return module.hidden(batch), module.head()

    return np.asarray(jax.jit(lambda v: model.apply(nested(v), method=both)[0])(variables))


@both_kinds
def test_in_the_layers_or_merged(model, variables, batches, kind):
    """The model computes W + s (alpha / rank) A B, unrolled and scanned."""
    batch, plain = batches(0), tiny(kind)
    kernel = KERNEL[kind]
    a, b = (np.asarray(variables[path], "f8") for path in paths_of(kernel))
    for s in (1.0, 0.5):
        whole = merged(variables, LORA, s)
        assert changed(removed(variables), whole) == {
            path for path in whole if "/layers_" in path and path.endswith("/kernel")
        }
        expected = np.asarray(variables[kernel], "f8") + s * 1.5 * a @ b
        np.testing.assert_allclose(whole[kernel], expected, rtol=1e-5, atol=1e-6)
        found = hidden_of(model, scaled(variables, s), batch)
        np.testing.assert_allclose(found, hidden_of(plain, whole, batch), rtol=1e-3, atol=1e-4)
    scan = dataclasses.replace(model.config, scan_layers=True, remat=True)
    stacked = stack_layers(variables)
    again = merged(stacked, LORA)
    assert changed(again, stack_layers(merged(variables, LORA))) <= set(again)
    np.testing.assert_allclose(
        hidden_of(model.clone(config=scan), stacked, batch),
        hidden_of(model, variables, batch), rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@both_kinds
def test_removed_it_is_the_model_as_it_was(model, variables, batches, kind):
    """The same variables bit by bit, and the same program: what is off costs nothing."""
    for found in (scaled(variables, 0), merged(variables, LORA, 0)):
        assert found.keys() == abstract(tiny(kind)).keys()
        assert all(found[path] is variables[path] for path in found)
    batch, programs = jax.tree.map(jnp.asarray, batches(0)), set()
    for lora in (None, LORA):
        each = tiny(kind, lora=lora, scan_layers=kind == T5)
        shapes = removed(abstract(each))
        loss = jax.value_and_grad(lambda v, each=each: loss_of(each)(v, batch, None)[0])
        programs.add(jax.jit(loss).lower(shapes).as_text())
    assert len(programs) == 1


@pytest.mark.parametrize("kind", [DECODER], indirect=True)
def test_it_begins_as_the_model_and_is_trained_alone(model, batches, kind):
    drawn = init_lora(model, jax.random.key(3))
    assert drawn.keys() == {path for path in abstract(model) if path.startswith("lora/")}
    for path, x in drawn.items():
        if path.endswith("/b"):
            assert not np.any(x)
        else:
            bound = x.shape[0] ** -0.5
            assert np.abs(x).max() <= bound and 0.8 < np.std(x) * 3**0.5 / bound < 1.2
    assert len({float(x.sum()) for path, x in drawn.items() if path.endswith("/a")}) > 5
    scanned = init_lora(tiny(kind, lora=LORA, scan_layers=True), jax.random.key(3))
    assert not changed(stack_layers(drawn), scanned)

    variables = variables_of(tiny(kind)) | drawn
    before = copies(variables)
    batch = batches(0)
    np.testing.assert_array_equal(
        hidden_of(model, variables, batch), hidden_of(tiny(kind), removed(variables), batch)
    )
    trainer = Trainer(model, variables, [Part("lora", 0.1, descent)])
    losses = [trainer.step(batch)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    assert changed(before, copies(trainer.state.trained | trainer.frozen)) == set(drawn)
    assert trainer.state.trained.keys() == drawn.keys()


def test_targets():
    """Patterns name kernels of layers; with scanned layers, those of all layers alike."""
    chosen = Lora(2, targets=["params/encoder", "params/*/query/kernel"])
    model = tiny(lora=chosen)
    found = {path for path in abstract(model) if path.startswith("lora/")}
    assert {path.split("/")[1] for path in found} == {"encoder", "decoder"}
    decoder = {path for path in found if path.startswith("lora/decoder")}
    assert decoder == {
        f"lora/decoder/layers_0/{attention}/query/{which}"
        for attention in ("self_attention", "encoder_decoder_attention")
        for which in "ab"
    }
    assert not any("logits" in path or "embed" in path for path in found)


def test_it_is_float32_beside_a_model_in_bfloat16():
    model = tiny(DECODER, lora=LORA, param_dtype="bfloat16", dtype="bfloat16")
    shapes = abstract(model)
    kinds = {path.split("/")[0]: set() for path in shapes}
    for path, leaf in shapes.items():
        kinds[path.split("/")[0]].add(str(leaf.dtype))
    assert kinds == {"params": {"bfloat16"}, "prompt": {"float32"}, "lora": {"float32"}}
    whole = jax.eval_shape(lambda v: merged(v, LORA), shapes)
    assert whole == removed(shapes)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank": 0}, "Lora.rank = 0: set a positive whole number"),
        ({"rank": 2.0}, "Lora.rank = 2.0: set a whole number"),
        ({"rank": 33}, r"Lora.rank = 33 is more than .*kernel can be \(32 x .*set at most 32"),
        ({"alpha": 0.0}, "Lora.alpha = 0.0: set a number above 0"),
        ({"targets": []}, r"Lora.targets = \(\): name"),
        ({"targets": ["params/*/qury/kernel"]}, "'params/.*/qury/kernel' matches no kernel"),
        ({"targets": "params/encodr"}, "matches no kernel .*did you mean 'params/encoder'"),
        ({"targets": "params/token_embedder"}, "matches no kernel of a layer"),
        ({"targets": 3}, "Lora.targets = 3: set a list, each a text"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(UserError, match=says):
        abstract(tiny(lora=Lora(**{"rank": 2} | settings)))


def test_some_layers_of_a_scan():
    some = Lora(2, targets="params/decoder/layers_1")
    assert len([p for p in abstract(tiny(DECODER, lora=some)) if p.startswith("lora/")]) == 14
    with pytest.raises(UserError, match="leaves out params/decoder/layers_0/.*scan_layers = False"):
        abstract(tiny(DECODER, lora=some, scan_layers=True))

"""A step's arithmetic and time, against a count by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxlib import _hlo

from promot_jax.models import T5Config, build
from promot_jax.plan.chips import CHIPS, chip_of
from promot_jax.plan.costs import Collective, Cost, flops
from promot_jax.plan.hlo import Module
from promot_jax.plan.roofline import roofline
from promot_jax.run import Stage
from promot_jax.training import Part, assign, make_mesh
from promot_jax.training.loop import lower_step
from promot_jax.training.step import State, init_optimizer
from promot_jax.training.variables import Layout

LAYERS, EMBED, HEADS, WIDTH, MLP, VOCAB = 3, 128, 4, 32, 512, 1024
BATCH, INPUTS, TARGETS = 4, 96, 32


def lowered_step(pattern: str, **changes):
    """A step of a T5 on one device, not compiled."""
    config = T5Config(
        vocab_size=VOCAB, emb_dim=EMBED, num_heads=HEADS, head_dim=WIDTH, mlp_dim=MLP,
        num_encoder_layers=LAYERS, num_decoder_layers=LAYERS, logits_via_embedding=False,
        mlp_activations=("gelu", "linear"), dropout_rate=0.0, **changes,
    )  # fmt: skip
    model = build(config, [("target", 8)])
    mesh = make_mesh(devices=jax.devices()[:1])
    variables, parts = Layout(model, mesh).abstract(), [Part(pattern)]
    owner = assign(parts, variables)
    trained = {path: x for path, x in variables.items() if path in owner}
    place = SingleDeviceSharding(jax.devices()[0])
    at = lambda shape, kind: jax.ShapeDtypeStruct(shape, kind, sharding=place)  # noqa: E731
    key = jax.eval_shape(jax.random.key, 0).update(sharding=place)
    state = State(at((), jnp.int32), trained, {"0": init_optimizer(parts[0], trained)}, key)
    shapes = {"encoder_input_tokens": INPUTS, "encoder_segment_ids": INPUTS}
    shapes |= dict.fromkeys(("decoder_input_tokens", "decoder_target_tokens"), TARGETS)
    batch = {name: at((BATCH, length), jnp.int32) for name, length in shapes.items()}
    batch["decoder_loss_weights"] = at((BATCH, TARGETS), jnp.float32)
    frozen = {path: x for path, x in variables.items() if path not in owner}
    loss = Stage("model").loss(model)
    return lower_step(state, frozen, batch, loss=loss, parts=parts, owner=owner, accumulate=1)


def counted(lowered) -> float:
    module = lowered.compiler_ir("hlo").get_hlo_module()
    return flops(Module(module.to_string(_hlo.HloPrintOptions())))


def forward_by_hand() -> tuple[float, float]:
    """FLOPs of all matrix products of a forward pass: of the layers, and of the head."""
    joined = HEADS * WIDTH
    x, y = BATCH * INPUTS, BATCH * TARGETS
    projections, mlp = 4 * EMBED * joined, 3 * EMBED * MLP
    attention = lambda queries, keys: 2 * queries * keys * joined  # noqa: E731
    encoder = x * (projections + mlp) + BATCH * attention(INPUTS, INPUTS)
    decoder = y * (projections + mlp) + BATCH * attention(TARGETS, TARGETS)
    cross = (2 * y + 2 * x) * EMBED * joined + BATCH * attention(TARGETS, INPUTS)
    return 2 * LAYERS * (encoder + decoder + cross), 2 * y * EMBED * VOCAB


def test_a_step_is_three_forward_passes():
    """Of a product of two matrices each has a gradient, of the cost of the product. The rest, of
    norms, softmax and the optimizer, is little."""
    layers, head = forward_by_hand()
    found = counted(lowered_step("params", scan_layers=True))
    assert 3 * (layers + head) <= found <= 1.12 * 3 * (layers + head)


def test_a_frozen_model_costs_two_thirds():
    """It has no gradients of its own, and XLA leaves out what nobody asks for; the first layer's
    inputs need theirs, for the prompt's sake."""
    layers, head = forward_by_hand()
    found = counted(lowered_step("prompt", scan_layers=True))
    assert 2 * (layers + head) <= found <= 1.12 * 2 * (layers + head)


def test_the_time_is_that_of_the_longest():
    chip = CHIPS["v5e"]
    near = Collective("all-gather", 3, 2e9, 1e9, between_slices=False)
    far = Collective("all-reduce", 1, 5e6, 5e6, between_slices=True)
    found = roofline(Cost(197e12 / 4, 819e9 / 8, (near, far)), chip)
    np.testing.assert_allclose(
        [found.compute, found.hbm, found.interconnect, found.network],
        [0.25, 0.125, 0.01, 5e6 / 3.125e9],
    )
    assert found.bound == "compute" and found.total == found.compute
    assert roofline(Cost(1e9, 819e9, (near,)), chip).bound == "hbm"
    assert roofline(Cost(1e9), CHIPS["h100"]).bound == "compute"


def test_every_chip_says_where_it_stands():
    for chip in CHIPS.values():
        assert chip.source.startswith("https://")
        assert all(chip.has(shape) for shape in chip.shapes)
    assert CHIPS["v4"].has("4x8x12") and not CHIPS["v4"].has("4x8x10")
    assert not CHIPS["v5e"].has("32x32") and not CHIPS["v4"].has("64x64x64")


def test_chips_are_known_by_what_jax_calls_them():
    kinds = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert len(set(kinds)) == len(kinds) and all(chip.kinds for chip in CHIPS.values())
    assert chip_of("NVIDIA H200") is CHIPS["h200"] and chip_of("TPU v5 lite") is CHIPS["v5e"]
    assert chip_of("cpu") is chip_of("NVIDIA H100 PCIe") is None

"""A tiny decoder on one device and on eight; run as a program, it prints what both computed."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from promot_jax import training
from promot_jax.models import (
    DecoderConfig,
    abstract,
    attention,
    build,
    logical_axes,
    loss,
    nested,
    stack_layers,
)
from promot_jax.models.layout import canonical

VOCAB, PROMPT, INPUTS, TARGETS = 64, 2, 8, 6


def tiny(prompts=(("own", PROMPT),), **changes):
    """A Llama of three layers; `changes` are fields of its config."""
    sizes = {"vocab_size": VOCAB, "emb_dim": 16, "num_heads": 4, "num_kv_heads": 2}
    sizes |= {"num_layers": 3, "head_dim": 8, "mlp_dim": 32, "max_position_embeddings": 64}
    return build(DecoderConfig(**(sizes | changes)), prompts)


def variables_of(model, seed=0):
    """Random variables, those of scanned layers the unrolled ones stacked."""
    rng, drawn = np.random.default_rng(seed), {}
    for path, leaf in sorted(abstract(canonical(model)).items()):
        start = 1.0 if path.endswith("scale") and not model.config.norm_offset else 0.0
        spread = 0.3 if leaf.ndim < 2 else leaf.shape[0] ** -0.5
        spread = 1.0 if "prompt" in path or "embedding" in path else spread
        drawn[path] = jnp.asarray(rng.normal(start, spread, leaf.shape), leaf.dtype)
    return stack_layers(drawn) if model.config.scan_layers else drawn


def batch_of(rows=4, seed=0):
    """Rows of various lengths, as the layout of decoders makes them, with a prompt in front."""
    rng = np.random.default_rng(seed)
    batch = {
        "decoder_input_tokens": np.zeros((rows, INPUTS + TARGETS), np.int32),
        "decoder_target_tokens": np.zeros((rows, TARGETS), np.int32),
        "decoder_target_positions": np.zeros((rows, TARGETS), np.int32),
        "decoder_loss_weights": np.zeros((rows, TARGETS), np.float32),
    }
    for row in range(rows):
        inputs, targets = rng.integers(4, INPUTS), rng.integers(2, TARGETS)
        text = rng.integers(0, VOCAB, inputs + targets)
        text[:PROMPT] = VOCAB + np.arange(PROMPT)
        batch["decoder_input_tokens"][row, : len(text) - 1] = text[:-1]
        batch["decoder_target_tokens"][row, :targets] = text[inputs:]
        batch["decoder_target_positions"][row, :targets] = inputs - 1 + np.arange(targets)
        batch["decoder_loss_weights"][row, :targets] = 1
    return batch


def trained(model, devices: int, shape, steps=3):
    """Losses of a few steps of gradient descent, and logits of a step of decoding."""
    mesh = training.make_mesh(shape, jax.devices()[:devices])
    places = training.shardings(mesh, abstract(model), logical_axes(model))
    variables = {p: jax.device_put(x, places[p]) for p, x in variables_of(model).items()}
    batch = training.place_batch(mesh, batch_of(), 4)
    tokens = batch_of()["decoder_input_tokens"][:, :INPUTS]
    segments = (np.arange(INPUTS) < np.array([[8], [5], [3], [8]])).astype(np.int32)

    def step(variables):
        value, gradients = jax.value_and_grad(lambda v: loss(model, v, batch)[0] / 20)(variables)
        return jax.tree.map(lambda x, g: x - 0.05 * g, variables, gradients), value

    def decode(variables):
        variables = nested(variables)
        first, cache, kept = model.apply(variables, tokens, segments, 3, method="prefill")
        token = jnp.argmax(first, axis=-1)
        second, cache = model.apply(
            variables, token, cache, kept, jnp.int32(1), method="decode_step"
        )
        return jnp.stack([first, second])

    losses = []
    with training.use(mesh):
        program = jax.jit(step, out_shardings=(places, None)).lower(variables).compile()
        logits = jax.jit(decode)(variables)
        for _ in range(steps):
            variables, value = program(variables)
            losses.append(float(value))
    return {"losses": losses, "logits": np.asarray(logits).tolist()}, variables


def kv_heads(model) -> int:
    """On how many devices along `tensor` a query's keys are cut."""
    mesh = training.make_mesh({"fsdp": 4, "tensor": 2})
    variables, tokens = variables_of(model), batch_of()["decoder_input_tokens"]

    def keys(variables):
        _, _, kept = model.apply(nested(variables), tokens, tokens * 0 + 1, 3, method="prefill")
        return kept["layers"][0]["key"]

    with training.use(mesh):
        made = jax.jit(keys)(variables)
    return made.shape[1] // made.sharding.shard_shape(made.shape)[1]


def main() -> None:
    cases = {
        "one kv head": tiny(num_kv_heads=1),
        "uneven heads": tiny(num_heads=3, num_kv_heads=3, qk_norm="width"),
        "even heads": tiny(),
        "scanned": tiny(
            num_kv_heads=1, layer_types=("local", "global"), sliding_window=3, scan_layers=True
        ),
    }
    found, mesh = {}, {"fsdp": 4, "tensor": 2}
    for name, model in cases.items():
        one, _ = trained(model, 1, {"data": 1})
        eight, variables = trained(model, 8, mesh)
        found[name] = [one, eight]
        if name == "even heads":
            layer = "params/decoder/layers_0/self_attention/"
            parts = {"query": f"{layer}query/kernel", "key": f"{layer}key/kernel"}
            parts |= {"out": f"{layer}out/kernel", "embedding": "params/token_embedder/embedding"}
            found["parts"] = {
                part: variables[path].addressable_shards[0].data.size / variables[path].size
                for part, path in parts.items()
            }
    attention.INTERPRET = True
    splash = tiny(attention="splash")
    plain = dataclasses.replace(splash.config, attention="xla")
    found["splash"] = [
        trained(build(plain, splash.prompts), 1, {"data": 1})[0],
        trained(splash, 8, mesh)[0],
    ]
    found["kv_heads"] = {name: kv_heads(cases[name]) for name in ("one kv head", "even heads")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Compiles programs of both kinds of models for meshes of 8 virtual devices, all in one process.

It prints, as JSON, what the compiled programs exchange and hold, and what decoding answers on one
device and on eight. Started by `test_shardings.py`, since the number of devices is fixed when JAX
starts. Sizes are such that no activation has the shape of a part of a matrix.
"""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
from tiny_training import DECODER, T5, descent, fine_tuning, variables_of

from promot_jax.models import (
    DecoderConfig,
    Decoding,
    T5Config,
    abstract,
    build,
    generate_all,
    loss,
    score,
)
from promot_jax.training import (
    assign,
    begin,
    make_mesh,
    place_batch,
    replicated,
    thaw,
    train_step,
    use,
)
from promot_jax.training.variables import Layout

ROWS, INPUTS, TARGETS, BEAMS = 8, 14, 6, 4
SIZES = {"vocab_size": 644, "emb_dim": 48, "mlp_dim": 80, "num_heads": 4, "head_dim": 10}
SIZES |= {"scan_layers": True}
CONFIGS = {
    T5: T5Config(num_encoder_layers=2, num_decoder_layers=2, dropout_rate=0.0, **SIZES),
    DECODER: DecoderConfig(num_layers=2, num_kv_heads=2, max_position_embeddings=64, **SIZES),
}
MESHES = {
    "one": {},
    "data": {"data": 8},
    "fsdp": {"fsdp": 8},
    "fsdp_tensor": {"fsdp": 4, "tensor": 2},
    "slice_fsdp": {"slice": 2, "fsdp": 4},
}
STEPS = [(T5, "data"), (T5, "fsdp_tensor"), (T5, "slice_fsdp")]
STEPS += [(DECODER, "fsdp"), (DECODER, "fsdp_tensor")]
SCORES = [(T5, "fsdp_tensor"), (DECODER, "fsdp")]
ANSWERS = [(T5, "fsdp_tensor", BEAMS), (DECODER, "fsdp", 1)]
COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)
ARRAY = re.compile(r"\b[a-z]+\d+\[([\d,]*)\]")


def batch_of(kind: str) -> dict[str, np.ndarray]:
    """Random tokens without padding."""
    rng = np.random.default_rng(0)
    ids = lambda length: rng.integers(2, 600, (ROWS, length), np.int32)  # noqa: E731
    batch = {"decoder_target_tokens": ids(TARGETS)}
    batch["decoder_loss_weights"] = np.ones((ROWS, TARGETS), np.float32)
    if kind == T5:
        batch["encoder_input_tokens"] = ids(INPUTS)
        batch["encoder_segment_ids"] = np.ones((ROWS, INPUTS), np.int32)
        return batch | {"decoder_input_tokens": ids(TARGETS)}
    places = np.tile(INPUTS - 1 + np.arange(TARGETS, dtype=np.int32), (ROWS, 1))
    return batch | {
        "decoder_input_tokens": ids(INPUTS + TARGETS),
        "decoder_target_positions": places,
    }


@functools.cache
def on(kind: str, name: str):
    """The model, its mesh, and variables and a batch that lie on it."""
    model = build(CONFIGS[kind])
    mesh = make_mesh(MESHES[name], jax.devices()[:1] if name == "one" else None)
    places = Layout(model, mesh).shardings()
    variables = {path: jax.device_put(x, places[path]) for path, x in variables_of(model).items()}
    return model, mesh, variables, place_batch(mesh, batch_of(kind), ROWS)


def step(kind: str, name: str):
    """A training step of all parameters, lowered."""
    model, mesh, variables, batch = on(kind, name)
    parts = fine_tuning(optimizer=descent)
    owner = assign(parts, variables)
    state, frozen = thaw(begin(mesh, 0), variables, parts, owner)
    settings = {"loss": functools.partial(loss, model), "parts": parts, "owner": owner}
    run = functools.partial(train_step, accumulate=1, **settings)
    places = jax.tree.map(lambda x: x.sharding, state)
    with use(mesh):
        return jax.jit(run, out_shardings=(places, None)).lower(state, frozen, batch)


def answers(kind: str, name: str, beams: int):
    """Decoding, lowered, and its inputs."""
    model, mesh, variables, batch = on(kind, name)
    inputs = batch.get("encoder_input_tokens", batch["decoder_input_tokens"])[:, :INPUTS]
    decoding = Decoding(TARGETS, beams=beams)

    def run(variables, inputs):
        return generate_all(model, variables, inputs, jnp.ones_like(inputs), decoding, (1,))

    with use(mesh):
        jitted = jax.jit(run, out_shardings=replicated(mesh))
        return jitted.lower(variables, inputs), (variables, inputs)


def scores(kind: str, name: str):
    """Scoring, lowered."""
    model, mesh, variables, batch = on(kind, name)
    with use(mesh):
        jitted = jax.jit(functools.partial(score, model), out_shardings=replicated(mesh))
        return jitted.lower(variables, batch)


def about(lowered) -> dict:
    """Constraints of a lowered program; what the compiled one exchanges and holds.

    An exchange is (whether it is part of a step of decoding, sizes of its arrays, 1s left out).
    """
    compiled = lowered.compile()
    exchanges = set()
    for line in compiled.as_text().splitlines():
        if found := COLLECTIVE.search(line):
            for sizes in ARRAY.findall(found["result"]):
                shape = tuple(int(size) for size in sizes.split(",") if size not in ("", "1"))
                exchanges.add(("decode_step" in line, shape))
    return {
        "constraints": lowered.as_text().count("sdy.sharding_constraint"),
        "exchanges": sorted(exchanges),
        "bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def decoded(kind: str, name: str, beams: int) -> dict:
    """`about` decoding, and its tokens on one device and on the mesh."""
    lowered, given = answers(kind, name, beams)
    one, given_one = answers(kind, "one", beams)
    ids = [program.compile()(*x)[0] for program, x in ((one, given_one), (lowered, given))]
    return about(lowered) | {"ids": [np.asarray(x).tolist() for x in ids]}


def main() -> None:
    assert jax.device_count() == 8
    shapes = {kind: [x.shape for x in abstract(build(CONFIGS[kind])).values()] for kind in CONFIGS}
    out = {"shapes": shapes}
    out["steps"] = {f"{kind} {name}": about(step(kind, name)) for kind, name in STEPS}
    out["scores"] = {f"{kind} {name}": about(scores(kind, name)) for kind, name in SCORES}
    out["answers"] = {" ".join(map(str, case)): decoded(*case) for case in ANSWERS}
    print(json.dumps(out))


if __name__ == "__main__":
    main()

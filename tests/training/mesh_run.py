"""Trains both kinds of models on several meshes of 8 virtual devices, all in one process.

It prints the losses as JSON. Started by `test_meshes.py`, since the number of devices is fixed
when JAX starts.
"""

import contextlib
import functools
import importlib
import io
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from tiny_training import (
    DECODER,
    T5,
    Trainer,
    batches_of,
    copies,
    descent,
    fine_tuning,
    inputs_of,
    loss_of,
    prompt_tuning,
    tiny,
    variables_of,
    write_tsv,
)

from promot_jax.models import Lora
from promot_jax.training import Checkpoints, Part, adamw, digest, make_mesh, place_batch, use
from promot_jax.training.digests import bit_sum
from promot_jax.training.variables import Layout

STEPS = 20
MESHES = {
    "one": None,
    "data": {"data": 8},
    "fsdp_tensor": {"fsdp": 4, "tensor": 2},
}
# A decoder has fewer key and value heads (one) than `tensor` has devices.
ASKED = {
    T5: (MESHES, (("one", "fsdp_tensor"), ("fsdp_tensor", "data"))),
    DECODER: (("one", "fsdp_tensor"), (("fsdp_tensor", "one"),)),
}
CHANGES = {T5: {"dropout_rate": 0.1}, DECODER: {}}
KERNELS = {
    T5: "params/encoder/layers_0/mlp/wo/kernel",
    DECODER: "params/decoder/layers_0/self_attention/key/kernel",
}


def mesh_of(name: str):
    """A mesh of all devices, or of the first alone."""
    return make_mesh(devices=jax.devices()[:1]) if name == "one" else make_mesh(MESHES[name])


def trainer_on(name: str, host, model, lora: bool = False) -> Trainer:
    """A stage that trains model and prompt, or LoRA, with its variables cut for the mesh."""
    places = Layout(model, mesh_of(name)).shardings()
    variables = {path: jax.device_put(x, places[path]) for path, x in host.items()}
    parts = [*fine_tuning(0.003), *prompt_tuning(0.03)]
    if lora:
        parts = [Part("lora", 0.1, descent)]
    return Trainer(model, variables, parts, mesh_of(name), seed=1)


def losses(trainer: Trainer, batches, begin: int, end: int) -> list[float]:
    return [trainer.step(batches(step))["loss"] for step in range(begin, end)]


def move(source: Trainer, name: str, model, directory: Path) -> Trainer:
    """A checkpoint written on one mesh and read on another."""
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        checkpoints.save(source.state, {}, {}, None)
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        step = checkpoints.latest()
        places = Layout(model, mesh_of(name)).abstract()
        read = checkpoints.variables(step, places)
        target = trainer_on(name, copies(read), model)
        target.state = checkpoints.state(step, target.state)
    return target


def constraints(trainer: Trainer, batch) -> int:
    """Sharding constraints in the lowered step."""
    with use(trainer.mesh):
        placed = place_batch(trainer.mesh, batch, len(inputs_of(batch)))
        lowered = trainer.jitted.lower(trainer.state, trainer.frozen, placed)
    return lowered.as_text().count("sdy.sharding_constraint")


def refusal(trainer: Trainer, model, batch) -> str:
    """What tracing the model says where its constraints would be dropped."""
    loss_of_model = jax.jit(lambda variables: loss_of(model)(variables, batch, None))
    try:
        with trainer.mesh:  # the old way to set one, which Flax does not see
            loss_of_model.lower(trainer.state.trained)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def measure(kind: str, task: str, directory: Path) -> dict:
    """Losses on every mesh, and of runs that change meshes half-way."""
    meshes, moves = ASKED[kind]
    model, batches = tiny(kind, **CHANGES[kind]), batches_of(task, kind=kind)
    host = copies(variables_of(model))
    out = {"digests": [], "bytes": {}, "gathers": 0}
    for name in meshes:
        trainer = trainer_on(name, host, model)
        out["digests"].append(digest(trainer.state.trained))
        every = jax.jit(functools.partial(jax.tree.map, bit_sum))
        compiled = every.lower(trainer.state.trained).compile().as_text()
        out["gathers"] += compiled.count("all-gather")
        kernel = trainer.state.trained[KERNELS[kind]]
        out["bytes"][name] = kernel.addressable_shards[0].data.nbytes / kernel.nbytes
        out[name] = losses(trainer, batches, 0, STEPS)
    out["constraints"] = constraints(trainer, batches(0))
    out["refusal"] = refusal(trainer, model, batches(0))
    for first, then in moves:
        trainer = trainer_on(first, host, model)
        begun = losses(trainer, batches, 0, STEPS // 2)
        moved = move(trainer, then, model, directory / f"{kind}-{first}-{then}")
        out[f"{first} then {then}"] = begun + losses(moved, batches, STEPS // 2, STEPS)
    return out


def of_lora(task: str) -> dict[str, list[float]]:
    """Losses of LoRA alone on each mesh: what is between A and B is summed over a cut axis."""
    model, batches = tiny(DECODER, lora=Lora(4)), batches_of(task, kind=DECODER)
    host = copies(variables_of(model))
    return {
        name: losses(trainer_on(name, host, model, lora=True), batches, 0, 4)
        for name in ("one", "fsdp_tensor")
    }


def elastic(directory: Path) -> dict:
    """A run that stays on 8 devices, and one that goes on on 1 and 4: losses, and what it says.

    With terms against the weights of its beginning, which each start finds anew.
    """
    import tiny_run

    from promot_jax.data import TrainData
    from promot_jax.run import Distance, Divergence, run

    preparing = importlib.import_module("promot_jax.run.prepare")
    task, out = tiny_run.write_task(directory / "rows"), {}
    far = Divergence(0.2, "reverse", data=TrainData(task, 24, 8, batch_size=8), name="far")
    how = {"optimizer": adamw, "evaluations": [], "select": None, "log_every": 1}
    how["terms"] = [Distance(0.1), far]
    for name, parts in {"stays": [(8, 6)], "moves": [(8, 2), (1, 4), (4, 6)]}.items():
        work = directory / name
        for devices, steps in parts:
            preparing.make_mesh = functools.partial(make_mesh, devices=jax.devices()[:devices])
            stage = tiny_run.stage("only", "prompt", steps, task, **how)
            with contextlib.redirect_stderr(said := io.StringIO()):
                run(tiny_run.settings(str(work), task, stages=[stage], mesh={"data": -1}))
            out.setdefault("said", []).append(said.getvalue())
        lines = (work / "1-only/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        out[name] = [json.loads(line)["loss"] for line in lines]
    return out


def without_training(directory: Path) -> dict:
    """What stages leave that generate and that transform, on one device and on a mesh of 8: the
    rows, and the root mean square of each array."""
    import tiny_run

    from promot_jax.run import Generate, Stage, Transform, run

    preparing = importlib.import_module("promot_jax.run.prepare")
    task, found = tiny_run.write_task(directory / "rows"), {}
    made = Stage("made", generate=Generate("made_rows", rows=16, batch_size=8))
    how = {"optimizer": adamw, "evaluations": [], "select": None}
    model = tiny_run.stage("model", "params", 1, task, **how)
    back = Stage("back", transform=Transform(coefficients=0.25))
    for name, mesh in {"one": {"data": 1}, "fsdp_tensor": MESHES["fsdp_tensor"]}.items():
        devices = jax.devices()[: math.prod(mesh.values())]
        preparing.make_mesh = functools.partial(make_mesh, devices=devices)
        stages = {"stages": [made, model, back], "mesh": mesh}
        work = run(tiny_run.settings(str(directory / f"stages-{name}"), task, **stages))
        with contextlib.closing(Checkpoints(work / "3-back/checkpoints")) as checkpoints:
            arrays = checkpoints.variables(1, checkpoints.shapes(1))
        found[name] = {
            "rows": (work / "1-made/generated.jsonl").read_text(encoding="utf-8"),
            "weights": {p: float(jnp.sqrt(jnp.mean(x**2))) for p, x in sorted(arrays.items())},
        }
    return found


def main(directory: Path) -> None:
    assert jax.device_count() == 8
    directory.mkdir(exist_ok=True)
    task = write_tsv(directory)
    found = {kind: measure(kind, task, directory) for kind in ASKED}
    found |= {"lora": of_lora(task), "run": elastic(directory)}
    print(json.dumps(found | {"stages": without_training(directory)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Plans a small run for 8 CPU devices, and runs it on them: prints both as JSON.

Started by `test_memory.py`, since the number of devices is fixed when JAX starts.
"""

import json
import sys
from pathlib import Path

import jax

from promot_jax.data import TrainData, byte, file_task
from promot_jax.evaluation import Evaluation
from promot_jax.models import Decoding, Prompt, T5Config
from promot_jax.plan.chips import CHIPS
from promot_jax.plan.planning import plan
from promot_jax.plan.rows import Rows
from promot_jax.plan.table import as_json
from promot_jax.plan.topology import Topology
from promot_jax.run import Run, Stage, run
from promot_jax.run.generation import Generator
from promot_jax.training import Part, adamw, loop


def settings(workdir: Path) -> Run:
    """Both stages of ProMoT, two steps each."""
    rows = workdir / "rows.tsv"
    rows.write_text("".join(f"what is {a}{b}?\t{b}\n" for a in "abcdef" for b in "abcd"), "utf-8")
    task = file_task("plan_and_run", str(rows), str(rows))
    model = T5Config(
        vocab_size=384, emb_dim=64, num_heads=4, head_dim=16, mlp_dim=128, num_encoder_layers=2,
        num_decoder_layers=2, scan_layers=True,
    )  # fmt: skip
    data = TrainData(task, 32, 8, batch_size=16, prompts="target")
    asked = Evaluation(
        [task], prompt="target", batch_size=16, input_length=32, decoding=Decoding(4)
    )
    stage = lambda name, pattern: Stage(  # noqa: E731
        name, [Part(pattern, 1e-3, adamw)], data, 2, evaluations=[asked]
    )
    stages = [stage("prompt", "prompt"), stage("model", "params")]
    return Run(
        str(workdir / "run"), "promot", model, byte(), stages,
        target=task, prompts=[Prompt("target", 4)], mesh={"fsdp": 4, "tensor": 2},
    )  # fmt: skip


def on_first_device(tree) -> int:
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def watch(found: dict) -> None:
    """Notes what is on the first device when a step is compiled, and what generates."""
    compile_step, generate = loop.compile_step, Generator._run

    def noting_step(plan, state, frozen, batch):
        compiled = compile_step(plan, state, frozen, batch)
        found[plan.name] = {
            "parameters": on_first_device((state.trained, frozen)),
            "optimizer": on_first_device(state.optimizer),
            "batch": on_first_device(batch),
            "temporary": compiled.memory_analysis().temp_size_in_bytes,
        }
        return compiled

    def noting_batch(self, function, variables, batches, **how):
        found.setdefault("generated", []).append([int(n) for n in batches[0].shape])
        return generate(self, function, variables, batches, **how)

    loop.compile_step, Generator._run = noting_step, noting_batch


def main(workdir: str) -> None:
    made, found = settings(Path(workdir)), {}
    chip = CHIPS["v5e"]
    planned = plan(made, Topology("cpu:8", chip, 1, jax.devices()), Rows(), lambda _: None)
    watch(found)
    run(made)
    print(json.dumps({"planned": as_json(planned), "found": found}))


if __name__ == "__main__":
    main(sys.argv[1])

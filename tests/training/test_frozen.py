"""Frozen means frozen: bit-identical, without gradient, norm or optimizer state, and cheaper."""

import jax
import numpy as np
from tiny_training import (
    Trainer,
    batches_of,
    both_kinds,
    copies,
    descent,
    fine_tuning,
    inputs_of,
    loss_of,
    prompt_tuning,
    tiny,
    variables_of,
)

from promot_jax.training import MetricsLog, Part, Plan, assign, begin, make_mesh, train


def changed(before, after) -> set[str]:
    """Paths whose bits differ."""
    return {path for path in before if not np.array_equal(before[path], after[path])}


def optimizer_shapes(state) -> set[tuple]:
    return {x.shape for x in jax.tree.leaves(state.optimizer) if x.ndim}


@both_kinds
def test_a_prompt_stage_leaves_the_model(model, variables, batches):
    trainer = Trainer(model, variables, prompt_tuning())
    before = copies(variables)
    losses = [trainer.step(batches(0))["loss"] for _ in range(8)]
    after = copies(trainer.state.trained | trainer.frozen)
    assert changed(before, after) == {"prompt/target"}
    assert losses[-1] < losses[0]
    assert set(trainer.state.trained) == {"prompt/target"}
    # of the prompt's shape or a factor of it, or a placeholder of one number
    assert optimizer_shapes(trainer.state) <= {(4, 32), (4,), (32,), (1,)}


@both_kinds
def test_the_paper_s_second_stage_leaves_the_prompt(model, variables, batches):
    trainer = Trainer(model, variables, fine_tuning())
    before = copies(variables)
    losses = [trainer.step(batches(0))["loss"] for _ in range(8)]
    after = copies(trainer.state.trained | trainer.frozen)
    assert changed(before, after) == {path for path in before if path.startswith("params/")}
    assert losses[-1] < losses[0]
    assert optimizer_shapes(trainer.state).isdisjoint({(4, 32)})


class Log(MetricsLog):
    """A real log that also keeps what was written."""

    def write(self, step, values):
        self.lines = [*getattr(self, "lines", []), dict(values) | {"step": step}]
        super().write(step, values)


def test_joint_training_unfreezes_at_its_step(batches, tmp_path):
    """Bit-identical before, moving after, in one stage and in the loop itself."""
    model = tiny()
    variables, seen = variables_of(model), {}
    parts = [*prompt_tuning(), *fine_tuning(optimizer=descent, unfreeze=3)]
    before = copies(variables)

    def pause(state, frozen, seconds):
        seen[int(state.step)] = copies(state.trained | frozen), len(state.optimizer)

    plan = Plan(
        name="joint", steps=5, loss=loss_of(model), parts=parts, owner=assign(parts, variables),
        batches=batches, batch_size=8, accumulate=1, log_every=1, due=lambda step: True,
        pause=pause, save=pause,
    )  # fmt: skip
    mesh = make_mesh(devices=jax.devices()[:1])
    log = Log(tmp_path, 0)
    train(plan, begin(mesh, 0), variables, mesh, log, 0.0)
    log.close()
    for step in (1, 2, 3):
        assert changed(before, seen[step][0]) == {"prompt/target"} and seen[step][1] == 1
    for step in (4, 5):
        assert changed(before, seen[step][0]) == set(before) and seen[step][1] == 2
    assert [line["learning_rate"] for line in log.lines] == [0.3] * 5


def test_a_pattern_may_be_narrow(model, variables, batches):
    """A part of the model alone: the rest is frozen like anything else."""
    trainer = Trainer(model, variables, [Part("params/decoder/layers_?/mlp/*", 0.01, descent)])
    before = copies(variables)
    trainer.step(batches(0))
    after = copies(trainer.state.trained | trainer.frozen)
    assert changed(before, after) == {
        path for path in before if "decoder/layers" in path and "/mlp/" in path
    }


@both_kinds
def test_a_frozen_model_saves_arithmetic(task, kind):
    """At most 0.75 of fine-tuning's for the same tokens; a norm over all would cost the rest."""
    model = tiny(kind, vocab_size=512, emb_dim=64, mlp_dim=256)
    variables = variables_of(model)
    batch = batches_of(task, kind=kind, input_length=64, target_length=32)(0)
    inputs_of(batch)[inputs_of(batch) >= 264] += 512 - 264
    flops = [
        Trainer(model, variables, parts(optimizer=descent)).flops(batch)
        for parts in (prompt_tuning, fine_tuning)
    ]
    assert flops[0] <= 0.75 * flops[1], flops

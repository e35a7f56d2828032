"""The loop: order of events, a stop on NaN, a stop on a signal, and the log."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from tiny_training import descent, fine_tuning, loss_of, prompt_tuning

from promot_jax.errors import UserError
from promot_jax.training import (
    Diverged,
    Interrupted,
    MetricsLog,
    Plan,
    assign,
    begin,
    make_mesh,
    stop_requests,
    train,
)


class Stage:
    """A plan of a few steps that notes what happens, and its run."""

    def __init__(self, model, variables, data, directory, parts, **changes):
        self.events, self.variables = [], jax.tree.map(jax.numpy.copy, variables)
        self.mesh, self.directory = make_mesh(devices=jax.devices()[:1]), directory
        self.plan = Plan(
            name="stage",
            steps=6,
            loss=loss_of(model),
            parts=parts,
            owner=assign(parts, variables),
            batches=lambda step: self.events.append(f"batch {step}") or data(step),
            batch_size=8,
            accumulate=1,
            log_every=2,
            due=lambda step: step in (3, 6),
            pause=lambda state, frozen, seconds: self.events.append(f"pause {int(state.step)}"),
            save=lambda state, frozen, seconds: self.events.append(f"save {int(state.step)}"),
        )
        self.plan = dataclasses.replace(self.plan, **changes)

    def run(self, step=0, stop=lambda: False):
        log, state = MetricsLog(self.directory, step), begin(self.mesh, 0, step)
        try:
            return train(self.plan, state, self.variables, self.mesh, log, 10.0, stop)
        finally:
            log.close()

    def lines(self):
        return [
            json.loads(x)
            for x in (self.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]


def test_events_and_lines(model, variables, batches, tmp_path):
    stage = Stage(model, variables, batches, tmp_path, prompt_tuning(optimizer=descent))
    state, frozen, seconds = stage.run()
    assert int(state.step) == 6 and set(state.trained) == {"prompt/target"}
    assert set(frozen) | set(state.trained) == set(variables)
    assert stage.events == [
        *["batch 0", "batch 1", "batch 2", "batch 3", "pause 3"],
        *["batch 4", "batch 5", "pause 6"],
    ]
    lines = stage.lines()
    assert [line["step"] for line in lines] == [2, 4, 6]
    wanted = {"loss", "z_loss", "correct", "tokens", "gradient_norm", "learning_rate", "seconds"}
    assert wanted <= set(lines[0]) and "examples_per_second" in lines[1]
    assert lines[0]["tokens"] == batches(1)["decoder_loss_weights"].sum()
    assert 10 < lines[0]["seconds"] <= lines[-1]["seconds"] <= seconds


def test_a_finished_stage_does_nothing(model, variables, batches, tmp_path):
    stage = Stage(model, variables, batches, tmp_path, prompt_tuning(optimizer=descent))
    state, _, seconds = stage.run(step=6)
    assert int(state.step) == 6 and stage.events == [] and stage.lines() == []
    assert seconds == pytest.approx(10, abs=2)


def test_nan_stops_with_step_and_metric(model, variables, batches, tmp_path):
    """The first update is finite itself; what it leaves behind is not. Nothing is saved then."""
    stage = Stage(model, variables, batches, tmp_path, fine_tuning(1e30, optimizer=descent))
    with pytest.raises(
        Diverged, match=r"(loss|gradient_norm|z_loss) is (nan|inf) at step \d of stage stage"
    ):
        stage.run()
    assert "pause 6" not in stage.events and "save 6" not in stage.events


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_once_and_stops(model, variables, batches, tmp_path, number):
    def kill_at(step):
        def at(now):
            if now == step:
                os.kill(os.getpid(), number)
            return batches(now)

        return at

    before = signal.getsignal(number)
    # while batch 2 is made step 1 runs and ends as update 2; batch 3 goes with the pause at 3
    for step, events in ((2, ["save 2"]), (3, ["pause 3"]), (5, ["pause 3", "save 5"])):
        stage = Stage(
            model,
            variables,
            batches,
            tmp_path,
            prompt_tuning(optimizer=descent),
            batches=kill_at(step),
        )
        with (
            stop_requests() as stop,
            pytest.raises(Interrupted, match=f"stopped at step {step} of stage stage"),
        ):
            stage.run(stop=stop)
        assert stage.events == events
    assert signal.getsignal(number) is before


def test_a_log_forgets_what_comes_again(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": float(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # cut off by a crash
    log = MetricsLog(tmp_path, 2)
    log.write(3, {"loss": 9.0})
    log.close()
    lines = [
        json.loads(line)
        for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 9.0)]


def test_steps_do_not_depend_on_where_a_run_began(model, variables, batches, tmp_path):
    """Dropout keys, batches and updates are functions of the step alone."""
    whole = Stage(model, variables, batches, tmp_path / "a", prompt_tuning(optimizer=descent))
    expected, _, _ = whole.run()
    half = Stage(
        model, variables, batches, tmp_path / "b", prompt_tuning(optimizer=descent), steps=3
    )
    state, frozen, _ = half.run()
    rest = Stage(model, variables, batches, tmp_path / "b", prompt_tuning(optimizer=descent))
    log = MetricsLog(tmp_path / "b", 3)
    state, _, _ = train(rest.plan, state, frozen, rest.mesh, log, 0.0)
    log.close()
    np.testing.assert_array_equal(state.trained["prompt/target"], expected.trained["prompt/target"])


def test_tensorboard_has_the_same_numbers(tmp_path):
    """Of a run that went on: what comes after the second file's beginning is void in the first."""
    from tensorflow.python.summary.summary_iterator import summary_iterator

    for step in (0, 1):
        log = MetricsLog(tmp_path / str(step), step)
        log.write(step + 1, {"loss": 0.5, "a b": 2.0})
        log.scalars(step + 1, {"task/0shot/accuracy": 1.0})
        log.close()
        (path,) = (tmp_path / str(step) / "tensorboard").iterdir()
        events = list(summary_iterator(str(path)))
        assert events[1].session_log.status == events[1].session_log.START
        assert events[1].step == step + 1
        points = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
        assert points == [
            (step + 1, "loss", 0.5),
            (step + 1, "a_b", 2.0),
            (step + 1, "task/0shot/accuracy", 1.0),
        ]


GOOD = '{"step": 1, "loss": 2.5}\n'


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("[]\n", "no JSON object"),
        ("{}\n", "has no step"),
        ('{"step": "2"}\n', "step is '2', no number"),
        ('{"step": 2.5}\n', "has no step"),
        ('{"step": 2, "loss": "low"}\n', "loss is 'low', no number"),
        ('{"step": 2, "loss": true}\n', "loss is 'True', no number"),
        ('{"step": 2, "loss": NaN}\n', "NaN"),
        ('{"step": 2, "loss": 1e999}\n', "loss is 'inf', no number"),
        (b"\xff\xfe\n", "utf-8"),
        ("[" * 10**5 + "\n", "nested too deeply"),
        ("\n", "Expecting value"),
        ('{"step": 2, "lo\n', "line 2"),
    ],
)
def test_a_log_that_holds_something_else(tmp_path, second, says):
    second = second if isinstance(second, bytes) else second.encode()
    (tmp_path / "metrics.jsonl").write_bytes(GOOD.encode() + second + GOOD.encode())
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2, .*: restore the file, or") as said:
        MetricsLog(tmp_path, 5)
    assert says in str(said.value) and len(str(said.value)) < 400

"""The training loop of one stage.

The order of events around update n, stated once:

1. what is due to be unfrozen at n joins the state;
2. the step is dispatched, and returns before it is computed;
3. the next batch is made, while the devices work;
4. the metrics of the update before are read, logged, and checked for NaN;
5. if n + 1 is due: evaluate, then save. A checkpoint's scores are thus in the results before the
   checkpoint exists, and a run killed in between only does them again. A signal that asks to stop
   ends the evaluation, which is done again when the run goes on;
6. if a signal asks to stop: save, unless that has just been done, and raise `Interrupted`.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.stages import Compiled, Lowered

from promot_jax.console import say
from promot_jax.host_memory import give_back_freed_memory
from promot_jax.lost import came_on
from promot_jax.models import Variables
from promot_jax.models.t5 import Batch
from promot_jax.process import patient
from promot_jax.training.logs import Bar, MetricsLog
from promot_jax.training.mesh import place_batch, use
from promot_jax.training.optimizers import Part
from promot_jax.training.reference import Penalty, Reference
from promot_jax.training.step import Loss, State, thaw, train_step

STILL = 10  # updates without a gradient that are worth a line


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the loop needs to know of a stage.

    Attributes:
      name: shown and logged.
      steps: updates in all.
      loss: (variables, batch, dropout key) -> loss sum and other sums.
      parts: what is trained; `owner` gives each path's part.
      batches: step -> this host's rows of the global batch.
      batch_size: rows of the global batch.
      accumulate: parts in which a batch goes through.
      log_every: updates between two lines of metrics.
      due: whether to save, perhaps after an evaluation, after so many updates; so at the last one.
      pause: does what is due, with the state after so many updates and the frozen variables.
      save: saves at once, for a stop on a signal.
      saving: seconds for which saving has held up the loop so far.
      options: of the compiler, by XLA's names.
      reference: what the stage compares itself with, if it does.
      penalties: on the distance from it.
      sam_radius: of SAM; 0: none.
    """

    name: str
    steps: int
    loss: Loss
    parts: Sequence[Part]
    owner: Mapping[str, int]
    batches: Callable[[int], Mapping[str, np.ndarray]]
    batch_size: int
    accumulate: int
    log_every: int
    due: Callable[[int], bool]
    pause: Callable[[State, Variables, float], None]
    save: Callable[[State, Variables, float], None]
    saving: Callable[[], float] = lambda: 0.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reference: Reference | None = None
    penalties: Sequence[Penalty] = ()
    sam_radius: float = 0.0

    @property
    def beside(self) -> tuple[Reference, ...]:
        """The step's argument behind the batch, where there is one."""
        return () if self.reference is None else (self.reference,)


class Interrupted(Exception):
    """A signal stopped the run; everything is saved."""


class Diverged(RuntimeError):
    """A metric is no longer a finite number."""


def compile_step(plan: Plan, state: State, frozen: Variables, batch: Batch) -> Compiled:
    """The compiled step of a stage, see `lower_step`."""
    names = ("loss", "parts", "owner", "accumulate", "penalties", "sam_radius", "options")
    settings = {name: getattr(plan, name) for name in names}
    compiled = lower_step(state, frozen, batch, *plan.beside, **settings).compile()
    give_back_freed_memory()
    return compiled


def lower_step(
    state: State,
    frozen: Variables,
    batch: Batch,
    *reference: Reference,
    owner: Mapping[str, int],
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Lowered:
    """The donating step for arguments of these shapes and layouts, which it keeps.

    The arguments may be abstract: `jax.ShapeDtypeStruct`s with shardings. `options` are the
    compiler's, `settings` those of `train_step`.
    """
    step = functools.partial(train_step, owner=dict(owner), **settings)
    layout = jax.tree.map(lambda x: x.sharding, state)
    how = {"donate_argnums": 0, "out_shardings": (layout, None), "compiler_options": options}
    return jax.jit(step, **how).lower(state, frozen, batch, *reference)


def train(
    plan: Plan,
    state: State,
    frozen: Variables,
    mesh: Mesh,
    log: MetricsLog,
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[State, Variables, float]:
    """Runs the stage from the state's step to its end.

    Args:
      seconds: the stage's clock so far; pauses for evaluation and saving are not counted.
      stop: whether the process is to stop (`stop_requests`).

    Returns:
      The last state, what stayed frozen, and the clock.

    Raises:
      Diverged: a metric is NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    clock = _Clock(seconds)
    step = int(state.step)
    bar = Bar(plan.name, step, plan.steps, max(1, plan.steps // 10))
    reader = _Reader(plan, log, clock, bar)
    thaws = {part.unfreeze for part in plan.parts}
    run_step = None
    with use(mesh), contextlib.closing(bar):
        batch = _batch(plan, mesh, step)
        while step < plan.steps:
            if run_step is None or step in thaws:
                state, frozen = thaw(state, frozen, plan.parts, plan.owner)
                run_step = compile_step(plan, state, frozen, batch)
            with jax.transfer_guard("disallow"):  # nothing is copied to a device unawares
                state, metrics = run_step(state, frozen, batch, *plan.beside)
            came_on()
            step += 1
            batch = _batch(plan, mesh, step)
            reader.next(step, metrics)
            if due := plan.due(step):
                reader.flush()
                with clock.stopped():
                    plan.pause(state, frozen, clock.seconds)
            if stop():
                reader.flush()
                if not due:  # else it is saved already
                    plan.save(state, frozen, clock.seconds)
                raise Interrupted(
                    f"stopped at step {step} of stage {plan.name}: run the same command to go on"
                )
        reader.flush()
    return state, frozen, clock.seconds


def _batch(plan: Plan, mesh: Mesh, step: int) -> Batch | None:
    if step < plan.steps:
        return place_batch(mesh, plan.batches(step), plan.batch_size)
    return None


class _Clock:
    """Seconds spent training."""

    def __init__(self, seconds: float):
        self._begun = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._begun += time.monotonic() - begun


class _Reader:
    """Reads the metrics one update late, so that the devices never wait for the host."""

    def __init__(self, plan: Plan, log: MetricsLog, clock: _Clock, bar: Bar):
        self.plan, self.log, self.clock, self.bar = plan, log, clock, bar
        self.pending: tuple[int, Any] | None = None
        self.last = (None, 0.0)  # step and clock of the last logged line
        self.saving = 0.0  # seconds for which saving had held up the loop then
        self.without_gradient = 0  # updates in a row
        self.had_gradient = False

    def next(self, step: int, metrics: Any) -> None:
        self.flush()
        self.pending = (step, metrics)

    def flush(self) -> None:
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {step} of stage {self.plan.name}")
        self._watch(step, values["gradient_norm"])
        if step % self.plan.log_every == 0 or step == self.plan.steps:
            self._write(step, values)

    def _watch(self, step: int, norm: float) -> None:
        """Says it, once, where nothing has been learned for a while."""
        self.without_gradient = self.without_gradient + 1 if norm == 0 else 0
        self.had_gradient |= norm != 0
        if self.without_gradient == STILL:
            never = (
                "does the loss depend on what Part.pattern trains (a prompt has to be that of"
                " TrainData.prompts), and do the targets have tokens?"
            )
            lost = "it was not before: is the learning rate too high?"
            say(
                f"{self.plan.name}: the gradient is exactly 0 since step {step - STILL + 1}, so"
                f" nothing is learned: {lost if self.had_gradient else never}"
            )

    def _write(self, step: int, values: dict[str, float]) -> None:
        seconds, (last_step, last_seconds) = self.clock.seconds, self.last
        if last_step is not None and seconds > last_seconds:
            values["examples_per_second"] = (
                (step - last_step) * self.plan.batch_size / (seconds - last_seconds)
            )
        self.last = (step, seconds)
        rates = {p.pattern: p.rate(step - 1) for p in self.plan.parts}
        values["learning_rate"] = max(rates.values())
        values["seconds"] = seconds
        values["saving_seconds"], self.saving = self.plan.saving() - self.saving, self.plan.saving()
        self.log.write(step, values)
        speed = values.get("examples_per_second")
        rate = "" if speed is None else f"  {speed:.3g} examples/s"
        self.bar.update(step, f"loss {values['loss']:.4f}{rate}")


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM or Ctrl-C came, in the place of killing the process.

    A second Ctrl-C is a KeyboardInterrupt (`promot_jax.process` ends the command line at once). Of
    several hosts, all stop when one gets a signal, and at the same call: they have to call equally
    often.
    """
    requests: list[int] = []
    several, calls = jax.process_count() > 1, itertools.count()

    def asked():
        came_on()
        if several:  # JAX itself handles SIGTERM there
            return multihost_utils.reached_preemption_sync_point(next(calls))
        return bool(requests)

    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield asked
        return

    def handle(number, _):
        if number == signal.SIGINT in requests:
            raise KeyboardInterrupt
        requests.append(number)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    numbers = [signal.SIGINT] if several else [signal.SIGTERM, signal.SIGINT]
    old = {number: signal.signal(number, handle) for number in numbers}
    try:
        with patient():
            yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

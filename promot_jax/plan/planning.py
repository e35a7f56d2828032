"""All programs of a run, compiled for chips that nobody has, and what they come to."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
from jax import stages
from jaxlib import _hlo

from promot_jax.models import Config
from promot_jax.plan.costs import Cost, cost, flops
from promot_jax.plan.hlo import Module
from promot_jax.plan.programs import Program, programs
from promot_jax.plan.roofline import Seconds, roofline
from promot_jax.plan.rows import Rows
from promot_jax.plan.topology import Topology
from promot_jax.run.prepare import frame
from promot_jax.run.stage import Run
from promot_jax.training import make_mesh

PEAK = "all chips work at their makers' peaks: what is measured takes longer"
UPPER = "evaluations ask with inputs of the length shown, and every output has MAX_OUTPUT_LENGTH"
STAND_IN = (
    "XLA compiles for GPUs only where there is one: memory is that of the program for as many CPU"
    " devices, whose temporaries are float32 where a GPU's are bfloat16, and time is that of"
    " arithmetic alone"
)

KERNELS = "attention by a kernel is left out of the arithmetic: XLA cannot count it"
NO_NETWORK = "of this chip's network between slices nothing is known: it is left out of the time"
SCANNED = (
    "the layers are planned as scan_layers = True computes them, to compile soon: unrolled, as they"
    " are set, they may need less memory"
)
FEW_LAYERS = 24  # compile as they are, in minutes

OnProgram = Callable[[Program], None]


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes a chip while a program runs; `working` has gradients, activations and what else is
    temporary; `program` is the program itself."""

    parameters: float
    optimizer: float
    batch: float
    working: float
    program: float
    free: float

    @property
    def fits(self) -> bool:
        return self.free >= 0


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program, compiled.

    Attributes:
      stage, name, size, times: as in `Program`.
      memory: None where the compiler gave up for want of it, and said `too_much`.
      too_much: what it said.
      cost: of one run, on one chip.
      seconds: the least time of one run.
      compile_seconds: on this machine.
    """

    stage: str
    name: str
    size: str
    times: float
    memory: Memory | None
    too_much: str | None
    cost: Cost | None
    seconds: Seconds | None
    compile_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the chips have room for it."""
        return self.memory is not None and self.memory.fits

    @property
    def hours(self) -> float | None:
        """The least time of all its runs."""
        return None if self.seconds is None else self.times * self.seconds.total / 3600


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A whole run's."""

    method: str
    topology: Topology
    mesh: dict[str, int]
    programs: tuple[Planned, ...]
    assumptions: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the chips have room for all of it."""
        return all(each.fits for each in self.programs)

    @property
    def hours(self) -> float | None:
        """The least time of the run, compiling and saving apart."""
        hours = [each.hours for each in self.programs]
        return None if None in hours else sum(hours)

    @property
    def chip_hours(self) -> float | None:
        """The same, of all chips together."""
        return None if self.hours is None else self.hours * len(self.topology.devices)


def plan(
    settings: Run,
    topology: Topology,
    rows: Rows,
    on_program: OnProgram,
    known: dict[Any, "Compiled"] | None = None,
) -> RunPlan:
    """Compiles all programs of a run, in turn, each once.

    Args:
      settings: the run.
      topology: what to compile for.
      rows: how many rows evaluations have.
      on_program: called before each is compiled.
      known: programs that were compiled for other plans; what is compiled now is added.

    Raises:
      UserError: settings that no run could have, or a mesh that does not fit the chips.
    """
    known, mesh = {} if known is None else known, make_mesh(settings.mesh, topology.devices)
    framed = frame(settings, mesh)
    random = framed.layout
    if unrolled := not settings.model.scan_layers and layers(settings.model) > FEW_LAYERS:
        model = dataclasses.replace(settings.model, scan_layers=True)
        framed = frame(dataclasses.replace(settings, model=model), mesh)
    planned = []
    for program in programs(framed, rows, random):
        key = topology.name, topology.slices, tuple(mesh.shape.items()), program.key
        if key not in known:
            on_program(program)
            known[key] = _compile(program, topology)
        planned.append(_planned(program, known[key], topology))
    assumed = [PEAK, UPPER, *rows.assumptions]
    assumed += [KERNELS] * any(each.cost is not None and each.cost.kernels for each in planned)
    assumed += [NO_NETWORK] * (topology.slices > 1 and topology.chip.network is None)
    assumed += [STAND_IN] * (not topology.chip.compiles) + [SCANNED] * unrolled
    return RunPlan(settings.method, topology, dict(mesh.shape), tuple(planned), tuple(assumed))


def layers(model: Config) -> int:
    """How many layers a model of either kind has."""
    names = ("num_layers", "num_encoder_layers", "num_decoder_layers")
    return sum(getattr(model, name, 0) for name in names)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What is kept of a compiled program."""

    given: float
    temporary: float
    program: float
    cost: Cost | None
    too_much: str | None
    seconds: float


def _compile(program: Program, topology: Topology) -> Compiled:
    begun = time.monotonic()
    try:
        lowered = program.lower()
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.monotonic() - begun
        return Compiled(0, 0, 0, None, _in_short(str(error)), seconds)
    seconds = time.monotonic() - begun
    memory = compiled.memory_analysis()
    return Compiled(
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.generated_code_size_in_bytes,
        _cost(lowered, compiled, topology),
        None,
        seconds,
    )


def _in_short(said: str) -> str:
    """The beginning of an error that is pages long, in whole sentences."""
    said = " ".join(said.split()).partition("RESOURCE_EXHAUSTED:")[2].strip()
    return said[:160].rpartition(". ")[0] or said[:160]


def _cost(lowered: stages.Lowered, compiled: stages.Compiled, topology: Topology) -> Cost:
    devices, options = len(topology.devices), _hlo.HloPrintOptions()
    options.print_metadata = False
    if topology.chip.compiles:
        (module,) = compiled.runtime_executable().hlo_modules()
        return cost(Module(module.to_string(options)), devices, topology.slices)
    # Before it is compiled, a program is that of all devices together.
    module = lowered.compiler_ir("hlo").get_hlo_module()
    return Cost(flops(Module(module.to_string(options))) / devices)


def _planned(program: Program, made: Compiled, topology: Topology) -> Planned:
    memory = None
    if made.too_much is None:
        # What is given lies in tiles, which may take more than its numbers.
        padding = made.given - program.taken
        parameters = program.variables + max(padding, 0.0)
        working = made.temporary - program.made
        used = (parameters, program.optimizer, program.batch, working, made.program)
        memory = Memory(*used, topology.chip.memory - sum(used))
    seconds = None if made.cost is None else roofline(made.cost, topology.chip)
    return Planned(
        program.stage, program.name, program.size, program.times, memory, made.too_much,
        made.cost, seconds, made.seconds,
    )  # fmt: skip

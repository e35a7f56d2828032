"""Reading a compiled program: its computations, loops and collectives, from XLA's text.

A compiled program is a list of computations, each a list of instructions

    %name = shape opcode(%operand, ...), calls=%other, ...

of which one is where it begins. A shape says where an array lies: `S(1)` in its layout is the
chip's on-core memory, which no HBM traffic goes to. What repeats is a `while` with a body and a
condition; XLA writes how often next to it (on CPUs), or compares a counter with a constant in the
condition, from which it is read here.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

INSTRUCTION = re.compile(
    r"^\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[\w\-]+)\("
)
BEGIN = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
CALLED = re.compile(
    r"(?:calls|to_apply|body|true_computation|false_computation|branch_computations|select|scatter"
    r"|called_computations)="
    r"(?:\{(?P<many>[^}]*)\}|%?(?P<one>[\w.\-]+))"
)
LEAF = re.compile(r"(?P<kind>[a-z]\w*)\[(?P<sizes>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?")
RUNS = ("while", "call", "conditional", "async-start")
ELSEWHERE = re.compile(r"S\([1-9]")
KNOWN_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
LISTED = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})\}")
IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")
AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")
PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{} ]*\})\}")


def bytes_of(shape: str, in_hbm: bool = False) -> float:
    """Bytes of a shape, of all parts of a tuple; `in_hbm`: of those that lie there alone."""
    total = 0.0
    for leaf in LEAF.finditer(shape):
        if in_hbm and ELSEWHERE.search(leaf["layout"] or ""):
            continue
        bits = re.search(r"\d+", leaf["kind"])
        size = int(bits[0]) / 8 if bits else float(leaf["kind"] == "pred")
        total += size * math.prod(int(n) for n in leaf["sizes"].split(",") if n)
    return total


def leaves(shape: str) -> list[str]:
    """The arrays of a shape, of a tuple's all of them, in order."""
    return [leaf[0] for leaf in LEAF.finditer(shape)]


def root(inside: Mapping[str, "Instruction"]) -> "Instruction":
    """The instruction whose value is a computation's."""
    return next(x for x in inside.values() if x.root)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    rest: str  # operands and attributes
    root: bool  # whether its value is the computation's

    @functools.cached_property
    def operands(self) -> list[str]:
        """Names of the operands."""
        inside, depth = [], 1
        for part in re.split(r"([(),{}])", self.rest):
            depth += (part in "({" and part != "") - (part in ")}" and part != "")
            if not depth:
                break
            inside.append(part)
        return re.findall(r"%([\w.\-]+)", "".join(inside))

    @property
    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        if self.opcode.endswith(("-done", "-update")):
            return []  # what its -start runs
        found: list[str] = []
        for match in CALLED.finditer(self.rest):
            names = match["one"] or match["many"]
            found += [name.strip().lstrip("%") for name in names.split(",")]
        return found

    def attribute(self, name: str) -> str:
        """The computation that an attribute names."""
        return re.search(rf"{name}=%?([\w.\-]+)", self.rest)[1]

    def groups(self, devices: int) -> np.ndarray:
        """Which devices a collective joins, [groups, devices]; of a permute, who sends to whom."""
        if listed := LISTED.search(self.rest) or PAIRS.search(self.rest):
            groups = re.findall(r"\{([\d, ]+)\}", listed[1])
            return np.array([[int(i) for i in group.split(",")] for group in groups])
        if iota := IOTA.search(self.rest):
            sizes = [int(n) for n in iota[3].split(",")]
            order = [int(n) for n in iota[4].split(",")] if iota[4] else range(len(sizes))
            everyone = np.arange(math.prod(sizes)).reshape(sizes).transpose(order)
            return everyone.reshape(int(iota[1]), int(iota[2]))
        if mesh := MESH.search(self.rest):
            return _mesh_groups(*mesh.groups())
        return np.arange(devices)[None]


def _mesh_groups(axes: str, joined: str) -> np.ndarray:
    """Groups that are written as axes of a mesh, `['a'=4,'b'=2] {'a':(2)2}`: of `a`, behind a first
    factor of 2, the next 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    shape, inside = [], []
    for name, size in sizes.items():
        before, own = 1, 1
        for found in AXIS.finditer(joined):
            if found[1] == name:
                before, own = (int(found[2]), int(found[3])) if found[2] else (1, size)
        inside.append(len(shape) + 1)
        shape += [before, own, size // (before * own)]
    outside = [axis for axis in range(len(shape)) if axis not in inside]
    everyone = np.arange(math.prod(shape)).reshape(shape).transpose(*outside, *inside)
    return everyone.reshape(-1, math.prod(shape[axis] for axis in inside))


class Module:
    """A program as text, by computation.

    Attributes:
      computations: name -> its instructions, by their names.
      entry: the one where it begins.
    """

    def __init__(self, text: str):
        self._lines: dict[str, list[str]] = {}
        name = self.entry = ""
        for line in text.splitlines():
            if not line.startswith(" ") and (begin := BEGIN.match(line)):
                name = begin["name"]
                self._lines[name] = [line]
                self.entry = name if begin["entry"] else self.entry
            elif name and line.strip():
                self._lines[name].append(line)
                name = "" if line == "}" else name
        self.computations: Mapping[str, dict[str, Instruction]] = {
            name: {found.name: found for found in map(_instruction, lines) if found}
            for name, lines in self._lines.items()
        }

    def reachable(self, start: str) -> set[str]:
        """A computation, and all that it runs."""
        found, todo = set(), [start]
        while todo:
            if (name := todo.pop()) not in found and name in self._lines:
                found.add(name)
                for instruction in self.computations[name].values():
                    todo += instruction.called
                    if instruction.opcode == "while":
                        todo.append(instruction.attribute("condition"))
        return found

    def text_from(self, start: str) -> str:
        """A program that begins with one of the computations, for XLA to read."""
        wanted, parts = self.reachable(start), ["HloModule part"]
        for name, lines in self._lines.items():
            if name in wanted:
                head = lines[0].removeprefix("ENTRY ")
                parts += [f"ENTRY {head}" if name == start else head, *lines[1:], ""]
        return "\n".join(parts)

    def runs(self, start: str | None = None, times: float = 1) -> Iterator[tuple[str, float]]:
        """Every computation that is run, and how often; fusions and reducers are not."""
        name = self.entry if start is None else start
        yield name, times
        for instruction in self.computations[name].values():
            rounds = self.trips(name, instruction) if instruction.opcode == "while" else 1
            for called in instruction.called if instruction.opcode in RUNS else ():
                yield from self.runs(called, times * rounds)

    def inside(self, name: str) -> list[str]:
        """The computations that `runs` goes on with from one, a name for each time."""
        instructions = self.computations[name].values()
        return [called for x in instructions if x.opcode in RUNS for called in x.called]

    def fused(self, name: str) -> Iterator[tuple[str, Instruction]]:
        """The instructions of a computation, those that are fused included, and where they are."""
        for instruction in self.computations[name].values():
            yield name, instruction
            if instruction.opcode == "fusion":
                for called in instruction.called:
                    yield from self.fused(called)

    def trips(self, where: str, loop: Instruction) -> int:
        """How often a loop goes round, at most: one may also end where a condition says so."""
        if known := KNOWN_TRIPS.search(loop.rest):
            return int(known[1])
        bound = self._bound(loop.attribute("condition"))
        if bound is None:
            return 1
        index, limit = bound
        start = self._element(self.computations[where], loop.operands[0], index)
        body = self.computations[loop.attribute("body")]
        state = root(body)
        step = self._added(body, state.operands[index]) if state.opcode == "tuple" else 1
        return max(1, -(-(limit - (start or 0)) // (step or 1)))

    def _added(self, inside: Mapping[str, Instruction], name: str) -> int:
        """By how much a round raises its counter."""
        found = inside[name]
        if found.opcode == "add":
            return sum(self._added(inside, operand) for operand in found.operands)
        if found.opcode == "constant":
            return _number(found) or 0
        if found.opcode in ("copy", "bitcast", "convert"):
            return self._added(inside, found.operands[0])
        if found.opcode == "fusion":
            fused = self.computations[found.called[0]]
            return self._added(fused, root(fused).name)
        return 0

    def _bound(self, condition: str) -> tuple[int, int] | None:
        """Which element of a loop's state stays below what; None where no constant says so."""
        for name in self.reachable(condition):
            inside = self.computations[name]
            for compare in inside.values():
                if compare.opcode != "compare" or "direction=LT" not in compare.rest:
                    continue
                left, right = compare.operands
                limit, counter = self._constant(condition, name, right), left
                if limit is not None:
                    return self._index(condition, name, counter), limit
        return None

    def _constant(self, condition: str, name: str, operand: str) -> int | None:
        return _number(self._outside(condition, name, operand))

    def _index(self, condition: str, name: str, operand: str) -> int:
        found = self._outside(condition, name, operand)
        index = re.search(r"index=(\d+)", found.rest)
        return int(index[1]) if index else 0

    def _outside(self, condition: str, name: str, operand: str) -> Instruction:
        """What a value is, in the condition itself where it is an argument of a fusion there."""
        found = self.computations[name][operand]
        while found.opcode in ("copy", "bitcast", "convert"):
            found = self.computations[name][found.operands[0]]
        if name == condition or found.opcode != "parameter":
            return found
        position = int(re.match(r"(\d+)\)", found.rest)[1])
        for caller in self.computations[condition].values():
            if name in caller.called:
                return self._outside(condition, condition, caller.operands[position])
        return found

    def _element(self, inside: Mapping[str, Instruction], state: str, index: int) -> int | None:
        """The number that an element of a loop's state begins with."""
        found = inside[state]
        if found.opcode != "tuple" or index >= len(found.operands):
            return None
        element = inside[found.operands[index]]
        while element.opcode in ("copy", "bitcast"):
            element = inside[element.operands[0]]
        return _number(element)


def _number(instruction: Instruction) -> int | None:
    """The value of a constant that is one whole number."""
    number = re.match(r"(-?\d+)\)", instruction.rest)
    return int(number[1]) if number and instruction.opcode == "constant" else None


def _instruction(line: str) -> Instruction | None:
    match = INSTRUCTION.match(line)
    if match is None:
        return None
    return Instruction(
        match["name"], match["shape"], match["opcode"], line[match.end() :], bool(match["root"])
    )

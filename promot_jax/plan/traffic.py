"""What one instruction of a compiled program reads from a chip's HBM and writes there.

Of what is taken out of an array, or put into it, that part alone is moved: a scanned layer reads
its own weights out of the stack's, and writes its own activations into theirs. Instructions that
are fused keep what is between them on the core.
"""

from collections.abc import Mapping

from promot_jax.plan.hlo import Instruction, Module, bytes_of, leaves, root

# What moves nothing by itself: names of arrays, and what is counted as the computation it runs.
FREE = {
    "parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "add-dependency",
    "after-all", "opt-barrier", "partition-id", "replica-id", "while", "call", "conditional",
    "async-start", "async-update", "async-done",
}  # fmt: skip
SLICES = {"dynamic-slice", "slice", "gather"}
ALL = float("inf")

Computation = Mapping[str, Instruction]


def traffic(module: Module, inside: Computation, instruction: Instruction) -> float:
    """Bytes that an instruction of a computation reads and writes."""
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done"):
        return 0.0
    if opcode == "custom-call" and '"AllocateBuffer"' in instruction.rest:
        return 0.0
    if opcode in ("slice-start", "dynamic-slice-start"):
        source, taken = leaves(instruction.shape)[:2]
        return bytes_of(taken) * bool(bytes_of(source, in_hbm=True)) + bytes_of(taken, in_hbm=True)
    if opcode.endswith("-start"):  # its shape has what is read and what is written
        return bytes_of(instruction.shape, in_hbm=True)
    shapes = [inside[name].shape for name in instruction.operands if name in inside]
    if opcode == "fusion":
        return _fusion(module, instruction, shapes)
    return _alone(instruction, shapes)


def _alone(instruction: Instruction, shapes: list[str]) -> float:
    """An instruction that is not fused, with arguments of these shapes."""
    read = [bytes_of(shape, in_hbm=True) for shape in shapes]
    written = bytes_of(instruction.shape, in_hbm=True)
    if instruction.opcode in SLICES:
        return bytes_of(instruction.shape) * bool(read[0]) + written
    if instruction.opcode == "dynamic-update-slice":
        return read[1] + bytes_of(shapes[1]) * bool(written)
    if instruction.opcode == "scatter":
        return read[2] + 2 * bytes_of(shapes[2]) * bool(written)
    return sum(read) + written


def _fusion(module: Module, fusion: Instruction, shapes: list[str]) -> float:
    """Of each argument what is taken of it, of each part of what comes out what is put there."""
    inside = module.computations[fusion.called[0]]
    total = 0.0
    for position, shape in enumerate(shapes):
        if full := bytes_of(shape, in_hbm=True):
            total += min(full, _taken(module, inside, _parameter(inside, position)))
    for put, shape in zip(_made(module, inside), leaves(fusion.shape), strict=True):
        total += min(put, bytes_of(shape, in_hbm=True))
    return total


def _parameter(inside: Computation, position: int) -> str:
    """The name of an argument in a fusion."""
    return next(
        x.name
        for x in inside.values()
        if x.opcode == "parameter" and x.rest.startswith(f"{position})")
    )


def _taken(module: Module, inside: Computation, name: str) -> float:
    """Bytes that fused instructions read of an array."""
    return sum(_taken_by(module, inside, x, name) for x in inside.values() if name in x.operands)


def _taken_by(module: Module, inside: Computation, user: Instruction, name: str) -> float:
    if user.opcode == "bitcast":
        return _taken(module, inside, user.name)
    if user.opcode == "fusion":
        inner = module.computations[user.called[0]]
        places = [place for place, operand in enumerate(user.operands) if operand == name]
        return sum(_taken(module, inner, _parameter(inner, place)) for place in places)
    if user.operands[0] == name:
        if user.opcode in SLICES:
            return bytes_of(user.shape)
        if user.opcode == "dynamic-update-slice":
            return 0.0  # what is not replaced stays where it is
    return ALL


def _made(module: Module, inside: Computation) -> list[float]:
    """Bytes that fused instructions write of each array that comes out."""
    last = root(inside)
    if last.opcode == "tuple":
        return [_put(module, inside, name) for name in last.operands]
    if last.opcode == "fusion":
        return _made(module, module.computations[last.called[0]])
    count = len(leaves(last.shape))
    return [_put(module, inside, last.name)] if count == 1 else [ALL] * count


def _put(module: Module, inside: Computation, name: str) -> float:
    found = inside[name]
    if found.opcode in ("bitcast", "copy"):
        return _put(module, inside, found.operands[0])
    if found.opcode == "fusion" and len(leaves(found.shape)) == 1:
        return _made(module, module.computations[found.called[0]])[0]
    if found.opcode == "dynamic-update-slice":
        return bytes_of(inside[found.operands[1]].shape)
    return ALL

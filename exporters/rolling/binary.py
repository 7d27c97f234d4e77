"""Whether a mask of numbers can hold anything but 0 and 1, and which inputs that rests on.

A native node takes a step or leaves it; `m * new + (1 - m) * old` takes any part of it. Needs: a mask that holds a
state. Guarantees: where nothing is found unknown, the mask is 0 or 1 at every step if the inputs found are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from seqport.exporters.passes.builder import constant
from seqport.exporters.rolling.terms import Term

# Operators behind which numbers are the same numbers.
_KEEPS = frozenset({"Cast", "Gather", "Slice", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Reshape", "Expand"})
# Operators that give 0 or 1 where all their operands do.
_CLOSED = frozenset({"Mul", "Min", "Max", "Concat"})


@dataclass
class Numbers:
    """Where the numbers of a mask come from.

    Attributes:
        inputs: of the graph, in the order in which they were found.
        unknown: a value that may hold other numbers, whatever the inputs hold.
    """

    inputs: list[ir.Value] = field(default_factory=list)
    unknown: ir.Value | None = None


def numbers_behind(mask: Term) -> Numbers:
    """What a mask's numbers rest on; nothing where they come from tests."""
    found = Numbers()
    seen: set[ir.Value] = set()
    waiting = [mask.example()]
    while waiting:
        value = waiting.pop()
        if value in seen or value.dtype == ir.DataType.BOOL:
            continue
        seen.add(value)
        if value.is_graph_input():
            found.inputs.append(value)
        elif (operands := _operands(value)) is None:
            found.unknown = value
        else:
            waiting += operands
    return found


def _operands(value: ir.Value) -> list[ir.Value] | None:
    """The values that a value is 0 or 1 with; None where it may be something else even so."""
    array = constant(value)
    if array is not None:
        return [] if bool(((array == 0) | (array == 1)).all()) else None
    node = value.producer()
    if node is None:
        return None
    operands = [item for item in node.inputs if item is not None]
    if _clamped(value):
        return []
    if node.op_type in _KEEPS:
        return operands[:1]
    if node.op_type in _CLOSED:
        return operands
    if node.op_type == "Where":
        return operands[1:]
    if node.op_type == "Sub" and (one := constant(operands[0])) is not None and bool((one == 1).all()):
        return operands[1:]
    return None


def _clamped(value: ir.Value) -> bool:
    """Whether a value is a whole number cut to what lies between 0 and 1."""
    ends: set[tuple[str, int]] = set()
    while (node := value.producer()) is not None and node.op_type in ("Clip", "Min", "Max") and node.inputs[0]:
        sides = ("Max", "Min") if node.op_type == "Clip" else (node.op_type,)
        for side, bound in zip(sides, node.inputs[1:], strict=False):
            array = constant(bound)
            if array is not None and array.size == 1 and array.reshape(-1)[0] in (0, 1):
                ends.add((side, int(array.reshape(-1)[0])))
        value = node.inputs[0]
    return ends == {("Max", 0), ("Min", 1)} and _is_whole(value)


def _is_whole(value: ir.Value) -> bool:
    """Whether a value holds whole numbers, converted or not."""
    while (node := value.producer()) is not None and node.op_type in _KEEPS and node.inputs[0] is not None:
        if value.dtype is not None and value.dtype.is_integer():
            break
        value = node.inputs[0]
    return value.dtype is not None and (value.dtype.is_integer() or value.dtype == ir.DataType.BOOL)

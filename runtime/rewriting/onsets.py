"""Finds the numbers of steps at which a constant of a graph sets in: a proof of streams must be longer than these.

`lengths.clamp(max=20)` does nothing before step 21, and `steps * 0.02 > 8` before step 401. What is looked for are
constants that meet a count of steps: lengths, the size of an axis, positions, sums over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from seqport.runtime.rewriting.reading import Reading, attribute, nodes_within

# Operators that give counts where they are given some.
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Floor", "Ceil", "Round", "Sqrt", "Pow", "Log", "Exp"}
_PARTS = {"Gather", "Squeeze", "Unsqueeze", "Reshape", "Concat", "Slice", "Expand", "Tile", "Transpose", "Identity"}
_CHOICES = {"Min", "Max", "Clip", "Where", "Range", "CumSum", "ReduceMax", "ReduceMin", "ReduceSum", "Cast"}
_COUNTS = _ARITHMETIC | _PARTS | _CHOICES | {"Reciprocal"}
# Operators that make flags, that keep them, and that count them.
_COMPARE = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"}
_LOGIC = {"Not", "And", "Or", "Xor", "IsNaN"}
_KEEP_FLAGS = _LOGIC | {"Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Identity", "Where", "Mul"}
_COUNT_FLAGS = {"CumSum", "ReduceSum", "ReduceMax", "ArgMax", "ArgMin", "NonZero"}
# Operators that do otherwise on either side of a constant.
_TURN = _COMPARE | {"Min", "Max", "Clip", "Mod", "Div", "Slice", "Trilu", "Pad"}
_NEVER = 1 << 31  # a stream of so many steps does not come
_MOST_ELEMENTS = 1 << 16


def onsets(model: onnx.ModelProto, counts: Iterable[str]) -> dict[int, str]:
    """Numbers of steps at which something may set in, and the node where it does.

    Args:
        model: the graph.
        counts: the inputs that count steps.
    """
    reading = Reading(model)
    known = _counts(model, counts)
    found: dict[int, str] = {}
    for node in nodes_within(model.graph):
        if node.op_type not in _TURN or not known.intersection(node.input):
            continue
        numbers = [number for name in node.input for number in _numbers(reading, name)]
        for count in known.intersection(node.input):
            for steps in (_steps_of(reading, known, count, number) for number in numbers):
                found.setdefault(steps, f"{node.op_type} {node.name!r}")
    return {steps: node for steps, node in found.items() if 1 < steps < _NEVER}


def _counts(model: onnx.ModelProto, counts: Iterable[str]) -> set[str]:
    """Values that follow from numbers of steps."""
    known = set(counts)
    flags = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.BOOL}
    for node in nodes_within(model.graph):
        given = flags.intersection(node.input)
        if node.op_type in _COMPARE | _LOGIC or (node.op_type in _KEEP_FLAGS and given):
            flags.update(node.output)
        counted = node.op_type in _COUNTS and known.intersection(node.input)
        if counted or node.op_type in ("Shape", "Size") or (node.op_type in _COUNT_FLAGS and given):
            known.update(name for name in node.output if name)
    return known


def _numbers(reading: Reading, name: str) -> Iterator[float]:
    """The largest and smallest sizes of a constant's elements."""
    tensor = reading.initializers.get(name)
    node = reading.producers.get(name)
    if tensor is None and node is not None and node.op_type == "Constant":
        value = attribute(node, "value")
        tensor = value if isinstance(value, onnx.TensorProto) else None
    if tensor is None or tensor.external_data or int(np.prod(tensor.dims, dtype=np.int64)) > _MOST_ELEMENTS:
        return
    array = numpy_helper.to_array(tensor)
    if array.dtype.kind not in "iuf" or not array.size:
        return
    values = np.abs(array.astype(np.float64))
    yield from {float(values.max()), float(values.min())}


def _steps_of(reading: Reading, known: set[str], count: str, number: float) -> int:
    """At which number of steps a count reaches a number: `steps * 0.02` reaches 8 at 400."""
    while math.isfinite(number) and (node := reading.producers.get(count)) is not None:
        inner = [name for name in node.input if name in known]
        constants = [n for name in node.input if name not in known for n in _numbers(reading, name)]
        if len(inner) != 1:
            break
        if node.op_type in ("Mul", "Div", "Add", "Sub") and len(constants) == 1:
            (other,) = constants
            if node.op_type in ("Mul", "Div") and not other:
                break
            match node.op_type:
                case "Mul":
                    number = number / other
                case "Div":
                    number = number * other if node.input[0] == inner[0] else other / max(number, 1e-9)
                case _:
                    number = number + other  # in either direction: further is never wrong
        elif node.op_type == "Sqrt":
            number = number * number
        elif node.op_type not in ("Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Floor", "Ceil", "Transpose"):
            break
        count = inner[0]
    return math.ceil(number) if abs(number) < _NEVER else _NEVER

"""Finds the numbers of steps at which a constant of a graph sets in: a proof of streams must be longer than these.

`lengths.clamp(max=20)` does nothing before step 21, and `steps * 0.02 > 8` before step 401. What is looked for are
constants that meet a count of steps (see `counts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from seqport.runtime.rewriting.counts import COMPARE, Counts
from seqport.runtime.rewriting.reading import Reading, attribute, nodes_within

# Operators that do otherwise on either side of a constant, and the inputs which hold that; None for all.
_TURN: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys((*COMPARE, "Min", "Max", "Mod", "Div")),
    "Clip": (1, 2),
    "Slice": (1, 2),
    "Trilu": (1,),
    "Pad": (1,),
}
# Operators that do so at every whole number, the first of which is 1.
_ROUND = frozenset({"Floor", "Ceil", "Round"})
# Operators behind which a count reaches the same number.
_SAME = _ROUND | {"Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Transpose", "Neg", "Abs"}
_NEVER = 1 << 31  # a stream of so many steps does not come
_MOST_ELEMENTS = 1 << 16


def onsets(model: onnx.ModelProto, counts: Iterable[str]) -> dict[int, str]:
    """Numbers of steps at which something may set in, and the node where it does.

    Args:
        model: the graph.
        counts: the inputs that count steps.
    """
    reading = Reading(model)
    known = Counts(model, counts)
    found: dict[int, str] = {}
    for node in nodes_within(model.graph):
        met = known.names.intersection(node.input)
        for number in set(_turns_at(node, reading, known)) if met else ():
            for count in met:
                found.setdefault(_steps_of(reading, known.names, count, number), f"{node.op_type} {node.name!r}")
    return {steps: node for steps, node in found.items() if 1 < steps < _NEVER}


def _turns_at(node: onnx.NodeProto, reading: Reading, known: Counts) -> Iterator[float]:
    """The numbers on either side of which a node does otherwise."""
    rounds = node.op_type == "Cast" and node.input[0] in known.floats and node.output[0] not in known.floats
    if rounds or node.op_type in _ROUND:
        yield 1.0
    if node.op_type not in _TURN or (node.op_type == "Div" and node.output[0] in known.floats):
        return
    places = _TURN[node.op_type]
    for place, name in enumerate(node.input):
        if places is None or place in places:
            yield from _numbers(reading, name)


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
        elif node.op_type in ("Sqrt", "Log", "Exp", "Reciprocal"):
            number = _undone(node.op_type, number)
        elif node.op_type == "Pow" and node.input[0] == inner[0] and len(constants) == 1 and constants[0] > 0:
            number = abs(number) ** (1 / constants[0])
        elif node.op_type not in _SAME:
            break
        count = inner[0]
    return math.ceil(number) if abs(number) < _NEVER else _NEVER


def _undone(kind: str, number: float) -> float:
    """The number of which a function gives another one."""
    match kind:
        case "Sqrt":
            return number * number
        case "Log":
            return math.exp(min(number, 700.0))
        case "Exp":
            return math.log(max(number, 1.0))
        case _:
            return 1 / max(abs(number), 1e-9)

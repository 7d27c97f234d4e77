"""Which inputs are ids, looked up in a table: frameworks refuse ids outside of it; ONNX's Gather counts from its end.

Needs: the finished graph of a model. Guarantees: input → the smallest and the largest id of every table that all of its
values reach. A model that treats ids first (wraps, clips or replaces them) says itself what they may be, and PyTorch's
`table[ids]`, which counts from the end as well, is no Gather.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

# Every element goes through, and keeps its value.
_KEEPS = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Expand"})
_WIDENS = frozenset({"Cast", "Mul", "DequantizeLinear", "Identity"})
_SIGNED = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8})
_INTEGERS = _SIGNED | {ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64}


Range = tuple[int, int]
Follow = Callable[[ir.Value | None, Range], list[tuple[ir.Value, Range]]]


def id_ranges(graph: ir.Graph, *, partly: bool = False) -> dict[str, Range]:
    """Each input of ids to the smallest and largest that it may hold.

    Args:
        graph: of the model.
        partly: also inputs of which some values alone reach a table: ids that are good ones, to draw from.
    """
    found: dict[str, Range] = {}
    for node in graph:
        table, ids = (*node.inputs, None)[:2] if node.op_type == "Gather" else (None, None)
        shape = _constant_shape(table)
        if shape is None or ids is None:
            continue
        rows = shape[node.attributes.get_int("axis", 0)]
        for value, (low, high) in _sources(ids, (0, rows - 1), partly=partly):
            if value.name:
                before = found.get(value.name, (low, high))
                found[value.name] = max(low, before[0]), min(high, before[1])
    return found


def _sources(ids: ir.Value | None, within: Range, *, partly: bool) -> list[tuple[ir.Value, Range]]:
    """The inputs all of whose values become these ids, and what each may hold for the ids to be within a range."""
    follow = partial(_sources, partly=partly)
    node = ids.producer() if ids is not None else None
    if ids is None or node is None:
        return [(ids, within)] if ids is not None and ids.is_graph_input() and ids.dtype in _INTEGERS else []
    if node.op_type in _KEEPS or _turns_round(node) or (partly and node.op_type in ("Slice", "Gather")):
        return follow(node.inputs[0], within)
    if node.op_type == "Concat":
        return [found for value in node.inputs for found in follow(value, within)]
    if node.op_type == "Where":
        return _from_the_end(node, within, follow)
    if (added := _added(node)) is not None:
        return follow(added[0], (within[0] - added[1], within[1] - added[1]))
    return []


def _from_the_end(node: ir.Node, within: Range, follow: Follow) -> list[tuple[ir.Value, Range]]:
    """Of `where(ids < 0, ids + rows, ids)`: negative ids are those that the sum brings within the range."""
    condition, negative, other = node.inputs
    less = condition.producer() if condition is not None else None
    if less is None or less.op_type != "Less" or less.inputs[1] is None or _number(less.inputs[1]) != 0:
        return []
    asked, counted, kept = (follow(value, within) for value in (less.inputs[0], negative, other))
    if not len(asked) == len(counted) == len(kept) == 1 or not asked[0][0] is counted[0][0] is kept[0][0]:
        return []
    return [(kept[0][0], (counted[0][1][0], kept[0][1][1]))]


def _added(node: ir.Node) -> tuple[ir.Value, int] | None:
    """The value to which a node adds one whole number, and that number."""
    if node.op_type not in ("Add", "Sub"):
        return None
    first, second = node.inputs
    if first is None or second is None:
        return None
    if (number := _number(second)) is not None:
        return first, number if node.op_type == "Add" else -number
    if node.op_type == "Add" and (number := _number(first)) is not None:
        return second, number
    return None


def _turns_round(node: ir.Node) -> bool:
    """Whether a Slice takes all elements of its axes, from the last to the first."""
    numbers = [value.const_value for value in node.inputs[1:] if value is not None]
    if node.op_type != "Slice" or len(numbers) != 4 or any(number is None for number in numbers):
        return False
    starts, ends, _, steps = (number.numpy().reshape(-1).tolist() for number in numbers if number is not None)
    return all(s == -1 and n == -1 and e < -(2**31) + 2 for s, e, n in zip(starts, ends, steps, strict=True))


def _number(value: ir.Value) -> int | None:
    constant = value.const_value
    return int(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a constant, or of one that is only widened (a reduced precision)."""
    if value is None:
        return None
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    node = value.producer()
    if node is None or node.op_type not in _WIDENS:
        return None
    if node.op_type != "Mul":
        return _constant_shape(node.inputs[0])
    shapes = [_constant_shape(each) for each in node.inputs]
    return None if None in shapes else np.broadcast_shapes(*(shape for shape in shapes if shape is not None))

"""Lets a graph decide evenly, for the proof of streams: flags and classes that never change prove nothing by agreeing.

Needs: a model, and what its nodes are given for one random sequence.
Does: in front of each comparison of a recurrent layer's answers, or whose flags are pooled, and of each choice of the
largest of such answers, the values are moved, so that half of them lie on either side; what is compared for equality,
which random numbers never show, is compared for which is greater.
Guarantees: which steps are mixed with which is as before, whatever the thresholds are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from seqport.runtime.rewriting.reading import Reading, is_recurrent

_COMPARE = frozenset({"Greater", "Less", "GreaterOrEqual", "LessOrEqual"})
_CHOOSE = frozenset({"ArgMax", "ArgMin"})
# Operators that pool flags: `(x == 7).any(1)`.
_POOL = ("Reduce", "Arg", "CumSum", "TopK")
_PREFIX = "stream/even/"
Values = Callable[[list[str]], Mapping[str, np.ndarray]]


def deciders(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that make whole numbers or flags of what recurrent layers answered, or flags that are pooled."""
    reading = Reading(model)
    learned, pooled = _learned(model), _pooled(model, reading)
    timed = {value.name for value in model.graph.input if len(value.type.tensor_type.shape.dim) > 1}

    def decides(node: onnx.NodeProto) -> bool:
        if node.op_type in _COMPARE | _CHOOSE and any(name in learned for name in reading.reads(node)):
            return True
        compares = node.op_type in _COMPARE | {"Equal"} and node.output[0] in pooled
        return compares and bool(reading.upstream(node.input[0])[0] & timed)

    return [node for node in model.graph.node if decides(node)]


def even(model: onnx.ModelProto, values: Values) -> onnx.ModelProto | None:
    """A copy that decides evenly; None where nothing is decided.

    Args:
        model: the model.
        values: inner values of it, by name, for one random sequence.
    """
    nodes = deciders(model)
    found = values(list({name for node in nodes for name in node.input if name})) if nodes else {}
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    places = {node.output[0]: place for place, node in enumerate(model.graph.node)}
    inserted = 0
    for node in nodes:
        by = _shift(node, found)
        if by is None:
            continue
        place = places[node.output[0]] + inserted
        name = f"{_PREFIX}{inserted}"
        moved.graph.initializer.append(numpy_helper.from_array(by, f"{name}.by"))
        moved.graph.node.insert(place, helper.make_node("Sub", [node.input[0], f"{name}.by"], [name], name))
        moved.graph.node[place + 1].input[0] = name
        if node.op_type == "Equal":
            moved.graph.node[place + 1].op_type = "Greater"
        inserted += 1
    return moved if inserted else None


def _learned(model: onnx.ModelProto) -> set[str]:
    """Values that recurrent layers' answers reach."""
    reading = Reading(model)
    learned: set[str] = set()
    for node in model.graph.node:
        if is_recurrent(node) or node.op_type in ("Scan", "Loop") or learned.intersection(reading.reads(node)):
            learned.update(name for name in node.output if name)
    return learned


def _pooled(model: onnx.ModelProto, reading: Reading) -> set[str]:
    """Values that are pooled, but for those that lengths are made from."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type.startswith(_POOL) or (not is_recurrent(node) and not found.isdisjoint(node.output)):
            found.update(reading.reads(node))
    return found - reading.in_front_of_lengths()


def _shift(node: onnx.NodeProto, found: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """By how much the first operand is moved, for each of its features."""
    value = found.get(node.input[0])
    if value is None or value.ndim == 0 or value.dtype.kind == "b" or not np.isfinite(value).all():
        return None
    if node.op_type in _CHOOSE:
        return _middle(value) if value.shape[-1] > 1 and value.dtype.kind == "f" else None
    other = found.get(node.input[1])
    if other is None or not np.isfinite(other).all() or np.broadcast_shapes(value.shape, other.shape) != value.shape:
        return None
    apart = value - other
    return _middle(apart) if value.dtype.kind == "f" else np.asarray(np.median(apart), value.dtype)


def _middle(value: np.ndarray) -> np.ndarray:
    """The middle of each feature's values, in the widest gap near there, so that no rounding decides."""
    rows = np.sort(value.reshape(-1, value.shape[-1]).astype(np.float64), axis=0)
    count = len(rows)
    if count < 4:
        return rows.mean(0).astype(value.dtype)
    near = rows[count * 3 // 8 : max(count * 5 // 8, count * 3 // 8 + 2)]
    widest = np.diff(near, axis=0).argmax(0)
    columns = np.arange(rows.shape[1])
    return ((near[widest, columns] + near[widest + 1, columns]) / 2).astype(value.dtype)

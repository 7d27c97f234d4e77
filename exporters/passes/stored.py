"""Weights stored in fewer bits, and widened again where they are read.

Needs: a tidy graph. Guarantees: the same operators on the same activations, in the precision that they had: only the
weights are rounded. ONNX Runtime widens a matrix once, when it loads the file, because nothing but constants is
behind it (it never does that to a DequantizeLinear); rows of a table are widened after they were taken from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, replace
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.roles import NATIVE_OPS

# Elements below which the operators that widen a tensor cost more bytes than it saves.
SMALLEST = 64
HALVES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
# The operator and the position of its weights → the axes, over which the elements that meet in one sum lie.
_SUMMED: Mapping[tuple[str, int], Sequence[int]] = {
    ("MatMul", 1): (-2,),
    ("Conv", 1): (1, 2, 3, 4),
    ("ConvTranspose", 1): (0, 2, 3, 4),
    **{(op, place): (2,) for op in NATIVE_OPS for place in (1, 2)},
}
_INT8 = 127


class Stored(NamedTuple):
    """A weight in fewer bits: its tensor, and what it is multiplied by once it is wide again."""

    data: np.ndarray
    scale: np.ndarray | None


def store_weights(job: Job, kind: str) -> list[str]:
    """Store every weight that the kind can hold; the names of those that it was to hold and cannot."""
    narrow = _int8 if kind == "int8-weights" else _half(HALVES[kind])
    left = []
    for value in list(job.model.graph.initializers.values()):
        if not _is_weight(value):
            continue
        stored = narrow(value)
        if stored is None:
            left.append(value.name or "")
        else:
            _widen(value, stored)
    return left


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) or value.is_graph_output():
        return False
    return tensor.size >= SMALLEST and bool(value.uses())


def _half(dtype: ir.DataType) -> Callable[[ir.Value], Stored | None]:
    target = dtype.numpy()
    largest = 65504.0 if dtype == ir.DataType.FLOAT16 else float(np.finfo(np.float32).max)

    def narrow(value: ir.Value) -> Stored | None:
        array = _array(value)
        fits = -largest <= array.min() and array.max() <= largest  # false for NaN too
        return Stored(array.astype(target), None) if fits else None

    return narrow


def _int8(value: ir.Value) -> Stored | None:
    """Int8 with one scale for each output channel; None where the weight is no matrix of products."""
    axes = _summed_axes(value)
    array = _array(value)
    if axes is None or not (np.isfinite(array.min()) and np.isfinite(array.max())):
        return None
    return Stored(*quantised(array, axes))


def quantised(array: np.ndarray, axes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Int8 values, and the scales that they are multiplied by; elements along `axes` share a scale."""
    largest = np.maximum(array.max(axis=tuple(axes), keepdims=True), -array.min(axis=tuple(axes), keepdims=True))
    scale = np.where(largest > 0, largest / _INT8, 1).astype(array.dtype)
    values = array / scale
    np.rint(values, out=values)
    return values.astype(np.int8), scale


def _summed_axes(value: ir.Value) -> tuple[int, ...] | None:
    """The axes that share a scale: those of a table's row where one reader takes rows, else the first product's."""
    rank = len(_array(value).shape)
    if any(_is_table(use.node, use.idx) for use in value.uses()):
        return tuple(range(1, rank)) if rank > 1 else None
    for use in value.uses():
        node = use.node
        if node.op_type == "Gemm" and use.idx == 1:
            return (1,) if node.attributes.get_int("transB", 0) else (0,)
        axes = _SUMMED.get((node.op_type, use.idx)) if node.domain == "" else None
        if axes is not None and rank > 1:
            return tuple(axis for axis in axes if axis < rank)
    return None


def _is_table(node: ir.Node, place: int) -> bool:
    return node.op_type == "Gather" and place == 0 and node.attributes.get_int("axis", 0) == 0


def _widen(value: ir.Value, stored: Stored) -> None:
    """Let the readers of a weight read what was stored, widened; rows of a table only after they were taken."""
    assert value.const_value is not None
    dtype, uses = value.const_value.dtype, list(value.uses())
    first = next(iter(_graph(value)))
    build = Builder(first, value.name or "")
    data = build.const(stored.data, stored.data.dtype, "stored")
    scale = None if stored.scale is None else build.const(stored.scale, stored.scale.dtype, "scale")

    def wide(build: Builder, data: ir.Value, scale: ir.Value | None) -> ir.Value:
        found = build.op("Cast", data, to=dtype)
        return found if scale is None else build.op("Mul", found, scale)

    whole: ir.Value | None = None
    for use in uses:
        node, graph = use.node, use.node.graph
        if _is_table(node, use.idx) and isinstance(graph, ir.Graph):
            near = Builder(node, node.name or "")
            taken = [
                None if table is None else near.op("Gather", table, node.inputs[1], axis=0) for table in (data, scale)
            ]
            assert taken[0] is not None
            replace(graph, node.outputs[0], wide(near, taken[0], taken[1]), node)
        else:
            whole = whole or wide(build, data, scale)
            node.replace_input_with(use.idx, whole)


def _graph(value: ir.Value) -> ir.Graph:
    graph = value.graph
    assert isinstance(graph, ir.Graph), "an initializer belongs to a graph"
    return graph


def _array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()

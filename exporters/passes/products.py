"""A product of many axes with a matrix is one MatMul.

Needs: any graph. Guarantees: where a graph flattens a value to a matrix, multiplies it by a constant one and gives the
product its axes back, one MatMul does the same, without the arithmetic on shapes. TensorFlow writes a Dense layer on
sequences in that way, as a tensordot.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, constant, replace
from seqport.exporters.passes.job import Job

# Extents that no graph has by chance, for as many axes as recurrent models have.
_TRIALS = ((31, 37, 41), (53, 43, 47))
_RANKS = (3, 4)


def join_products(job: Job) -> None:
    """Write every flattened product as one."""
    graph = job.model.graph
    for node in list(graph):
        found = _flattened(node)
        if found is not None:
            x, back = found
            joined = Builder(back, node.name or "product").op("MatMul", x, node.inputs[1])
            replace(graph, back.outputs[0], joined, back)
            graph.remove(back, safe=True)  # a graph's output has taken its name; the rest is dead, and dropped later


def _flattened(node: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """What a product flattens, and the Reshape behind it; None where it is another product."""
    if node.op_type != "MatMul" or node.domain or node.outputs[0].is_graph_output():
        return None
    a, b = node.inputs
    before, uses = a.producer() if a else None, [use.node for use in node.outputs[0].uses()]
    weights = constant(b)
    if before is None or weights is None or weights.ndim != 2 or len(uses) != 1:
        return None
    back = uses[0]
    if any(reshape.op_type != "Reshape" or "allowzero" in reshape.attributes for reshape in (before, back)):
        return None
    x = before.inputs[0]
    if x is None:
        return None
    ranks = _RANKS if x.shape is None else [rank for rank in _RANKS if rank == x.shape.rank()]
    return (x, back) if any(_is_flattened(x, before, back, rank, *weights.shape) for rank in ranks) else None


def _is_flattened(x: ir.Value, before: ir.Node, back: ir.Node, rank: int, rows: int, columns: int) -> bool:
    """Whether x, of so many axes, is flattened to [n, rows], and the product given the axes of x, but for the last."""
    for trial in _TRIALS:
        leading = trial[: rank - 1]
        known = _shapes(x, (*leading, rows))
        wanted = _evaluated(back.inputs[1], known)
        flat = _reshaped((*leading, rows), _evaluated(before.inputs[1], known))
        whole = _reshaped((prod(leading), columns), wanted)
        if wanted is None or flat != (prod(leading), rows) or whole != (*leading, columns):
            return False
        # That x has so many features is told by its shape, or by the product, which has as many elements as the axes
        # of x say, only if it has one row for each of them.
        if (wanted == -1).any() and (x.shape is None or x.shape[-1] != rows):
            return False
    return True


def _shapes(x: ir.Value, shape: tuple[int, ...]) -> dict[ir.Value, tuple[int, ...]]:
    """The shape of x, and of what it was transposed from."""
    known = {x: shape}
    node = x.producer()
    if node is not None and node.op_type == "Transpose" and "perm" in node.attributes:
        order = node.attributes["perm"].as_ints()
        source = node.inputs[0]
        if source is not None and len(order) == len(shape):
            known[source] = tuple(shape[order.index(axis)] for axis in range(len(shape)))
    return known


def _reshaped(shape: Sequence[int], wanted: np.ndarray | None) -> tuple[int, ...] | None:
    """What Reshape makes of a shape."""
    if wanted is None or wanted.ndim != 1:
        return None
    given = [int(w) for w in wanted]
    if any(extent == 0 and axis >= len(shape) for axis, extent in enumerate(given)):
        return None
    result = [extent or shape[axis] for axis, extent in enumerate(given)]
    rest = prod(extent for extent in result if extent != -1)
    return tuple(prod(shape) // rest if extent == -1 else extent for extent in result)


def _evaluated(value: ir.Value | None, known: dict[ir.Value, tuple[int, ...]]) -> np.ndarray | None:
    """The numbers that arithmetic on known shapes gives; None where it is anything else."""
    found = constant(value)
    if found is not None or value is None:
        return found
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Shape":
        shape = known.get(node.inputs[0]) if node.inputs[0] else None
        start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
        return None if shape is None else np.array(shape[start:end], np.int64)
    inputs = [_evaluated(one, known) for one in node.inputs]
    if any(one is None for one in inputs):
        return None
    try:
        return _computed(node, inputs)  # type: ignore[arg-type]
    except (IndexError, ValueError):  # of a value of more axes
        return None


def _computed(node: ir.Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    """What arithmetic on shapes is made of."""
    first = inputs[0]
    match node.op_type:
        case "Cast" | "Identity":
            return first
        case "Gather":
            return np.take(first, inputs[1].astype(np.int64), axis=0) if first.ndim == 1 else None
        case "Concat":
            return np.concatenate(inputs) if all(one.ndim == 1 for one in inputs) else None
        case "Mul":
            return first * inputs[1]
        case "ReduceProd":
            kept = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
            return np.prod(first, keepdims=bool(kept)) if first.ndim == 1 else None
        case "Unsqueeze":
            return first.reshape(1) if first.ndim == 0 else None
        case "Squeeze":
            return first.reshape(()) if first.size == 1 else None
        case "Slice":
            return _sliced(first, inputs[1:])
    return None


def _sliced(vector: np.ndarray, given: Sequence[np.ndarray]) -> np.ndarray | None:
    if vector.ndim != 1 or any(one.size != 1 for one in given):
        return None
    start, end = (int(one.reshape(-1)[0]) for one in given[:2])
    step = int(given[3].reshape(-1)[0]) if len(given) > 3 else 1
    return vector[start:end:step] if step > 0 else None

"""The traced number of steps, taken out of a graph that was unrolled at it.

Needs: a graph whose loops are rolled back, and the axes that the trace fixed, with sizes that nothing else in the graph
has. Guarantees: constants of that size (limits of ranges, sizes in shapes) are read off the input instead. What
else depends on it, the probe finds at other sizes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, constant
from seqport.exporters.passes.job import Job

# Operators whose constant inputs hold sizes, and which of their inputs those are.
_SIZES: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Reshape", "Expand", "Range", "Tile"), (1,)),
    **dict.fromkeys(("ConstantOfShape", "Unsqueeze", "Cast"), (0,)),
    **dict.fromkeys(("Concat", "Where", "Mul", "Add", "Sub", "Div"), None),  # shape arithmetic: any of them
    "Slice": (2,),
}


_LARGEST_RANK = 8


def generalise(job: Job) -> None:
    """Replace the sizes of axes that the trace fixed."""
    for axis, size in job.capture.fixed_axes.items():
        source = _source(job, axis)
        if source is not None:
            _replace(job.model.graph, size, *source)


def _source(job: Job, axis: str) -> tuple[ir.Value, int] | None:
    """An input that has the axis, and at which position."""
    for value, item in zip(job.model.graph.inputs, job.capture.inputs, strict=True):
        for position, name in item.dynamic_axes.items():
            if name == axis:
                return value, position
    return None


def _replace(graph: ir.Graph, size: int, source: ir.Value, position: int) -> None:
    first = next(iter(graph))
    build = Builder(first, source.name or "input")
    measured: ir.Value | None = None
    for node in list(graph):
        places = _SIZES.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if places is not None and index not in places:
                continue
            array = constant(value)
            if array is None or array.dtype.kind != "i" or array.ndim > 1 or size not in np.atleast_1d(array):
                continue
            if places is None and not all(_is_of_shapes(other) for other in node.inputs if other is not value):
                continue  # a number of the user's own, in arithmetic on data
            if measured is None:
                measured = build.op("Shape", source, start=position, end=position + 1)
            node.replace_input_with(index, _measured(build, array, size, measured))
    graph.sort()


def _is_of_shapes(value: ir.Value | None) -> bool:
    """Whether a value is small and of a known size, as what is computed from shapes is, and data is not."""
    if value is None:
        return True
    shape = value.shape
    return shape is not None and all(isinstance(n, int) and n <= _LARGEST_RANK for n in shape) and shape.rank() <= 1


def _measured(build: Builder, array: np.ndarray, size: int, measured: ir.Value) -> ir.Value:
    """The array with every element that is the size read off the input."""
    if array.ndim == 0:
        return build.op("Cast", build.op("Squeeze", measured), to=ir.DataType.from_numpy(array.dtype))
    parts = [measured if int(item) == size else build.const([item]) for item in array.tolist()]
    whole = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=0)
    return build.op("Cast", whole, to=ir.DataType.from_numpy(array.dtype))

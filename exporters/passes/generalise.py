"""The traced number of steps, taken out of a graph that was unrolled at it.

Needs: a graph whose loops are rolled back, and the axes that the trace fixed, with sizes that nothing else in the graph
has. Guarantees: constants of that size (limits of ranges, sizes in shapes) are read off the input instead. Whether a
number in arithmetic on data is that size or the user's own, the same model traced at another size tells. What else
depends on it, the probe finds at other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


# Operators in which a number may be a size that the module computed with.
_ARITHMETIC = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Clip",
        "Min",
        "Max",
        "Pow",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
    }
)
_LARGEST_RANK = 8


def generalise(job: Job) -> None:
    """Replace the sizes of axes that the trace fixed."""
    for axis, size in job.capture.fixed_axes.items():
        _replace(job, axis, size)


@dataclass(frozen=True)
class Number:
    """A constant that may be a size: of which node's which input, and what it would be."""

    node: ir.Node
    index: int
    axis: str
    form: str


# What a module may make of a size before it computes with it.
_FORMS: dict[str, Callable[[int], float]] = {
    "the size": lambda n: n,
    "one less": lambda n: n - 1,
    "one more": lambda n: n + 1,
    "its inverse": lambda n: 1 / n,
}


def sizes_in_arithmetic(job: Job) -> list[Number]:
    """Constants of a single element that may come from the size of a fixed axis."""
    found = []
    for node in job.model.graph:
        for index, value in enumerate(node.inputs):
            array = constant(value)
            if array is None or array.size != 1 or array.dtype.kind not in "if" or node.op_type not in _ARITHMETIC:
                continue
            number = array.reshape(-1)[0]
            for axis, size in job.capture.fixed_axes.items():
                forms = [
                    name
                    for name, of in _FORMS.items()
                    if number == array.dtype.type(of(size)) and (array.dtype.kind == "f" or number == of(size))
                ]
                found += [Number(node, index, axis, name) for name in forms]
    return found


def generalise_arithmetic(job: Job, other: Job, numbers: Sequence[Number]) -> None:
    """Replace those numbers that are another size's in a trace at other sizes.

    Args:
        job: rolled.
        other: the same model, rolled after a trace with other sizes.
        numbers: of the job's graph.
    """
    nodes, others = list(job.model.graph), list(other.model.graph)
    if [node.op_type for node in nodes] != [node.op_type for node in others]:
        return  # the probe judges
    twin = dict(zip(nodes, others, strict=True))
    for number in numbers:
        array, again = (constant(node.inputs[number.index]) for node in (number.node, twin[number.node]))
        expected = _FORMS[number.form](other.capture.fixed_axes[number.axis])
        if array is not None and again is not None and again.reshape(-1)[0] == again.dtype.type(expected):
            _read_off(job, number, array)
    job.model.graph.sort()


def _read_off(job: Job, number: Number, like: np.ndarray) -> None:
    build = Builder(number.node, number.axis)
    size = size_of(job, number.axis, build)
    if size is None:
        return
    if number.form in ("one less", "one more"):
        size = build.op("Add", size, build.const([1 if number.form == "one more" else -1]))
    size = build.op("Cast", size, to=ir.DataType.from_numpy(like.dtype))
    if number.form == "its inverse":
        size = build.op("Reciprocal", size)
    number.node.replace_input_with(number.index, size if like.ndim else build.op("Squeeze", size))


def size_of(job: Job, axis: str, build: Builder) -> ir.Value | None:
    """The size of a fixed axis, int64 [1]: an input's, or what an output tells; None without either."""
    if axis in job.capture.told:
        return next(value for value in job.model.graph.outputs if value.name == axis)
    for value, item in zip(job.model.graph.inputs, job.capture.inputs, strict=True):
        for position, name in item.dynamic_axes.items():
            if name == axis:
                return build.op("Shape", value, start=position, end=position + 1)
    return None


def _replace(job: Job, axis: str, size: int) -> None:
    graph = job.model.graph
    build = Builder(next(iter(graph)), axis)
    measured: ir.Value | None = None
    sizes = {**_SIZES, "Slice": (1, 2)} if axis in job.capture.told else _SIZES  # what stands behind so many steps
    for node in list(graph):
        places = sizes.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if places is not None and index not in places:
                continue
            array = constant(value)
            if array is None or array.dtype.kind != "i" or array.ndim > 1 or size not in np.atleast_1d(array):
                continue
            if places is None and not all(_is_of_shapes(other) for other in node.inputs if other is not value):
                continue  # a number of the user's own, in arithmetic on data
            if measured is None:
                measured = size_of(job, axis, build)
            if measured is None:
                return
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

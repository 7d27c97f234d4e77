"""How far apart two steps may be that a graph's layers still mix: a proof must be longer than that.

A recurrent layer needs no more than a few steps to show a state that was lost. A convolution with a dilation of 16
shows nothing before step 17.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from seqport.runtime.rewriting.counts import Counts
from seqport.runtime.rewriting.reading import Dims, Reading, attribute, nodes_within

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
# Where a whole number says which steps are read: a slice, a padding, a band of an attention's mask.
_BY_NUMBERS = frozenset({"Slice", "Pad", "Trilu"})
# The same where positions are compared with it.
_BY_POSITIONS = frozenset({"Sub", "Add", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"})
_NO_END = (1 << 31) - 1  # what an open slice ends at, or beyond


def reach(model: onnx.ModelProto, dims: dict[str, Dims], time: str) -> int:
    """The steps that layers look back or ahead, added up; 0 where only recurrent layers mix steps.

    Args:
        model: the graph.
        dims: the shapes that are known (`known_dims`); an axis that is not known may be the steps.
        time: the name of the sequence axis.
    """
    reading = Reading(model)
    positions = Counts(model, ()).names
    total, numbers = 0, 0
    for node in nodes_within(model.graph):
        known = dims.get(node.input[0]) if node.input else None
        if node.op_type in _POOLS or node.op_type.startswith("Conv"):
            total += _window(node, reading, dims, time)
        elif node.op_type in _BY_NUMBERS or (node.op_type in _BY_POSITIONS and positions.intersection(node.input)):
            if known and _elsewhere(known, time):
                continue
            found = [n for name in node.input[1:] for n in reading.integers(name) or ()]
            numbers = max([numbers, *(abs(n) for n in found if abs(n) < _NO_END)])
    return total + numbers


def _elsewhere(known: Dims, time: str) -> bool:
    """Whether a value surely has no steps."""
    return all(axis is not None and axis != time for axis in known)


def _window(node: onnx.NodeProto, reading: Reading, dims: dict[str, Dims], time: str) -> int:
    sizes = attribute(node, "kernel_shape")
    if not isinstance(sizes, Sequence):
        weight = reading.initializers.get(node.input[1]) if len(node.input) > 1 else None
        sizes = list(weight.dims)[2:] if weight is not None else []
    dilations = attribute(node, "dilations")
    by = list(dilations) if isinstance(dilations, Sequence) else [1] * len(sizes)
    known = dims.get(node.input[0]) or (None,) * (2 + len(sizes))
    reached = [
        (size - 1) * dilation
        for size, dilation, axis in zip(sizes, by, known[2:], strict=False)
        if axis is None or axis == time
    ]
    return max(reached, default=0)

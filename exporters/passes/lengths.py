"""Where a mask or a state comes from, read off the graph.

Needs: any value of the graph. Guarantees nothing but what it returns: a mask that only says which
steps lie before a length is recognised as that length, and an initial state that is always zero
as no state at all. Neither changes the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import constant

# Ops that keep a value's elements as they are, up to element type and axes of size 1.
_TRANSPARENT = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze"})
# An end of a Slice that no axis reaches; tf2onnx writes it for "to the end".
_ENDLESS = 10**9
# Ops that only repeat, cut or join elements: zero in, zero out.
_SPREADS = frozenset(
    {
        "Identity",
        "Cast",
        "Expand",
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Slice",
        "Concat",
        "Transpose",
        "Tile",
        "Gather",
    }
)


def lengths_behind(mask: ir.Value) -> ir.Value | None:
    """The lengths [batch] where mask [batch, seq] is `arange(seq) < lengths[:, None]`, else None.

    Conversions, axes of size 1 that come and go, and transpositions between the comparison and the mask do not matter.
    """
    value, turned = _skip(mask, _TRANSPARENT), False
    while (node := value.producer()) is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
        value, turned = _skip(node.inputs[0], _TRANSPARENT), not turned
    if node is None or node.op_type not in ("Less", "Greater"):
        return None
    steps, lengths = node.inputs if node.op_type == "Less" else reversed(node.inputs)
    if steps is None or lengths is None or not _counts_steps(steps):
        return None
    return _row(lengths) if turned else _column(lengths)


def is_zero(value: ir.Value | None) -> bool:
    """Whether every element is the constant zero, at any shape."""
    if value is None:
        return True
    array = constant(value)
    if array is not None:
        return not np.any(array)
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return fill is None or not np.any(fill.as_tensor().numpy())
    if node.op_type == "Concat":
        return all(is_zero(item) for item in node.inputs)
    return node.op_type in _SPREADS and is_zero(node.inputs[0])


def _counts_steps(value: ir.Value) -> bool:
    """Whether the value is 0, 1, 2, … along the last axis."""
    node = _skip(value, _TRANSPARENT).producer()
    if node is None or node.op_type != "Range":
        return False
    start, delta = constant(node.inputs[0]), constant(node.inputs[2])
    return start is not None and delta is not None and not start.any() and bool((delta == 1).all())


def _row(value: ir.Value) -> ir.Value | None:
    """The [batch] itself, where it is compared with steps [seq, 1]."""
    source = _skip(value, frozenset({"Identity", "Cast"}))
    return source if _is_integer(source) and source.shape is not None and source.shape.rank() == 1 else None


def _column(value: ir.Value) -> ir.Value | None:
    """The [batch] behind [batch, 1]."""
    node = _skip(value, frozenset({"Identity", "Cast"})).producer()
    if node is None:
        return None
    if node.op_type == "Unsqueeze":
        axes = constant(node.inputs[1])
        source = node.inputs[0]
        if axes is None or source is None or axes.tolist() not in ([1], [-1]):
            return None
        return _integers(_skip(source, frozenset({"Identity", "Cast"})))
    if node.op_type == "Reshape":
        shape, source = constant(node.inputs[1]), node.inputs[0]
        rank_1 = source is not None and source.shape is not None and source.shape.rank() == 1
        return _integers(source) if shape is not None and shape.tolist() == [-1, 1] and rank_1 else None
    return None


def _integers(value: ir.Value | None) -> ir.Value | None:
    """The value where it is known to hold integers; a fraction of a length is a step that a mask keeps."""
    return value if value is not None and _is_integer(value) else None


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def _skip(value: ir.Value, ops: frozenset[str]) -> ir.Value:
    node = value.producer()
    while node is not None and (node.op_type in ops or _keeps_all(node)) and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _keeps_all(node: ir.Node) -> bool:
    """Whether a Slice takes everything, as x[None, :] becomes."""
    if node.op_type != "Slice":
        return False
    starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else np.array(1)
    if starts is None or ends is None or steps is None:
        return False
    return not starts.any() and bool((ends >= _ENDLESS).all() and (steps == 1).all())

"""Which graph inputs feed the data and which the lengths of each native recurrent node.

Needs: a lowered graph. Guarantees nothing but what it returns: the roles are read off the graph's
edges, never guessed from names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import onnx
import onnx_ir as ir

from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.recurrent import CELLS
from seqport.exporters.signature import Input

NATIVE_OPS = frozenset(op for op, _, _ in CELLS.values())
SEQUENCE_LENS = 4  # position among the inputs of RNN, GRU and LSTM
# ONNX Runtime's own operator for an LSTM that computes in int8.
QUANTISED_LSTM, QUANTISED_DOMAIN = "DynamicQuantizeLSTM", "com.microsoft"
# Operators whose result has a size that some of their inputs tell: these, by position.
_SIZE_OPERANDS = {
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Pad": (1,),
    "OneHot": (1,),
    "Slice": (1, 2, 4),
    "Resize": (2, 3),
    "TopK": (1,),
    "Loop": (0,),
}
_SHAPE_ONLY = frozenset({"Shape", "Size"})


def native_nodes(model: ir.Model) -> list[ir.Node]:
    """All native recurrent nodes, in the graph's order."""
    return [node for node in model.graph.all_nodes() if is_native(node)]


def is_native(node: ir.Node | onnx.NodeProto) -> bool:
    """Whether a node is a recurrent layer that ONNX Runtime runs as one operator."""
    if node.domain == QUANTISED_DOMAIN:
        return node.op_type == QUANTISED_LSTM
    return node.domain == "" and node.op_type in NATIVE_OPS


def lengths_source(node: ir.Node, inputs: Sequence[Input]) -> str | None:
    """The graph input whose lengths reach the node; "mask" for a mask or fractions; None without either."""
    value = node.inputs[SEQUENCE_LENS] if len(node.inputs) > SEQUENCE_LENS else None
    if value is None:
        return None
    names = upstream(value)
    whole = (item for item in inputs if is_per_row(item) and not item.dtype.startswith("float"))
    return next((item.name for item in whole if item.name in names), "mask")


def sizes_sources(model: ir.Model) -> set[str]:
    """The graph inputs whose values become lengths of a native node, or sizes, steps or places of what is made."""
    found: set[str] = set()
    for node in model.graph.all_nodes():
        places = (SEQUENCE_LENS,) if is_native(node) else _SIZE_OPERANDS.get(node.op_type, ())
        for place in places:
            value = node.inputs[place] if place < len(node.inputs) else None
            if value is not None:
                found |= upstream(value)
    return found


def data_sources(node: ir.Node, inputs: Sequence[Input]) -> tuple[str, ...]:
    """The graph inputs that reach the node's X and have a time axis of their own."""
    value = node.inputs[0]
    assert value is not None
    names = upstream(value)
    return tuple(item.name for item in inputs if item.name in names and len(item.axes) >= 2)


def upstream(value: ir.Value) -> set[str]:
    """Names of the graph inputs whose elements (not only shapes) reach a value.

    Behind a recurrent node only its X counts: an encoder's final state makes a decoder's output
    depend on the encoder's input, but gives them no common time axis.
    """

    def read(node: ir.Node) -> Iterable[ir.Value | None]:
        if is_native(node):
            return node.inputs[:1]
        return () if node.op_type in _SHAPE_ONLY else node.inputs

    return {item.name for item in walk_up(value, read) if item.is_graph_input() and item.name}


def walk_up(value: ir.Value | None, read: Callable[[ir.Node], Iterable[ir.Value | None]]) -> set[ir.Value]:
    """A value and all behind it, following of each node what `read` gives."""
    seen: set[ir.Value] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if item is None or item in seen:
            continue
        seen.add(item)
        node = item.producer()
        stack.extend(() if node is None else read(node))
    return seen


def time_axis(item: Input, batch_axis: str | int) -> int:
    """Position of an input's sequence axis: its dynamic axis beside the batch, else the first that is not the batch."""
    others = [i for i, axis in enumerate(item.axes) if axis != batch_axis or i > 0]
    dynamic = [i for i in others if isinstance(item.axes[i], str) and item.axes[i] != batch_axis]
    return (dynamic or others or [0])[0]

"""Which graph inputs feed the data and which the lengths of each native recurrent node.

Needs: a lowered graph. Guarantees nothing but what it returns: the roles are read off the graph's
edges, never guessed from names.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.recurrent import CELLS
from seqport.exporters.signature import Input

NATIVE_OPS = frozenset(op for op, _, _ in CELLS.values())
SEQUENCE_LENS = 4  # position among the inputs of RNN, GRU and LSTM
_SHAPE_ONLY = frozenset({"Shape", "Size"})


def native_nodes(model: ir.Model) -> list[ir.Node]:
    """All native recurrent nodes, in the graph's order."""
    return [node for node in model.graph.all_nodes() if node.domain == "" and node.op_type in NATIVE_OPS]


def lengths_source(node: ir.Node, inputs: Sequence[Input]) -> str | None:
    """The graph input whose lengths reach the node; "mask" for a mask; None without either."""
    value = node.inputs[SEQUENCE_LENS] if len(node.inputs) > SEQUENCE_LENS else None
    if value is None:
        return None
    names = upstream(value)
    return next((item.name for item in inputs if item.name in names and is_per_row(item)), "mask")


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
    names: set[str] = set()
    seen: set[ir.Value] = set()
    stack: list[ir.Value | None] = [value]
    while stack:
        item = stack.pop()
        if item is None or item in seen:
            continue
        seen.add(item)
        node = item.producer()
        if node is None:
            if item.is_graph_input() and item.name:
                names.add(item.name)
        elif node.op_type in NATIVE_OPS:
            stack.append(node.inputs[0])
        elif node.op_type not in _SHAPE_ONLY:
            stack.extend(node.inputs)
    return names


def time_axis(item: Input, batch_axis: str | int) -> int:
    """Position of an input's sequence axis: its dynamic axis beside the batch, else the first that is not the batch."""
    others = [i for i, axis in enumerate(item.axes) if axis != batch_axis or i > 0]
    dynamic = [i for i in others if isinstance(item.axes[i], str) and item.axes[i] != batch_axis]
    return (dynamic or others or [0])[0]

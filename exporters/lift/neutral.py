"""Emit one neutral recurrent node for a recognised cell, and the shapes behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.lift.cells import Cell
from seqport.exporters.passes.builder import Builder
from seqport.exporters.recurrent import CELLS, DOMAIN, OP_TYPE, RecurrentCall, is_recurrent


def neutral(
    build: Builder,
    before: ir.Node,
    name: str,
    cell: Cell,
    x: ir.Value,
    W_hx: np.ndarray,
    states: Sequence[ir.Value | None],
    *,
    lengths: ir.Value | None = None,
    mask: ir.Value | None = None,
    reverse: bool = False,
    padding: str = "zero",
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Y [seq, batch, H], h_T and c_T [1, batch, H].

    Args:
        build: where constants go.
        before: the node that the new one precedes.
        name: of the layer.
        cell: its kind, activations and all weights but W_hx.
        x: [seq, batch, input_dim].
        W_hx: [G * H, input_dim], gates in ONNX's order.
        states: h_0 (and c_0), each [1, batch, H] or None.
        lengths: [batch].
        mask: [batch, seq].
        reverse: from the last step to the first.
        padding: of the outputs, "zero" or "hold".
    """

    def weight(array: np.ndarray | None, role: str) -> ir.Value | None:
        return None if array is None else build.const(np.ascontiguousarray(array), np.float32, role)

    weights = [weight(W_hx, "W_hx"), weight(cell.W_hh, "W_hh"), weight(cell.b_hx, "b_hx"), weight(cell.b_hh, "b_hh")]
    if cell.peepholes is not None:
        weights.append(weight(cell.peepholes, "P"))
    call = RecurrentCall(
        layer=name,
        cell=cell.kind,
        num_hidden_units=cell.size,
        direction="reverse" if reverse else "forward",
        activations=cell.activations,
        gate_order=CELLS[cell.kind][1],
        reset_after=cell.reset_after,
        padded_outputs=padding,
        peepholes=cell.peepholes is not None,
    )
    inputs = [x, lengths, mask, *(*states, None)[:2], *weights]
    node = ir.node(OP_TYPE, inputs, call.attributes(), domain=DOMAIN, num_outputs=3, name=name)
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(before, node)
    y, h_T, c_T = node.outputs
    return y, h_T, c_T


def infer_shapes(model: ir.Model) -> None:
    """Shapes behind a lifted layer, which the next one may need: tf2onnx records none behind a loop."""
    for node in filter(is_recurrent, model.graph):
        call = RecurrentCall.from_node(node)
        directions, units = call.num_directions, call.num_hidden_units
        shapes = ([None, None, directions * units], *[[directions, None, units]] * 2)
        for value, shape in zip(node.outputs, shapes, strict=False):
            value.shape, value.dtype = ir.Shape(shape), ir.DataType.FLOAT
    common.ShapeInferencePass(strict_mode=False)(model)

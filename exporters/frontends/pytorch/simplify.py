"""A translated graph without what computes nothing.

Needs: a graph as torch.onnx translates it, before its own optimiser. Guarantees: constants are folded, and only exact
identities are taken out: what is left gives the same bits for every input, NaN, infinities and -0.0 among them.

torch.onnx's optimiser is not used, because some of its rules hold within a tolerance or for usual values only: it
takes x + 1e-8 for x + 0, x * 1.00001 for x, clips of clips for one clip though their bounds cross, and the two slices
[:2] and [2:] of five columns for an equal split.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from seqport.exporters.passes.builder import constant

# Rules that move or rename values and compute none; in this order.
_EXACT = (
    rules.two_reshapes_matmul_reshape_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.cast_constant_of_shape_rule,
    rules.cast_constant_of_shape_without_value_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.reshape_reshape_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.no_op_dynamic_scatter_nd_rule,
    rules.dropout_inference_rule,
)
# One round of rules makes constants, which another round of folding takes in.
_ROUNDS = 2
# Operators whose result holds a size that may have been traced.
_OF_SIZES = frozenset({"Range", "Expand", "ConstantOfShape"})


def simplify(model: ir.Model, fixed: Collection[int]) -> None:
    """Simplify a graph in place.

    Args:
        model: as torch.onnx translated it.
        fixed: sizes that the trace fixed; what is made from them stays where the passes find it.
    """
    _own_outputs(model.graph)
    if fixed:
        optimizer.fold_constants(
            model, onnx_shape_inference=False, should_fold=lambda node: not _is_of_size(node, fixed)
        )
        return
    if model.functions:
        common.InlinePass()(model)
    for _ in range(_ROUNDS):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        changed = RewritePass(_EXACT)(model).modified
        common.RemoveUnusedNodesPass()(model)
        if not changed:
            break


def _own_outputs(graph: ir.Graph) -> None:
    """Every output is a value of its own, which can be named: not an input, nor another output."""
    for place, value in enumerate(list(graph.outputs)):
        if value.is_graph_input() or value in list(graph.outputs)[:place]:
            own = ir.node("Identity", [value])
            graph.append(own)
            own.outputs[0].type, own.outputs[0].shape = value.type, value.shape
            graph.outputs[place] = own.outputs[0]


def _is_of_size(node: ir.Node, fixed: Collection[int]) -> bool:
    """Whether what a node makes of constants depends on a size that was fixed."""
    if node.op_type == "Slice":  # a table of positions, cut to the number of steps
        end = constant(node.inputs[2])
        return end is not None and any(int(item) in fixed for item in end.reshape(-1))
    return node.op_type in _OF_SIZES

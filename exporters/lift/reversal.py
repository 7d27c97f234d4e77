"""A forward layer between two reversals becomes a backward layer.

Needs: neutral nodes. Guarantees: where a layer's input is reversed in time and everybody who reads its outputs reverses
them back, with the same lengths, both reversals go and the layer runs from the last step to the first; each one proven.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.lift.cuts import BATCH, Cuts
from seqport.exporters.lift.emit import batch_first
from seqport.exporters.lift.emit import replace as move_readers
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.proof import prove
from seqport.exporters.lift.walk import Facts, attribute, axis_behind, size_behind, skip
from seqport.exporters.passes.builder import constant
from seqport.exporters.recurrent import LENGTHS, MASK, RecurrentCall, X, is_recurrent

# Ops that keep the steps in order, whatever they do to the axes.
_KEEPS_TIME = frozenset({"Transpose", "Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape"})
_ALL = "all"


def fold_reversals(model: ir.Model) -> set[str]:
    """Fold what can be folded, in place, and return the names of the layers that became backward ones."""
    folded = set()
    for node in [item for item in model.graph if is_recurrent(item)]:
        call = RecurrentCall.from_node(node)
        found = _reversals(node, call)
        if found is None:
            continue
        try:
            _prove(model, node, found)
        except NotLiftedError:
            continue  # it stays a forward layer between its reversals, which is as exact
        _fold(node, found)
        common.RemoveUnusedNodesPass()(model)
        folded.add(call.layer)
    return folded


# The reversals of the input, of the mask where there is one, and of the outputs.
_Found = tuple[ir.Node, ir.Node | None, list[ir.Node]]


def _reversals(node: ir.Node, call: RecurrentCall) -> _Found | None:
    x, lengths, mask = (node.inputs[i] for i in (X, LENGTHS, MASK))
    before = None if x is None else skip(x, _KEEPS_TIME).producer()
    span = None if before is None else _span(before)
    if before is None or span is None or call.direction != "forward":
        return None
    if (span is _ALL and lengths is not None) or (
        span is not _ALL and (lengths is None or _number(lengths) is not span)
    ):
        return None
    if span is not _ALL and call.padded_outputs == "hold":
        return None
    of_mask = None
    if mask is not None:
        of_mask = skip(mask, _KEEPS_TIME).producer()
        if of_mask is None or _span(of_mask) is not _ALL:
            return None
    after = _readers(node.outputs[0])
    if after is None or any(_span(item) is not span for item in after):
        return None
    return before, of_mask, after


def _span(node: ir.Node) -> object:
    """What a node reverses: the value with each row's length, `_ALL`, or None where it is no reversal."""
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return None
    if node.op_type == "Slice" and len(node.inputs) == 5:
        arrays = [constant(value) for value in node.inputs[1:]]
        whole = all(array is not None and array.size == 1 for array in arrays)
        values = [int(array.reshape(-1)[0]) for array in arrays if array is not None]
        return _ALL if whole and values[0] == values[3] == -1 and values[1] < -(2**31) + 2 else None
    if node.op_type != "ReverseSequence":
        return None
    lengths, time = node.inputs[1], attribute(node, "time_axis", 0)
    assert lengths is not None
    maker = lengths.producer()
    if maker is not None and maker.op_type == "Expand" and maker.inputs[0] is not None:
        size = size_behind(maker.inputs[0])
        return _ALL if size is not None and size == axis_behind(source, time) else None
    return _number(lengths)


def _number(lengths: ir.Value) -> ir.Value:
    """Lengths before they were cast and clipped."""
    return skip(lengths, ("Identity", "Cast", "Reshape", "Min", "Max"))


def _readers(value: ir.Value) -> list[ir.Node] | None:
    """The nodes behind those that only turn a value's axes; None where the graph itself reads it."""
    if value.is_graph_output():
        return None
    found: list[ir.Node] = []
    for node in value.consumers():
        if node.op_type in ("Transpose", "Identity"):
            more = _readers(node.outputs[0])
            if more is None:
                return None
            found.extend(more)
        elif node.op_type != "Shape":  # reversing changes no size
            found.append(node)
    return found


def _prove(model: ir.Model, node: ir.Node, found: _Found) -> None:
    before, _, after = found
    source, lengths = before.inputs[0], before.inputs[1]
    assert source is not None and lengths is not None
    cuts = Cuts(Facts(model))
    cuts.put_sequence(source, attribute(before, "time_axis", None) if before.op_type != "Slice" else _axis(before))
    if _span(before) is not _ALL:
        cuts.put(_number(lengths), [BATCH], is_lengths=True)
    key = node.outputs[0].name
    wanted = [item.outputs[0].name or "" for item in after]
    wanted += [value.name or "" for value in node.outputs[1:] if value.uses()]

    def rewrite(part: ir.Model) -> None:
        same = next(item for item in part.graph if item.outputs[0].name == key)
        there = _reversals(same, RecurrentCall.from_node(same))
        if there is None:
            raise NotLiftedError("its reversals cannot be seen apart from the model")
        _fold(same, there)

    prove(model, cuts, wanted, rewrite)


def _axis(node: ir.Node) -> int:
    axes = constant(node.inputs[3])
    return 0 if axes is None else int(axes.reshape(-1)[0])


def _fold(node: ir.Node, found: _Found) -> None:
    before, of_mask, after = found
    _without(node, X, before)
    if of_mask is not None:
        assert of_mask.inputs[0] is not None
        whole = batch_first(of_mask.inputs[0])
        if whole is not None:
            node.replace_input_with(MASK, whole)
        else:
            _without(node, MASK, of_mask)
    node.attributes["direction"] = ir.AttrString("direction", "reverse")
    for item in after:
        source = item.inputs[0]
        assert source is not None
        move_readers(item, item.outputs[0], source)


def _without(node: ir.Node, index: int, reversal: ir.Node) -> None:
    """The same input, made without the reversal: the nodes between are copied, for others may read them."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    path: list[ir.Node] = []
    maker: Callable[[ir.Value | None], ir.Node | None] = lambda value: None if value is None else value.producer()  # noqa: E731
    inner = maker(node.inputs[index])
    while inner is not None and inner is not reversal:
        path.append(inner)
        inner = maker(inner.inputs[0])
    value = reversal.inputs[0]
    for item in reversed(path):
        attributes = [a for a in item.attributes.values() if isinstance(a, ir.Attr)]
        copy = ir.Node("", item.op_type, [value, *item.inputs[1:]], attributes, name=item.name)
        graph.insert_before(node, copy)
        value = copy.outputs[0]
    node.replace_input_with(index, value)

"""Where lengths come from: exporters cast them, and clip them to the steps of each layer anew."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import uses_external_data

from seqport.runtime.rewriting.links import permutation
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.view import View, attribute

_WHOLE = (TensorProto.INT32, TensorProto.INT64)
# Lengths are counted apart where that takes so few nodes, of these kinds, and constants of so many bytes.
_FEW, _SMALL = 32, 1 << 16
_COUNTING = frozenset((
    "Add", "And", "Cast", "CastLike", "Clip", "Concat", "Constant", "ConstantOfShape", "CumSum", "Equal", "Expand",
    "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mul", "Neg", "Not", "Or",
    "Range", "ReduceMax", "ReduceMin", "ReduceSum", "Reshape", "Shape", "Sign", "Slice", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where",
))  # fmt: skip
_SAME_SHAPE = ("Cast", "Identity", "Relu", "Sigmoid", "Tanh")


def input_behind(view: View, lengths: str) -> str:
    """The graph's input that holds lengths: cast, or clipped to the steps that there are; "" where it is none."""
    node = view.producers.get(lengths)
    while node is not None and node.op_type in ("Cast", "Identity", "Min", "Max"):
        lengths = node.input[0]
        node = view.producers.get(lengths)
    return lengths if node is None and view.constant(lengths) is None else ""


def counting(view: View, lengths: str, model: ModelProto) -> bytes:
    """A model of its own that counts lengths from the inputs that they follow from; empty where that is much work."""
    nodes: list[NodeProto] = []
    seen, todo = {lengths}, [lengths]
    while todo:
        node = view.producers.get(todo.pop())
        if node is None or any(node is other for other in nodes):
            continue
        if node.op_type not in _COUNTING or len(nodes) == _FEW:
            return b""
        nodes.append(node)
        todo += [name for name in node.input if name and name not in seen]
        seen.update(node.input)
    inputs = [value for value in model.graph.input if value.name in seen]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in seen]
    given = {value.name for value in inputs}
    if any(tensor.name in given or uses_external_data(tensor) for tensor in constants):
        return b""
    if sum(tensor.ByteSize() for tensor in constants) > _SMALL:
        return b""
    ordered = [node for node in model.graph.node if any(node is other for other in nodes)]
    output = helper.make_tensor_value_info(lengths, TensorProto.INT32, None)
    graph = helper.make_graph(ordered, "lengths", inputs, [output], constants)
    counted = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    return counted.SerializeToString()


def first_alike(view: View, names: Iterable[str]) -> dict[str, str]:
    """Each name of lengths → the first of those that are the same whatever the batch."""
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(_meaning(view, name), name) for name in names}


def _meaning(view: View, name: str) -> Hashable:
    """Equal for values that are equal, but for their type."""
    node = view.producers.get(name)
    if node is None:
        return name
    if node.op_type == "Identity" or (node.op_type == "Cast" and attribute(node, "to", 0) in _WHOLE):
        return _meaning(view, node.input[0])
    if node.op_type in ("Min", "Max") and len(node.input) == 2:
        return node.op_type, _meaning(view, node.input[0]), _meaning(view, node.input[1])
    if node.op_type == "Shape":
        start, end = attribute(node, "start", 0), attribute(node, "end", 0)
        if start >= 0 and end == start + 1:
            return "Shape", _origin(view, node.input[0], start)
    value = view.constant(name)
    return name if value is None or value.size > 1 else ("constant", value.shape, value.tobytes())


def _origin(view: View, name: str, axis: int) -> tuple[str, int]:
    """The value and the axis that give an axis of a value its extent: steps stay the same from layer to layer."""
    while (node := view.producers.get(name)) is not None:
        before = _before(view, node, name, axis)
        if before is None:
            break
        name, axis = before
    return name, axis


def _before(view: View, node: NodeProto, name: str, axis: int) -> tuple[str, int] | None:
    native = Native.of(node)
    if native is not None:
        return (native.x, 0) if name == native.output(0) and axis == 0 else None
    if node.op_type in _SAME_SHAPE:
        return node.input[0], axis
    if node.op_type == "Transpose":
        order = permutation(node)
        return None if order is None else (node.input[0], order[axis])
    if node.op_type == "Concat":
        joined = attribute(node, "axis", 0)
        return (node.input[0], axis) if joined not in (axis, -1) or (joined == -1 and axis == 0) else None
    constant = view.constant(node.input[1]) if len(node.input) > 1 else None
    if constant is None:
        return None
    given = constant.reshape(-1).tolist()
    if node.op_type == "Reshape":
        return (node.input[0], axis) if axis < len(given) and given[axis] == 0 else None
    if node.op_type == "Squeeze" and len(given) == 1 and given[0] >= 0:
        return node.input[0], axis + (axis >= given[0])
    return None

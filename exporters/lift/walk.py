"""Reading a graph backwards: constants behind any value, and which axis of which tensor a size comes from.

Needs: any graph. Guarantees nothing but what it returns; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from seqport.exporters.passes.builder import constant

# An axis of a tensor, traced as far up as its size is surely the same.
Axis = tuple[ir.Value, int]

# Ops that keep a single number, whatever its rank and element type.
SAME_NUMBER = frozenset({"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"})


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, or the default."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return found.value.numpy() if found.type == ir.AttributeType.TENSOR else found.value


def body_of(node: ir.Node) -> ir.Graph:
    """The body of a Loop or Scan."""
    return node.attributes["body"].as_graph()


def has_graph(node: ir.Node) -> bool:
    """Whether the node holds a subgraph."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(item.type in kinds for item in node.attributes.values())


def skip(value: ir.Value, ops: Iterable[str] = ("Identity",)) -> ir.Value:
    """The value behind nodes of these kinds."""
    node = value.producer()
    while node is not None and node.op_type in ops and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


class Facts:
    """What is known of a model's values before it runs: arrays, element types, sizes.

    Args:
        model: which is not changed; ONNX's shape inference runs on a copy, past shapes that are recorded wrongly.
    """

    def __init__(self, model: ir.Model) -> None:
        self._opset = model.opset_imports.get("", 0)
        self._known: dict[ir.Value, np.ndarray | None] = {}
        # Inputs of a loop's body that are one and the same value at every step.
        self.aliases: dict[ir.Value, ir.Value] = {}
        self._inferred: dict[str, ir.Value] = {}
        inferred = common.ShapeInferencePass(strict_mode=False)(model.clone()).model
        for value in _values(inferred.graph):
            self._inferred[value.name or ""] = value

    def shape(self, value: ir.Value) -> tuple[int | str | None, ...] | None:
        """Sizes, names or None for each axis; None where not even the rank is known."""
        shapes = [
            tuple(dim if isinstance(dim, int) else dim.value for dim in known.shape)
            for known in (value, self._inferred.get(value.name or ""))
            if known is not None and known.shape is not None
        ]
        if len(shapes) < 2 or len(shapes[0]) != len(shapes[1]):
            return shapes[0] if shapes else None
        return tuple(one if isinstance(one, int) else other or one for one, other in zip(*shapes, strict=True))

    def width(self, value: ir.Value) -> int | None:
        """The size of the last axis, where it is fixed."""
        shape = self.shape(value)
        return shape[-1] if shape and isinstance(shape[-1], int) else None

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type."""
        if value.dtype is not None:
            return value.dtype
        known = self._inferred.get(value.name or "")
        return None if known is None else known.dtype

    def of(self, value: ir.Value | None) -> np.ndarray | None:
        """The array, or None where the value depends on more than constants."""
        value = self.aliases.get(value, value) if value is not None else None
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: ir.Value) -> np.ndarray | None:
        found = constant(value)
        node = value.producer()
        if found is not None or node is None or node.domain != "" or has_graph(node):
            return found
        if (size := self._size(node)) is not None:
            return size
        arrays = [self.of(item) for item in node.inputs]
        if (certain := self._certain(node, arrays)) is not None:
            return certain
        if not arrays or any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)):
            return None
        return self._computed(node, arrays)[list(node.outputs).index(value)]

    def _certain(self, node: ir.Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
        """What a dropout that is switched off draws: random numbers, and a rate that none of them is below.

        TensorFlow compares with the rate; its first versions took the floor of the number plus the rate to keep.
        """
        if node.op_type == "GreaterOrEqual" and (drawn := _drawn(node.inputs[0])) is not None:
            rate = arrays[1]
            return np.array(True) if rate is not None and rate.size and (rate <= drawn[0]).all() else None
        added = node.inputs[0].producer() if node.op_type == "Floor" and node.inputs[0] is not None else None
        if added is not None and added.op_type == "Add":
            for value, other in (added.inputs, added.inputs[::-1]):
                drawn, keep = _drawn(value), self.of(other)
                if drawn is not None and keep is not None and keep.size == 1:
                    low = np.floor(drawn[0] + keep.reshape(()))
                    return low if drawn[1] + keep.reshape(()) <= low + 1 else None
        return None

    def _size(self, node: ir.Node) -> np.ndarray | None:
        """A size that is read off a tensor at run time, and known before."""
        shape = None if node.op_type != "Gather" or node.inputs[0] is None else node.inputs[0].producer()
        index = self.of(node.inputs[1]) if shape is not None and shape.op_type == "Shape" else None
        if shape is None or index is None or index.size != 1 or shape.inputs[0] is None or shape.attributes:
            return None
        sizes = self.shape(shape.inputs[0])
        size = sizes[int(index.reshape(-1)[0])] if sizes is not None else None
        return np.full(index.shape, size, np.int64) if isinstance(size, int) else None

    def _computed(self, node: ir.Node, arrays: list[np.ndarray | None]) -> list[np.ndarray]:
        names = [f"i{i}" if array is not None else "" for i, array in enumerate(arrays)]
        feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
        proto = onnx.helper.make_node(node.op_type, names, [f"o{i}" for i in range(len(node.outputs))])
        proto.attribute.extend(ir.to_proto(item) for item in node.attributes.values())
        inputs = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ]
        graph = onnx.helper.make_graph([proto], "fold", inputs, [onnx.ValueInfoProto(name=n) for n in proto.output])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)])
        return [np.asarray(item) for item in ReferenceEvaluator(model).run(None, feeds)]  # type: ignore[union-attr]


def _drawn(value: ir.Value | None) -> tuple[float, float] | None:
    """From where to below where a random number is drawn, or None."""
    node = None if value is None else skip(value).producer()
    if node is None or node.op_type not in ("RandomUniform", "RandomUniformLike"):
        return None
    return float(attribute(node, "low", 0.0)), float(attribute(node, "high", 1.0))


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
        for item in node.attributes.values():
            if item.type == ir.AttributeType.GRAPH:
                yield from _values(item.as_graph())


def name_apart(graph: ir.Graph, taken: set[str] | None = None) -> None:
    """Another name for every value of a subgraph whose name is one of the graph around it, as tf2onnx writes them.

    ONNX forbids that, and shape inference and `Facts`, which go by name, take one for the other.
    """
    values = [*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs)]
    for value in values if taken is not None else ():
        name, count = value.name or "", 1
        while taken is not None and value.name in taken:
            count += 1
            value.name = f"{name}_{count}"
    taken = {value.name or "" for value in values} | (taken or set())
    for node in graph:
        for item in node.attributes.values():
            if item.type == ir.AttributeType.GRAPH:
                name_apart(item.as_graph(), taken)


def axis_behind(value: ir.Value, axis: int) -> Axis:
    """The axis of the earliest tensor that surely has the same size as this axis of this value."""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Transpose":
            perm = attribute(node, "perm")
            if perm is None:
                break
            axis = list(perm)[axis]
        elif node.op_type == "Unsqueeze":
            axes = constant(node.inputs[1])
            if axes is None or axes.size != 1:
                break
            added = int(axes.reshape(-1)[0])
            if added == axis or (added < 0 and (added != -1 or value.shape is None)):
                break
            if added == -1 and value.shape is not None and axis == value.shape.rank() - 1:
                break
            axis -= 0 <= added < axis
        elif node.op_type not in ("Identity", "Cast", "ReverseSequence"):
            break
        value = node.inputs[0]
    return value, axis


def size_behind(value: ir.Value) -> Axis | None:
    """Which axis a single number is the size of, or None."""
    node = skip(value, SAME_NUMBER).producer()
    if node is None or node.op_type not in ("Gather", "Slice") or node.inputs[0] is None:
        return None
    index = constant(node.inputs[1])
    if index is None or index.size != 1:
        return None
    position = int(index.reshape(-1)[0])
    if node.op_type == "Slice":
        ends = constant(node.inputs[2])
        if ends is None or ends.size != 1 or int(ends.reshape(-1)[0]) != position + 1:
            return None
    shape = skip(node.inputs[0], ("Identity", "Cast")).producer()
    if shape is None or shape.op_type != "Shape" or shape.inputs[0] is None or position < 0:
        return None
    return axis_behind(shape.inputs[0], position + attribute(shape, "start", 0))

"""Reads a graph: who makes a value, what it is computed from, and which axis of it are the steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

RECURRENT = frozenset({"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"})
X, SEQUENCE_LENS = 0, 4  # positions among the inputs of every recurrent node
# Above this, an initializer is a weight, whose values say nothing of the graph's form.
_SMALL = 64
_SHAPE_ONLY = frozenset({"Shape", "Size"})
Dims = tuple[str | int | None, ...]


def is_recurrent(node: onnx.NodeProto) -> bool:
    """Whether it is ONNX's own recurrent node, or ONNX Runtime's quantised one."""
    return node.op_type in RECURRENT and node.domain in ("", "ai.onnx", "com.microsoft")


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a control flow node runs."""
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            yield item.g
        yield from item.graphs


def nodes_within(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of all graphs inside them."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from nodes_within(inner)


class Reading:
    """The edges of a model's main graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in self.initializers]
        self.producers = {name: node for node in graph.node for name in node.output if name}

    def reads(self, node: onnx.NodeProto) -> Iterable[str]:
        """The values whose elements, not only shapes, a node reads, from within its subgraphs too."""
        if node.op_type in _SHAPE_ONLY:
            return ()
        inner = [name for graph in subgraphs(node) for item in nodes_within(graph) for name in item.input]
        return [name for name in (*node.input, *inner) if name]

    def upstream(self, name: str) -> tuple[set[str], list[onnx.NodeProto]]:
        """The graph inputs and the recurrent nodes whose elements reach a value."""
        inputs: set[str] = set()
        recurrent: list[onnx.NodeProto] = []
        seen: set[str] = set()
        todo = [name]
        while todo:
            item = todo.pop()
            if item in seen:
                continue
            seen.add(item)
            if item in self.inputs:
                inputs.add(item)
            node = self.producers.get(item)
            if node is None:
                continue
            if is_recurrent(node) and node not in recurrent:
                recurrent.append(node)
            todo.extend(self.reads(node))
        return inputs, recurrent

    def in_front_of_lengths(self) -> set[str]:
        """The values that the lengths of recurrent nodes are made from, and these."""
        found: set[str] = set()
        waiting = [
            node.input[SEQUENCE_LENS]
            for node in self.producers_in_order()
            if is_recurrent(node) and len(node.input) > SEQUENCE_LENS
        ]
        while waiting:
            name = waiting.pop()
            if name and name not in found:
                found.add(name)
                waiting += self.reads(self.producers[name]) if name in self.producers else ()
        return found

    def integers(self, name: str) -> list[int] | None:
        """The values of a small integer constant; None where it is none."""
        tensor = self.initializers.get(name)
        node = self.producers.get(name)
        if tensor is None and node is not None and node.op_type == "Constant":
            value = attribute(node, "value")
            tensor = value if isinstance(value, onnx.TensorProto) else None
        if tensor is None or tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            return None
        if tensor.external_data or int(np.prod(tensor.dims, dtype=np.int64)) > _SMALL:
            return None
        return [int(value) for value in numpy_helper.to_array(tensor).reshape(-1)]

    def table_size(self, name: str) -> int | None:
        """The rows of the smallest constant table in which a graph input's values are looked up."""
        same = {name}
        sizes: list[int] = []
        for node in self.producers_in_order():
            if node.op_type == "Gather" and node.input[1] in same and node.input[0] not in same:
                dims = self._constant_dims(node.input[0])
                axis = attribute(node, "axis", 0)
                if dims and isinstance(axis, int):
                    sizes.append(dims[axis])
            elif node.op_type in _KEEPS_VALUES and node.input[0] in same:
                same.update(node.output)
        return min(sizes, default=None)

    def producers_in_order(self) -> list[onnx.NodeProto]:
        """The nodes as the graph lists them, which is a topological order."""
        return list({id(node): node for node in self.producers.values()}.values())

    def _constant_dims(self, name: str) -> list[int] | None:
        """The shape of an initializer, or of one that is only widened (a reduced precision)."""
        tensor = self.initializers.get(name)
        if tensor is not None:
            return list(tensor.dims)
        node = self.producers.get(name)
        return self._constant_dims(node.input[0]) if node is not None and node.op_type in _WIDENS else None


_KEEPS_VALUES = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Clip"})
_WIDENS = frozenset({"Cast", "Mul", "DequantizeLinear", "Identity"})


def known_dims(model: onnx.ModelProto) -> dict[str, Dims]:
    """The shape of every value that ONNX's shape inference knows: an axis is an input's name for it, a size, or None.

    It runs on a copy without the weights, whose shapes are enough.
    """
    bare = onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(value for value in model.graph.input)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    named = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) <= _SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in named:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except Exception:  # it gives up on operators that it does not know; then nothing is known
        inferred = graph
    # It makes up names of its own for what it cannot follow.
    declared = {axis for value in model.graph.input for axis in _dims(value) if isinstance(axis, str)}
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes = {value.name: _dims(value) for value in values if value.type.tensor_type.HasField("shape")}
    return {
        name: tuple(axis if isinstance(axis, int) or axis in declared else None for axis in dims)
        for name, dims in shapes.items()
    }


def _dims(value: onnx.ValueInfoProto) -> Dims:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in dims)

"""Write ONNX nodes before a given node, with names that a reader of the graph can follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir


class Builder:
    """Emits nodes of the standard domain in front of one node of a graph.

    Args:
        before: the node that the new ones precede.
        scope: prefix of every new name, usually the layer's.
    """

    def __init__(self, before: ir.Node, scope: str) -> None:
        graph = before.graph
        assert isinstance(graph, ir.Graph), "the node stands in a graph"
        self._graph, self._before, self._scope = graph, before, scope

    def op(self, op_type: str, *inputs: ir.Value | None, num_outputs: int = 1, **attributes: Any) -> ir.Value:
        """Emit a node and return its first output; `outputs_of` gives the others."""
        node = ir.node(op_type, list(inputs), attributes, num_outputs=num_outputs, name=f"{self._scope}/{op_type}")
        self._graph.insert_before(self._before, node)
        return node.outputs[0]

    def const(self, data: Any, dtype: Any = np.int64, name: str = "const") -> ir.Value:
        """An initializer holding `data`."""
        array = np.asarray(data, dtype=dtype)
        value_name = self._free_name(f"{self._scope}/{name}")
        value = ir.Value(
            name=value_name,
            const_value=ir.tensor(array, name=value_name),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        self._graph.register_initializer(value)
        return value

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._graph.initializers:
            count += 1
            name = f"{wanted}_{count}"
        return name


def outputs_of(value: ir.Value) -> tuple[ir.Value, ...]:
    """All outputs of the node that gave this value."""
    node = value.producer()
    assert node is not None
    return tuple(node.outputs)


def replace(graph: ir.Graph, value: ir.Value, by: ir.Value, before: ir.Node) -> None:
    """Let everything that reads a value read another; a graph output keeps its name, through an Identity."""
    for index, output in enumerate(graph.outputs):
        if output is value:
            named = ir.node("Identity", [by])
            graph.insert_before(before, named)
            named.outputs[0].name, output.name = output.name, None
            named.outputs[0].shape, named.outputs[0].type = output.shape, output.type
            graph.outputs[index] = named.outputs[0]
    value.replace_all_uses_with(by)


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array behind a value that is an initializer or a Constant, converted or not, else None."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    node = value.producer()
    if node is None or node.op_type != "Cast":
        return None
    source = constant(node.inputs[0])
    return None if source is None else source.astype(ir.DataType(node.attributes["to"].as_int()).numpy())

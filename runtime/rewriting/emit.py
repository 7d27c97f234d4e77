"""Writes nodes: of a graph, or of the body of one of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

# Stands for "to the end" where Slice wants a number.
END = 2**62


class Names:
    """Names that nothing in a graph, or in the bodies of its nodes, has yet."""

    def __init__(self, graph: GraphProto) -> None:
        self._taken = set(_names_in(graph))

    def free(self, wanted: str) -> str:
        """The wanted name, with a number behind it where it is taken."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def _names_in(graph: GraphProto) -> list[str]:
    names = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        names += [node.name, *node.input, *node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names += _names_in(attribute.g)
    return names


class Emitter:
    """Collects nodes in the order in which they are emitted.

    Args:
        names: of the whole model, so that a body's names differ from those around it.
        scope: prefix of every new name.
        outer: where constants go: a body's stand outside of it, once for all of its iterations.
    """

    def __init__(self, names: Names, scope: str, outer: Emitter | None = None) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = outer.initializers if outer else []
        self._names, self._scope = names, scope
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = outer._constants if outer else {}

    def body(self, scope: str) -> Emitter:
        """An emitter for the body of a node that this one emits."""
        return Emitter(self._names, f"{self._scope}/{scope}", self)

    def name(self, wanted: str) -> str:
        """A free name for an input of a body."""
        return self._names.free(f"{self._scope}/{wanted}")

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Emit a node of one output, and return that output's name."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Emit a node of several outputs, and return their names."""
        name = self._names.free(f"{self._scope}/{op_type}")
        given = [self._names.free(f"{name}.{index}" if outputs > 1 else f"{name}.out") for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), given, name, **attributes))
        return given

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        """The name of an initializer with this value; one for all that are alike."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array, "const")
        return self._constants[key]

    def weight(self, array: np.ndarray, wanted: str) -> str:
        """The name of a new initializer."""
        name = self._names.free(f"{self._scope}/{wanted}")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def slice(self, value: str, start: str | int, end: str | int, axis: int = 0) -> str:
        """A part along one axis; the ends are numbers or vectors of one."""
        first, last = (end if isinstance(end, str) else self.const([end]) for end in (start, end))
        return self.op("Slice", value, first, last, self.const([axis]))

    def range(self, count: str) -> str:
        """0, 1, … below a count, a vector of one."""
        # Not Range: of a count that ONNX Runtime knows, its shape inference gives Range a vector, and refuses that.
        one = numpy_helper.from_array(np.ones(1, np.int64))
        return self.op("CumSum", self.op("ConstantOfShape", count, value=one), self.const(0), exclusive=1)

    def shape(self, *parts: str | int) -> str:
        """A vector of sizes, each a number or a vector of one."""
        return self.op("Concat", *(p if isinstance(p, str) else self.const([p]) for p in parts), axis=0)

    def zeros(self, *sizes: str | int) -> str:
        """Zeros, float32."""
        return self.op("ConstantOfShape", self.shape(*sizes), value=numpy_helper.from_array(np.zeros(1, np.float32)))


Typed = Sequence[tuple[str, int]]  # names, with their element types


def graph_of(body: Emitter, name: str, inputs: Typed, outputs: Typed) -> GraphProto:
    """The graph of a body, from what goes in and out."""
    entering, leaving = (
        [helper.make_tensor_value_info(value, kind, None) for value, kind in side] for side in (inputs, outputs)
    )
    return helper.make_graph(body.nodes, name, entering, leaving)

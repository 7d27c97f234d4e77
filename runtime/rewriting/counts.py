"""Which values of a graph count steps: lengths, the size of an axis, positions, sums over the steps.

Whole numbers that are made from a count are one. Floats are one only where nothing but counts and constants goes into
them: `lengths * 0.02`, but neither `x / 32768` nor `x.sum(1) / lengths`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import TensorProto

from seqport.runtime.rewriting.reading import attribute, nodes_within, subgraphs

COMPARE = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"})
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
# Operators that give counts where they are given some, in any of their inputs and in the first one.
_FUNCTIONS = {"Neg", "Abs", "Floor", "Ceil", "Round", "Sqrt", "Log", "Exp", "Reciprocal"}
_OF_ALL = {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "Concat", "Min", "Max", "Range"} | _FUNCTIONS
_MOVES = {"Squeeze", "Unsqueeze", "Reshape", "Slice", "Expand", "Tile", "Transpose", "Identity", "Cast"}
_OF_FIRST = _MOVES | {"CumSum", "ReduceMax", "ReduceMin", "ReduceSum"}
_REPEATS = {"Expand", "Tile", "Reshape"}
# Operators that make flags, that keep them, and that count them.
_LOGIC = {"Not", "And", "Or", "Xor", "IsNaN"}
_KEEP_FLAGS = _LOGIC | (_MOVES - {"Slice", "Tile"}) | {"Where", "Mul"}
_COUNT_FLAGS = {"CumSum", "ReduceSum", "ReduceMax", "ArgMax", "ArgMin", "NonZero"}
_GIVE_WHOLE = COMPARE | _LOGIC | {"Shape", "Size", "NonZero", "ArgMax", "ArgMin"}


class Counts:
    """The values of a graph and of all graphs inside it that count steps.

    Args:
        model: the graph.
        given: the inputs that count steps.

    Attributes:
        names: they.
        floats: values that are known to be floats.
    """

    def __init__(self, model: onnx.ModelProto, given: Iterable[str]) -> None:
        self.names = set(given)
        inputs = model.graph.input
        self.floats = {value.name for value in inputs if value.type.tensor_type.elem_type in _FLOATS}
        self._flags = {value.name for value in inputs if value.type.tensor_type.elem_type == TensorProto.BOOL}
        self._constants: set[str] = set()
        self._whole_vectors: set[str] = set()
        self._take(model.graph.initializer)
        for node in nodes_within(model.graph):
            for inner in subgraphs(node):
                self._take(inner.initializer)
                if node.op_type == "Loop" and inner.input:
                    self.names.add(inner.input[0].name)  # the number of the step
            self._read(node)

    def _take(self, tensors: Iterable[TensorProto], *names: str) -> None:
        for tensor in tensors:
            name = names[0] if names else tensor.name
            self._constants.add(name)
            if tensor.data_type in _FLOATS:
                self.floats.add(name)
            elif len(tensor.dims) == 1:
                self._whole_vectors.add(name)

    def _read(self, node: onnx.NodeProto) -> None:
        outputs = [name for name in node.output if name]
        value = attribute(node, "value")
        if node.op_type == "Constant":
            self._constants.update(outputs)
            if isinstance(value, TensorProto):
                self._take([value], *outputs)
            return
        if self._gives_floats(node):
            self.floats.update(outputs)
        data = self._data(node)
        sized = self.names.intersection(node.input)
        if node.input and self._constants.issuperset(name for name in node.input if name):
            self._constants.update(outputs)
            self._whole_vectors.update(name for name in outputs if name not in self.floats)
        elif node.op_type == "ConstantOfShape" or (node.op_type in _REPEATS and sized and data[0] in self._constants):
            self._flags.update(outputs)  # as many equal elements as there are steps: their sum counts those
        given = self._flags.intersection(node.input)
        if node.op_type in COMPARE | _LOGIC or (node.op_type in _KEEP_FLAGS and given and self._are_flags(data)):
            self._flags.update(outputs)
        counted = node.op_type in _COUNT_FLAGS and bool(given)
        if counted or node.op_type in ("Shape", "Size") or self._counts(node, data):
            self.names.update(outputs)

    def _counts(self, node: onnx.NodeProto, data: Sequence[str]) -> bool:
        if not self.names.intersection(data):
            return False
        return node.output[0] not in self.floats or self._constants.union(self.names).issuperset(data)

    def _are_flags(self, data: Sequence[str]) -> bool:
        return self._flags.union(self._constants).issuperset(data)

    def _data(self, node: onnx.NodeProto) -> list[str]:
        """The inputs whose elements become those of the output, for the operators that pass counts on."""
        given = list(node.input)
        match node.op_type:
            case "Where":
                given = given[1:3]
            case "Gather" | "GatherND" | "GatherElements":
                given = given[: 2 if given[0] in self._whole_vectors else 1]
            case "Clip":
                pass
            case kind if kind in _OF_FIRST:
                given = given[:1]
            case kind if kind in _OF_ALL | _LOGIC:
                pass
            case _:
                given = []
        return [name for name in given if name]

    def _gives_floats(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Cast":
            return attribute(node, "to") in _FLOATS
        if node.op_type == "ConstantOfShape":
            value = attribute(node, "value")
            return not isinstance(value, TensorProto) or value.data_type in _FLOATS
        if node.op_type in _GIVE_WHOLE or not node.input:
            return False
        return node.op_type == "DequantizeLinear" or node.input[1 if node.op_type == "Where" else 0] in self.floats

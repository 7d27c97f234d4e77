"""Which values of a graph may hold NaN that came in with its inputs.

`where(isnan(x), 0, x)` holds none: a model that asks what is NaN replaces it there, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

from seqport.runtime.rewriting.reading import attribute, nodes_within, subgraphs

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_COMPARE = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_LOGIC = frozenset({"IsNaN", "IsInf", "Not", "And", "Or", "Xor"})
# Operators that give whole numbers or flags, whatever they take.
_GIVE_WHOLE = _COMPARE | _LOGIC | {"Shape", "Size", "NonZero", "ArgMax", "ArgMin"}
# Operators whose element hangs on the same element of each input.
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Cast", "Identity", "Tanh", "Sigmoid", "Relu", "Clip"}
)
_KEEP_NAN = frozenset({"Cast", "Identity", "Neg", "Abs"})
# Operators that keep flags as they are, or say the same of more elements.
_KEEP_FLAGS = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Expand"})


@dataclass(frozen=True)
class _Facts:
    """What holds no NaN where a flag is true, and where it is false."""

    true: frozenset[str] = frozenset()
    false: frozenset[str] = frozenset()


@dataclass
class NanFlow:
    """NaN on its way through a graph and the graphs inside it.

    Attributes:
        may: values that may hold it.
        makers: which node makes each value.
    """

    may: set[str] = field(default_factory=set)
    makers: dict[str, NodeProto] = field(default_factory=dict)

    def through(self, graph: GraphProto) -> Iterator[NodeProto]:
        """The nodes that may take NaN, in the graph's order; those of inner graphs before the node that runs them."""
        constants = {tensor.name for tensor in graph.initializer}
        self.may |= {value.name for value in graph.input if _is_float(value) and value.name not in constants}
        yield from self._nodes(graph)

    def _nodes(self, graph: GraphProto) -> Iterator[NodeProto]:
        for node in graph.node:
            self.makers.update((name, node) for name in node.output)
            inner = list(subgraphs(node))
            if inner:
                yield from self._within(node, inner)
            elif self.may.intersection(node.input):
                yield node
                self.may.update(self._given(node))

    def _within(self, node: NodeProto, inner: list[GraphProto]) -> Iterator[NodeProto]:
        """Any of what is handed into an inner graph may stand behind any of its names, step after step."""
        read = {name for graph in inner for item in nodes_within(graph) for name in item.input}
        if not self.may & (read | set(node.input)):
            return
        for graph in inner:
            names = {name for item in nodes_within(graph) for name in item.output}
            body = NanFlow(self.may - names, {**self.makers})
            body.may |= {value.name for value in graph.input if _is_float(value)}
            yield from body._nodes(graph)
            given = [value for value in graph.output if value.name in body.may]
            if given:
                self.may.update(name for name in node.output if name)

    def _given(self, node: NodeProto) -> list[str]:
        """Which outputs of a node that takes NaN may hold it."""
        if node.op_type in _GIVE_WHOLE or (node.op_type == "Cast" and attribute(node, "to") not in _FLOATS):
            return []
        if node.op_type == "TopK":
            return [node.output[0]]
        if node.op_type == "Where":
            facts = self._facts(node.input[0])
            taken = (self._free(node.input[1], facts.true), self._free(node.input[2], facts.false))
            return [] if all(taken) else list(node.output)
        if node.op_type in ("Gather", "GatherND", "GatherElements", "Slice", "Expand", "Reshape", "Tile", "Pad"):
            return list(node.output) if node.input[0] in self.may else []
        return [name for name in node.output if name]

    def _free(self, name: str, known: frozenset[str]) -> bool:
        """Whether a value holds no NaN where those of `known` hold none."""
        if name in known or name not in self.may:
            return True
        node = self.makers.get(name)
        if node is None or node.op_type not in _ELEMENTWISE:
            return False
        return all(self._free(given, known) for given in node.input if given)

    def _facts(self, flag: str) -> _Facts:
        """What a flag says of NaN; also of numbers that are 0 where a flag is false, and more where it is true."""
        node = self.makers.get(flag)
        if node is None or not node.input:
            return _Facts()
        first = node.input[0]
        match node.op_type:
            case "IsNaN":
                return _Facts(false=self._alike(first))
            case "Equal" if first == node.input[1]:
                return _Facts(true=self._alike(first))
            case "Not":
                facts = self._facts(first)
                return _Facts(facts.false, facts.true)
            case "Or" | "And":
                one, other = self._facts(first), self._facts(node.input[1])
                if node.op_type == "Or":
                    return _Facts(one.true & other.true, one.false | other.false)
                return _Facts(one.true | other.true, one.false & other.false)
            case "ReduceMax" | "ReduceSum":  # any
                return _Facts(false=self._facts(first).false)
            case "ReduceMin" | "ReduceProd":  # all
                return _Facts(true=self._facts(first).true)
            case kind if kind in _KEEP_FLAGS:
                return self._facts(first)
            case _:
                return _Facts()

    def _alike(self, name: str) -> frozenset[str]:
        """A value and those before it that hold NaN where it does."""
        found = {name}
        while (node := self.makers.get(name)) is not None and node.op_type in _KEEP_NAN:
            name = node.input[0]
            found.add(name)
        return frozenset(found)


def _is_float(value: ValueInfoProto) -> bool:
    kind = value.type.tensor_type.elem_type
    return kind in _FLOATS or not kind

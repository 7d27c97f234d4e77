"""Values that belong together because each is the same computation at another time step.

Needs: a graph in which a loop over time was unrolled. Guarantees: `stacked` gives one value [seq, ...] that holds all
of them, computed once over the whole time axis, or refuses with the reason. It never guesses: members must be the
same operator with the same attributes, down to slices of one tensor at steps 0, 1, 2, ….
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, constant

Family = tuple[ir.Value, ...]

# Operators that work element by element, so that a leading time axis changes nothing.
_ELEMENTWISE = frozenset(
    """Abs Add And Cast Clip Cos Div Elu Equal Erf Exp Gelu Greater GreaterOrEqual HardSigmoid Identity LeakyRelu Less
    LessOrEqual Log Max Min Mul Neg Not Or Pow Reciprocal Relu Selu Sigmoid Sin Softplus Softsign Sqrt Sub Tanh Where
    Xor""".split()  # noqa: SIM905 (a list of sixty strings is no easier to read)
)
# Operators with one axis in an attribute; counted from the front it moves by one.
_ONE_AXIS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "Concat"})
# Operators with axes in their second input.
_AXES_INPUT = frozenset({"Unsqueeze", "Squeeze", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"})


class NotRollable(Exception):  # noqa: N818 (a verdict on a graph, not a fault)
    """Why a family cannot be computed over the whole time axis at once."""


class Steps:
    """Stacks families, each once.

    Args:
        builder: gives a builder that emits before a fitting node.
        known: families that are stacked already, such as the outputs of a rolled cell.
    """

    def __init__(self, builder: Callable[[], Builder]) -> None:
        self._builder = builder
        self._seq: ir.Value | None = None  # the number of steps, [1], once a sequence has been seen
        self.known: dict[Family, ir.Value] = {}

    def stacked(self, family: Sequence[ir.Value | None]) -> ir.Value:
        """All members as one value [seq, ...].

        Raises:
            NotRollable: the members are not one computation at successive steps.
        """
        members = tuple(value for value in family if value is not None)
        if len(members) != len(family):
            raise NotRollable("an input is missing at some steps")
        if members not in self.known:
            self.known[members] = self._sliced(members) or self._vectorised(members)
        return self.known[members]

    def _sliced(self, family: Family) -> ir.Value | None:
        """The source of slices at steps 0, 1, 2, … with time in front, or None."""
        found = [_slice(value) for value in family]
        if any(item is None for item in found):
            return None
        sources, axes, steps = zip(*[item for item in found if item is not None], strict=True)
        if len(set(sources)) > 1 or len(set(axes)) > 1:
            return None
        source, axis, forward = sources[0], axes[0], list(range(len(family)))
        if list(steps) not in (forward, forward[::-1]):
            raise NotRollable(f"steps are taken in the order {steps[:4]}…, neither forward nor backward")
        rank = _rank(source)
        build = self._builder()
        order = [axis, *(i for i in range(rank) if i != axis)]
        moved = source if axis == 0 else build.op("Transpose", source, perm=order)
        self._seq = self._seq or build.op("Shape", moved, start=0, end=1)
        return moved if list(steps) == forward else reversed_time(build, moved)

    def _vectorised(self, family: Family) -> ir.Value:
        nodes = [value.producer() for value in family]
        first = nodes[0]
        if first is None or any(
            node is None or node.op_type != first.op_type or not _same_attributes(node, first) for node in nodes
        ):
            raise NotRollable(f"{family[0].name} and its kin are not one computation at each step")
        rank = _rank(family[0])
        inputs = [self._operand(place, rank) for place in zip(*(node.inputs for node in nodes if node), strict=True)]
        if not any(varies for _, varies in inputs):
            raise NotRollable(f"{family[0].name} is the same at every step")
        return _with_time(self._builder(), first, inputs, rank)

    def _operand(self, place: Sequence[ir.Value | None], rank: int) -> tuple[ir.Value | None, bool]:
        """An input over all steps: the common value, or the stacked family and that it varies."""
        if len(set(place)) == 1:
            return place[0], False
        arrays = [constant(value) for value in place]
        if arrays[0] is not None and all(a is not None and a.tolist() == arrays[0].tolist() for a in arrays):
            return place[0], False
        counter = self._counter(arrays, rank)
        return (self.stacked(place) if counter is None else counter), True

    def _counter(self, arrays: Sequence[np.ndarray | None], rank: int) -> ir.Value | None:
        """The steps' numbers [seq, 1, ...], to broadcast over values of a rank, where a loop computes with them."""
        steps = [None if a is None or a.size != 1 else a.item() for a in arrays]
        if steps != list(range(len(steps))) or self._seq is None or arrays[0] is None:
            return None
        build = self._builder()
        numbers = build.op("Range", build.const(0), build.op("Squeeze", self._seq), build.const(1))
        column = build.op("Unsqueeze", numbers, build.const(list(range(1, rank + 1)), name="axes"))
        return build.op("Cast", column, to=ir.DataType.from_numpy(arrays[0].dtype))


def reversed_time(build: Builder, x: ir.Value) -> ir.Value:
    """X [seq, ...] with its steps in reverse."""
    return build.op("Slice", x, *(build.const([v], name="slice") for v in (-1, -(2**31), 0, -1)))


def _slice(value: ir.Value) -> tuple[ir.Value, int, int] | None:
    """(source, axis, step) where the value is one step of a source."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Squeeze":
        return _squeezed(node)
    if node.op_type == "Gather":
        index, source = constant(node.inputs[1]), node.inputs[0]
        if index is not None and index.ndim == 0 and source is not None and constant(source) is None:
            return source, node.attributes.get_int("axis", 0) % _rank(source), int(index)
    if node.op_type == "SequenceAt" and node.inputs[0] is not None:
        whole, index = node.inputs[0].producer(), constant(node.inputs[1])
        if whole is not None and whole.op_type == "SplitToSequence" and index is not None:
            source = whole.inputs[0]
            if source is not None and whole.attributes.get_int("keepdims", 1) == 0:
                return source, whole.attributes.get_int("axis", 0) % _rank(source), int(index)
    return None


def _squeezed(node: ir.Node) -> tuple[ir.Value, int, int] | None:
    """A step that was cut with its axis kept, and then lost that axis."""
    axes, kept = constant(node.inputs[1]) if len(node.inputs) > 1 else None, node.inputs[0]
    part = None if kept is None else kept.producer()
    if axes is None or axes.size != 1 or part is None or kept is None:
        return None
    source = part.inputs[0]
    if source is None:
        return None
    axis = int(axes.reshape(-1)[0]) % _rank(source)
    if part.op_type == "Split" and part.attributes.get_int("axis", 0) % _rank(source) == axis:
        return source, axis, list(part.outputs).index(kept)
    if part.op_type == "Slice":
        starts, ends, along = (constant(part.inputs[i]) for i in (1, 2, 3))
        if starts is None or ends is None or along is None or along.tolist() != [axis]:
            return None
        if int(ends[0]) - int(starts[0]) == 1:
            return source, axis, int(starts[0])
    return None


def _same_attributes(one: ir.Node, other: ir.Node) -> bool:
    values = [{name: attribute.value for name, attribute in node.attributes.items()} for node in (one, other)]
    return one.domain == other.domain and values[0] == values[1] and len(one.outputs) == len(other.outputs) == 1


def _with_time(build: Builder, node: ir.Node, inputs: Sequence[tuple[ir.Value | None, bool]], rank: int) -> ir.Value:
    """The node's operation over inputs of which those that vary have a leading time axis.

    Raises:
        NotRollable: the operator is not known to work so.
    """
    values = [value for value, _ in inputs]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if node.op_type in _ELEMENTWISE:
        return build.op(node.op_type, *values, **attributes)
    if node.op_type == "MatMul" and not inputs[1][1]:
        return build.op("MatMul", *values)
    if node.op_type == "Gemm" and not inputs[1][1] and not attributes.get("transA"):
        return _gemm(build, values, attributes)
    if node.op_type in _ONE_AXIS and all(varies for _, varies in inputs[:1]):
        axis = attributes.get("axis", -1)
        if node.op_type == "Concat" and not all(varies for _, varies in inputs):
            raise NotRollable(f"{node.name} joins a step with something that every step shares")
        return build.op(node.op_type, *values, **{**attributes, "axis": axis + 1 if axis >= 0 else axis})
    if node.op_type == "Slice" and inputs[0][1] and len(values) > 3 and not any(varies for _, varies in inputs[1:]):
        return build.op("Slice", *values[:3], _moved_axes(build, values[3]), *values[4:])
    if node.op_type in _AXES_INPUT and inputs[0][1] and len(values) > 1 and not inputs[1][1]:
        return build.op(node.op_type, values[0], _moved_axes(build, values[1]), **attributes)
    if node.op_type == "Gather" and inputs[1][1] and not inputs[0][1] and attributes.get("axis", 0) == 0:
        return build.op("Gather", *values, axis=0)  # an embedding of each step's ids
    raise NotRollable(f"{node.op_type} {node.name} (of rank {rank}) is not known to work on all steps at once")


def _moved_axes(build: Builder, value: ir.Value | None) -> ir.Value:
    """Axes behind the new one in front."""
    axes = constant(value)
    if axes is None:
        raise NotRollable("axes that are computed")
    return build.const([axis + 1 if axis >= 0 else axis for axis in axes.reshape(-1).tolist()], name="axes")


def _gemm(build: Builder, values: Sequence[ir.Value | None], attributes: dict[str, object]) -> ir.Value:
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise NotRollable("a Gemm with alpha or beta")
    weight = build.op("Transpose", values[1], perm=[1, 0]) if attributes.get("transB") else values[1]
    product = build.op("MatMul", values[0], weight)
    return product if len(values) < 3 or values[2] is None else build.op("Add", product, values[2])


def _rank(value: ir.Value) -> int:
    if value.shape is None:
        raise NotRollable(f"the rank of {value.name} is not known")
    return value.shape.rank()

"""The body of a loop as expressions: what each of its values is, in terms of the step's inputs and the states.

Needs: the loop as `Steps`, and which values are leaves. Guarantees: an expression for every value made of
products with constant matrices, element-wise arithmetic, activations, splits and joins; NotLiftedError for any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.activations import activation_of, clipped, limits_of
from seqport.exporters.lift.algebra import Expression, activated, add, leaf, matmul, multiply, number
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.native import STEP_OPS, native_step
from seqport.exporters.lift.steps import Steps
from seqport.exporters.lift.walk import attribute
from seqport.exporters.passes.lengths import is_zero

# A row of the batch in pieces that were joined along the last axis.
Row = tuple[Expression, ...]

# Ops that keep a row's elements, whatever they do to the axes before the last.
_SAME_ROW = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Dropout"})


class Evaluator:
    """Expressions of one loop's values.

    Args:
        steps: the loop.
        leaves: values that are not looked into: states and new states.
        dependent: the body's values that depend on a state.
        inputs: filled with what the cells read: the name of the leaf, the body's value.
    """

    def __init__(
        self,
        steps: Steps,
        leaves: Mapping[ir.Value, Expression],
        dependent: set[ir.Value],
        inputs: dict[str, ir.Value],
    ) -> None:
        self._steps, self._leaves, self._dependent, self._inputs = steps, leaves, dependent, inputs
        self._rows: dict[ir.Value, Row] = {}

    def expression(self, value: ir.Value) -> Expression:
        """The value as one expression.

        Raises:
            NotLiftedError: it is none, or two vectors joined.
        """
        row = self.row(value)
        if len(row) != 1:
            raise NotLiftedError("its state is several vectors joined into one")
        return row[0]

    def row(self, value: ir.Value) -> Row:
        """The value as its pieces."""
        value = self._steps.resolve(value)
        if value not in self._rows:
            self._rows[value] = self._find(value)
        return self._rows[value]

    def _find(self, value: ir.Value) -> Row:
        if value in self._leaves:
            return (self._leaves[value],)
        if value in self._steps.parts and all(part in self._leaves for part in self._steps.parts[value]):
            return tuple(self._leaves[part] for part in self._steps.parts[value])
        array = self._steps.facts.of(value)
        if array is not None:
            return (number(_vector(array)),)
        if is_zero(value):
            return (number(0.0),)
        node = value.producer()
        if value not in self._dependent and (node is None or not self._is_linear(node)):
            return (self._input(value),)
        assert node is not None
        return self._of_node(node)[list(node.outputs).index(value)]

    def _is_linear(self, node: ir.Node) -> bool:
        """Whether the algebra sees through the node; what it does not becomes one more input of the cell."""
        if not self._steps.is_inner(node.outputs[0]) or self._steps.slice_of(node.outputs[0]) is not None:
            return False
        if node.op_type in ("MatMul", "Gemm"):
            return self._steps.facts.of(node.inputs[1]) is not None
        if node.op_type == "Mul":
            return any(self._steps.facts.of(item) is not None for item in node.inputs)
        if node.op_type == "Slice":
            return all(self._steps.facts.of(item) is not None for item in node.inputs[1:])
        return node.op_type in (_SAME_ROW - {"Reshape", "Expand"}) | {"Add", "Sub", "Concat", "Split"}

    def _input(self, value: ir.Value) -> Expression:
        """A leaf for a value that does not depend on the states: one step of the layer's input."""
        part = self._steps.slice_of(value)
        name = next((key for key, known in self._inputs.items() if self._same_input(known, value)), None)
        if name is None:
            name = f"input {len(self._inputs)}"
            self._inputs[name] = value
        width = self._steps.facts.width(value if part is None else part.sequence)
        if width is None:
            width = self._width_wanted(value)
        if width is None:
            raise NotLiftedError(f"the size of {value.name!r}, which a step reads, is not known")
        return leaf(name, width)

    def _width_wanted(self, value: ir.Value) -> int | None:
        """The size that the weights which meet a value expect, where no shape is recorded (tf2onnx loses many)."""
        for use in value.uses():
            node, weights = use.node, None if use.idx or len(use.node.inputs) < 2 else use.node.inputs[1]
            if node.op_type in ("MatMul", "Gemm") and weights is not None:
                array = self._steps.facts.of(weights)
                if array is not None and array.ndim == 2:
                    return array.shape[1 if node.attributes.get_int("transB", 0) else 0]
            elif node.op_type in _SAME_ROW and use.idx == 0 and (found := self._width_wanted(node.outputs[0])):
                return found
        return None

    def _same_input(self, one: ir.Value, other: ir.Value) -> bool:
        first = self._steps.slice_of(one)
        return one is other or (first is not None and first == self._steps.slice_of(other))

    def _of_node(self, node: ir.Node) -> Sequence[Row]:
        op = node.op_type
        if op in STEP_OPS:
            return [(item,) for item in native_step(node, self._steps.facts, self.expression)]
        if op in _SAME_ROW:
            return [self.row(_input(node, 0))] * len(node.outputs)
        if op == "Concat":
            return [tuple(piece for i in range(len(node.inputs)) for piece in self.row(_input(node, i)))]
        if op in ("Split", "Slice"):
            return self._parts(node)
        if op in ("MatMul", "Gemm"):
            return [(self._product(node),)]
        name = activation_of(node)
        if name is not None:
            return [tuple(activated(name, piece) for piece in self.row(_input(node, 0)))]
        if op in ("Clip", "Min", "Max"):
            at, low, high = limits_of(node, self._steps.facts)
            return [tuple(clipped(piece, low, high) for piece in self.row(_input(node, at)))]
        if op in ("Neg", "Add", "Sub", "Mul", "Div"):
            return [self._arithmetic(node)]
        raise NotLiftedError(f"a step computes {op}{_called(node)}, which no recurrent operator of ONNX does")

    def _arithmetic(self, node: ir.Node) -> Row:
        one = self.row(_input(node, 0))
        if node.op_type == "Neg":
            return tuple(multiply(piece, number(-1.0)) for piece in one)
        other = self.row(_input(node, 1))
        if node.op_type == "Div":
            if not all(piece.is_number() for piece in other):
                raise NotLiftedError(f"a step divides by what it computed{_called(node)}")
            other = tuple(number(1.0 / (p.const if p.width else float(p.const))) for p in other)
        if node.op_type == "Sub":
            other = tuple(multiply(piece, number(-1.0)) for piece in other)
        by = multiply if node.op_type in ("Mul", "Div") else add
        try:
            return tuple(by(a, b) for a, b in _aligned(one, other))
        except ValueError as error:
            raise NotLiftedError(f"a step broadcasts in a way of its own{_called(node)}: {error}") from error

    def _product(self, node: ir.Node) -> Expression:
        matrix = self._steps.facts.of(node.inputs[1])
        if matrix is None or matrix.ndim != 2:
            raise NotLiftedError(f"the weights of {node.op_type}{_called(node)} are computed by the model")
        matrix = np.asarray(matrix, np.float64)
        if node.op_type == "Gemm" and attribute(node, "transB", 0):
            matrix = matrix.T
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            raise NotLiftedError(f"a step transposes its input{_called(node)}")
        total, start = number(np.zeros(matrix.shape[1])), 0
        row = self.row(_input(node, 0))
        for piece in row:
            width = piece.width if piece.width is not None else matrix.shape[0] if len(row) == 1 else 1
            total = add(total, matmul(piece, matrix[start : start + width]))
            start += width
        if start != matrix.shape[0]:
            raise NotLiftedError(f"the sizes of {node.op_type}{_called(node)} do not fit")
        if node.op_type == "Gemm":
            total = multiply(total, number(float(attribute(node, "alpha", 1.0))))
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                beta = number(float(attribute(node, "beta", 1.0)))
                total = add(total, multiply(self.expression(node.inputs[2]), beta))
        return total

    def _parts(self, node: ir.Node) -> list[Row]:
        row = self.row(_input(node, 0))
        width = sum(piece.width or 0 for piece in row)
        if node.op_type == "Split":
            given = self._steps.facts.of(node.inputs[1]) if len(node.inputs) > 1 else None
            count = len(node.outputs)
            sizes = [width // count] * count if given is None else [int(size) for size in given]
            ends = np.cumsum(sizes).tolist()
            return [_cut(row, end - size, end) for size, end in zip(sizes, ends, strict=True)]
        arrays = [self._steps.facts.of(item) for item in node.inputs[1:]]
        if any(array is None for array in arrays):
            raise NotLiftedError(f"a step cuts its vector at a computed place{_called(node)}")
        starts, ends, *more = (array.reshape(-1) for array in arrays if array is not None)
        shape = self._steps.facts.shape(node.outputs[0])
        last = (2 if shape is None else len(shape)) - 1
        if (more and int(more[0][-1]) not in (-1, last)) or (len(more) > 1 and (more[1] != 1).any()):
            raise NotLiftedError(f"a step cuts something else than its columns{_called(node)}")
        # A Slice over several axes takes all of those before the last: [0, 4] to [2**31 - 1, 8].
        start, end = int(starts[-1]), int(ends[-1])
        start, end = (max(0, min(width, at + width if at < 0 else at)) for at in (start, end))
        return [_cut(row, start, end)]


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _called(node: ir.Node) -> str:
    return f" ({node.name})" if node.name else ""


def _vector(array: np.ndarray) -> np.ndarray | float:
    """A constant as a number or one row.

    Raises:
        NotLiftedError: its rows differ.
    """
    if array.size == 1:
        return float(array.reshape(-1)[0])
    rows = array.reshape(-1, array.shape[-1])
    if not (rows == rows[0]).all():
        raise NotLiftedError("a step adds or multiplies a matrix element by element")
    return rows[0]


def _aligned(one: Row, other: Row) -> list[tuple[Expression, Expression]]:
    """Both rows cut at the same places."""
    if len(other) == 1 and other[0].width in (None, 1):
        return [(piece, other[0]) for piece in one]
    if len(one) == 1 and one[0].width in (None, 1):
        return [(one[0], piece) for piece in other]
    if not one or not other or _edges(one)[-1] != _edges(other)[-1]:
        raise ValueError(f"vectors of widths {_edges(one)[-1:]} and {_edges(other)[-1:]}")
    edges = sorted({*_edges(one), *_edges(other)})
    pairs = []
    for start, stop in zip([0, *edges], edges, strict=False):
        left, right = _cut(one, start, stop), _cut(other, start, stop)
        pairs.append((left[0], right[0]))
    return pairs


def _edges(row: Row) -> list[int]:
    return np.cumsum([piece.width or 0 for piece in row]).tolist()


def _cut(row: Row, start: int, stop: int) -> Row:
    found, offset = [], 0
    for piece in row:
        width = piece.width or 0
        low, high = max(start - offset, 0), min(stop - offset, width)
        if low < high:
            found.append(piece if high - low == width else piece.cut(low, high))
        offset += width
    return tuple(found)  # none at all where a Split gives an empty part

"""What a loop computed step by step, computed over all steps at once.

Needs: terms of a straightened graph. Guarantees: `stacked` gives one value [seq, ...] that holds every step of a term,
`final` its last step; recurrences among the terms become native nodes, sums and extremes. NotRollable says what has
no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir

from seqport.exporters.cell import is_cell
from seqport.exporters.passes.builder import Builder
from seqport.exporters.rolling.names import layer_name
from seqport.exporters.rolling.terms import (
    ONE_STEP,
    Applied,
    Before,
    Counted,
    Flipped,
    NotRollable,
    Same,
    Taken,
    Term,
    Window,
)
from seqport.exporters.rolling.vectorise import Operand, stacked_alike, vectorised

_END = 2**31 - 1
# A loop that takes so many steps fewer than a sequence has leaves out its ends; one that takes still fewer was told
# how many to take.
ENDS = 2


class Stacks:
    """Emits the stacks of one graph's terms, each once.

    Args:
        build: emits before a fitting node.
        circles: the terms that depend on themselves, see `components`.
        seq: the number of steps of a loop that was traced at that many, [1], where it reads no sequence; or None.
        solve: emits a circle, and fills in `done` and `ends`.
        whole: numbers of steps of loops over a whole axis, which never is empty.
        told: number of steps of a loop up to a size that values tell → that size, as traced.
    """

    def __init__(
        self,
        build: Builder,
        circles: Mapping[Term, frozenset[Term]],
        seq: Callable[[int], ir.Value | None],
        solve: Callable[[Stacks, frozenset[Term]], None],
        whole: Collection[int],
        told: Mapping[int, int],
    ) -> None:
        self.build, self.circles, self._whole, self._told = build, circles, whole, told
        self._seq, self._solve = seq, solve
        self._counts: dict[int, ir.Value] = {}
        self.done: dict[Term, Operand] = {}
        self.ends: dict[Term, ir.Value] = {}

    def stacked(self, term: Term) -> ir.Value:
        """Every step of a term, [seq, ...].

        Raises:
            NotRollable: it cannot be computed over all steps at once.
        """
        return stacked_alike(self.build, self.operand(term), self.count(term))

    def operand(self, term: Term) -> Operand:
        """A term over all steps, or the one value that it always is."""
        if term not in self.done:
            if term in self.circles:
                self._solve(self, self.circles[term])
                if term not in self.done:
                    raise _inside(term, self.circles[term])
            else:
                self.done[term] = self._emit(term)
        return self.done[term]

    def final(self, term: Term) -> ir.Value:
        """The last step of a term."""
        if term in self.circles and term not in self.ends and term not in self.done:
            self._solve(self, self.circles[term])
        if term not in self.ends:
            self.ends[term] = self.step(term, -1)
        return self.ends[term]

    def step(self, term: Term, at: int) -> ir.Value:
        """One step of a term; a negative one counts from the end."""
        return self.build.op("Gather", self.stacked(term), self.build.const(at), axis=0)

    def count(self, term: Term) -> ir.Value:
        """The number of steps of a term, [1]."""
        if term.count not in self._counts:
            found = self._seq(term.count)
            if found is None:
                raise NotRollable(f"how its {term.count} traced steps follow from the inputs is not known")
            self._counts[term.count] = found
        return self._counts[term.count]

    def may_be_empty(self, term: Term) -> bool:
        """Whether the loop may take no step at all."""
        return term.count not in self._whole

    def window(self, value: ir.Value, front: int, back: int) -> ir.Value:
        """A stack without its first and last steps."""
        if not front and not back:
            return value
        return self.cut(value, front, -back if back else _END, 0)

    def cut(self, value: ir.Value, start: int, end: int, axis: int, step: int = 1) -> ir.Value:
        """A Slice along one axis."""
        return self.build.op("Slice", value, *(self.build.const([v], name="slice") for v in (start, end, axis, step)))

    def reversed(self, value: ir.Value) -> ir.Value:
        """A stack with its steps in reverse."""
        return self.cut(value, -1, -_END - 1, 0, -1)

    def after_initial(self, initial: ir.Value, value: ir.Value) -> ir.Value:
        """A stack behind the value before its first step, [1 + seq, ...]."""
        first = self.build.op("Unsqueeze", initial, self.build.const([0], name="axes"))
        shape = self.build.op("Shape", value, start=1)
        one = self.build.op("Concat", self.build.const([1]), shape, axis=0)
        return self.build.op("Concat", self.build.op("Expand", first, one), value, axis=0)

    def _emit(self, term: Term) -> Operand:
        rank = rank_of(term)
        match term:
            case Same():
                return Operand(term.value, False, rank)
            case Taken():
                return Operand(self._taken(term), True, rank)
            case Counted():
                return Operand(self._counted(term), True, rank)
            case Flipped():
                return Operand(self.reversed(self.stacked(term.of)), True, rank)
            case Window():
                return Operand(self.window(self.stacked(term.of), term.front, term.back), True, rank)
            case Before():
                whole = self.after_initial(term.initial, self.stacked(term.after))
                return Operand(self.window(whole, 0, term.after.count + 1 - term.count), True, rank)
            case Applied():
                return self._applied(term)
        raise AssertionError(term)

    def _taken(self, term: Taken) -> ir.Value:
        source, axis = term.source, term.axis
        shape = source.shape
        assert shape is not None
        size = shape[axis]
        order = [axis, *(i for i in range(shape.rank()) if i != axis)]
        moved = source if axis == 0 else self.build.op("Transpose", source, perm=order)
        first = term.start if term.stride > 0 else term.start - term.count + 1
        if self._told.get(term.count, size) != size and abs(term.stride) == 1:
            return self._taken_until(term, moved, first)
        if not isinstance(size, int):
            raise NotRollable(f"it takes {term.count} steps of {source.name}, whose length is not the loop's own")
        if abs(term.stride) > 1:
            moved = self._every(term, moved, size)
            self._counts.setdefault(term.count, self.build.op("Shape", moved, start=0, end=1))
            return self.build.op("Unsqueeze", moved, self.build.const([axis + 1], name="axes")) if term.kept else moved
        back = size - first - term.count
        if back < 0:  # with the last step, which was never traced, it would be longer than the sequence is
            raise NotRollable(
                f"it takes {term.count} steps of {source.name} from step {first} on, and there are {size}"
            )
        fixed = first + back > ENDS
        moved = self.cut(moved, first, first + term.count, 0) if fixed and back else self.window(moved, first, back)
        if term.stride < 0:
            moved = self.reversed(moved)
        if term.count not in self._told:
            self._counts.setdefault(term.count, self.build.op("Shape", moved, start=0, end=1))
        return self.build.op("Unsqueeze", moved, self.build.const([axis + 1], name="axes")) if term.kept else moved

    def _taken_until(self, term: Taken, moved: ir.Value, first: int) -> ir.Value:
        """As many steps of a longer sequence, [time, ...], as values tell."""
        build = self.build
        end = build.op("Add", self.count(term), build.const([first])) if first else self.count(term)
        moved = build.op("Slice", moved, build.const([first]), end, build.const([0], name="axes"))
        moved = self.reversed(moved) if term.stride < 0 else moved
        return build.op("Unsqueeze", moved, build.const([term.axis + 1], name="axes")) if term.kept else moved

    def _every(self, term: Taken, moved: ir.Value, size: int) -> ir.Value:
        """Every second step of a sequence, say."""
        by, build = term.stride, self.build
        rounded = [up for up in (0, by - 1) if (size + up) // by == term.count]
        if by < 0 or not rounded:
            raise NotRollable(f"it takes every {abs(by)}th step of {term.source.name} in a way of its own")
        whole = build.op("Shape", moved, start=0, end=1)
        whole = build.op("Add", whole, build.const([rounded[0]])) if rounded[0] else whole
        length = build.op("Mul", build.op("Div", whole, build.const([by])), build.const([by]))
        end = build.op("Add", length, build.const([term.start]))
        return build.op("Slice", moved, build.const([term.start]), end, build.const([0]), build.const([by]))

    def _counted(self, term: Counted) -> ir.Value:
        example = term.example()
        rank, dtype = rank_of(term) or 0, example.dtype
        assert dtype is not None
        steps = self.build.op(
            "Range", self.build.const(0), self.build.op("Squeeze", self.count(term)), self.build.const(1)
        )
        column = (
            self.build.op("Unsqueeze", steps, self.build.const(list(range(1, rank + 1)), name="axes"))
            if rank
            else steps
        )
        numbers = self.build.op("Cast", column, to=dtype)
        if term.stride != 1:
            numbers = self.build.op("Mul", numbers, self.build.const(np.asarray(term.stride), dtype.numpy()))
        if term.start != 0:
            numbers = self.build.op("Add", numbers, self.build.const(np.asarray(term.start), dtype.numpy()))
        return numbers

    def _applied(self, term: Applied) -> Operand:
        operands = [None if part is None else self.operand(part) for part in term.operands]
        node, rank = term.node, rank_of(term)
        if node.op_type == "Shape" and operands[0] is not None and operands[0].varies:
            return Operand(self._shape(node, operands[0]), False, 1)
        if not any(item is not None and item.varies for item in operands):
            values = [None if item is None else item.value for item in operands]
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            first = self.build.op(node.op_type, *values, num_outputs=len(node.outputs), **attributes)
            producer = first.producer()
            assert producer is not None
            return Operand(producer.outputs[term.index], False, rank)
        found = vectorised(self.build, node, operands, self.count(term))
        value = found[term.index]
        value.type = term.example().type
        if value.shape is None and rank is not None:
            value.shape = ir.Shape([None] * (rank + 1))
        return Operand(value, True, rank)

    def _shape(self, node: ir.Node, x: Operand) -> ir.Value:
        """The shape of one step, which is that of every step."""
        start, end = node.attributes.get_int("start", 0), node.attributes.get("end")
        bounds = {"start": start + (start >= 0)}
        if end is not None:
            bounds["end"] = end.as_int() + (end.as_int() >= 0)
        return self.build.op("Shape", x.value, **bounds)


def _inside(term: Term, circle: frozenset[Term]) -> NotRollable:
    """The refusal of a value that a recurrent operator keeps to itself."""
    layer = layer_name(circle)
    if (isinstance(term, Applied) and is_cell(term.node)) or (isinstance(term, Before) and is_cell_state(term)):
        reason = "its cell state c is read at each step, and ONNX's LSTM gives only the last"
        return NotRollable(reason, layer=layer, remedy="read the hidden states, or the last cell state only")
    name = term.example().name
    return NotRollable(f"{name}, a value inside of its cell, is read at each step", layer=layer, remedy=ONE_STEP)


def is_cell_state(term: Before) -> bool:
    """Whether a state is an LSTM cell's c."""
    return isinstance(term.after, Applied) and is_cell(term.after.node) and term.after.index == 1


def rank_of(term: Term) -> int | None:
    """The rank of one step."""
    shape = term.example().shape
    return None if shape is None else shape.rank()

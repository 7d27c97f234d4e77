"""A Loop or a Scan, read as steps over time: what is carried, what each step reads, what each step gives.

Needs: a Loop or Scan node. Guarantees: the node's inputs, outputs and body, sorted by role; nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.walk import (
    SAME_NUMBER,
    Axis,
    Facts,
    attribute,
    axis_behind,
    body_of,
    size_behind,
    skip,
)

# The key of the iteration number in an `Affine`.
TIME = "t"
# The constant's key.
ONE = "1"
# An end of a slice that no axis reaches, or a step beyond its end; tf2onnx writes it for both.
_ENDLESS = 10**9


@dataclass(frozen=True)
class Affine:
    """A whole number as a sum: of the iteration number, sizes of axes, other numbers of the outer graph, a constant."""

    terms: dict[object, int]

    def plus(self, other: Affine, times: int = 1) -> Affine:
        """The sum, the other one taken `times` times."""
        total = dict(self.terms)
        for key, count in other.terms.items():
            total[key] = total.get(key, 0) + times * count
        return Affine({key: count for key, count in total.items() if count})

    @property
    def constant(self) -> int:
        """The part without a key."""
        return self.terms.get(ONE, 0)

    def of(self, key: object) -> int:
        """How often the key is in the sum."""
        return self.terms.get(key, 0)

    def keys(self) -> list[object]:
        """Every key but the constant's."""
        return [key for key in self.terms if key is not ONE]


@dataclass
class State:
    """What is carried from step to step: the first value, the body's input and output, the value after the loop.

    Attributes:
        initial: before the loop.
        entry: the body's input.
        leaving: the body's output.
        final: after the loop.
        columns: of a piece of a joined state: its first column and one past its last in `initial`.
        whole: the joined state that it is a piece of; `entry`, `leaving` and `final` are then in no graph.
    """

    initial: ir.Value
    entry: ir.Value
    leaving: ir.Value
    final: ir.Value
    columns: tuple[int, int] | None = None
    whole: State | None = None

    def width(self, facts: Facts) -> int | None:
        """The number of its columns, where that is known."""
        if self.columns is not None:
            return self.columns[1] - self.columns[0]
        known = (facts.width(value) for value in (self.entry, self.initial, self.leaving, self.final))
        return next((width for width in known if width is not None), None)


@dataclass(frozen=True)
class Slice:
    """One step's part of a sequence: element `index` of an axis of an outer value."""

    sequence: ir.Value
    axis: int
    index: Affine


@dataclass
class Emitted:
    """What each step gives: the body's value, and the outer value that collects it along an axis.

    Attributes:
        inner: the body's value.
        outer: the collection.
        axis: along which the steps stand.
        backwards: the last step stands first.
    """

    inner: ir.Value
    outer: ir.Value
    axis: int
    backwards: bool = False


@dataclass
class Steps:
    """A loop by the roles of its parts.

    Attributes:
        node: the Loop or Scan.
        facts: of the model.
        states: carried tensors.
        emitted: collected outputs.
        slices: the body's values that are one step of an outer sequence.
        aliases: body inputs that are an outer value at every step.
        counters: body inputs that count.
        bounds: the loop runs as often as the smallest of these.
        unchanged: values after the loop that are those before it: (after, before).
        parts: the body's values that are several states joined, and the pieces.
    """

    node: ir.Node
    facts: Facts
    states: list[State] = field(default_factory=list)
    emitted: list[Emitted] = field(default_factory=list)
    slices: dict[ir.Value, Slice] = field(default_factory=dict)
    aliases: dict[ir.Value, ir.Value] = field(default_factory=dict)
    counters: dict[ir.Value, Affine] = field(default_factory=dict)
    bounds: list[Affine] = field(default_factory=list)
    unchanged: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)
    parts: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inner: set[ir.Value] = set(body_of(self.node).inputs)
        for node in body_of(self.node):
            self._inner.update(node.outputs)
        self._constants: set[ir.Value] = set(body_of(self.node).initializers.values())

    def is_body(self, value: ir.Value) -> bool:
        """Whether the value lives in the body, constants too."""
        return value in self._inner or value in self._constants

    def is_inner(self, value: ir.Value) -> bool:
        """Whether the value belongs to the body (and is no constant of it)."""
        return value in self._inner and self.facts.of(value) is None

    def resolve(self, value: ir.Value) -> ir.Value:
        """The value behind Identities, loop-invariant body inputs and choices that are always the same, and times 1."""
        before = None
        while value is not before:
            before = value
            value = skip(value)
            value = self.aliases.get(value, value)
            node = value.producer()
            if node is not None and node.op_type == "Where":
                test = self.facts.of(node.inputs[0])
                if test is not None and (test.all() or not test.any()):
                    value = node.inputs[1 if test.all() else 2] or value
            elif node is not None and node.op_type in ("Mul", "Div"):
                by = self.facts.of(node.inputs[1])
                if by is not None and by.size == 1 and by.ndim <= 1 and by.reshape(-1)[0] == 1:
                    value = node.inputs[0] or value
        return value

    def slice_of(self, value: ir.Value) -> Slice | None:
        """The slice that this body value is, through ops that keep its elements in place."""
        value = self.resolve(value)
        if value not in self.slices and (found := _gathered(self, value)) is not None:
            self.slices[value] = found
        return self.slices.get(value)

    def affine(self, value: ir.Value | None) -> Affine | None:
        """The whole number as a sum, or None where it is none."""
        if value is None:
            return None
        value = self.resolve(value)
        array = self.facts.of(value)
        if array is not None:
            return Affine({ONE: int(array.reshape(-1)[0])}) if array.size == 1 and array == array.astype(int) else None
        if value in self.counters:
            return self.counters[value]
        node = value.producer()
        if node is not None and node.op_type in SAME_NUMBER:
            return self.affine(node.inputs[0])
        if node is not None and node.op_type in ("Add", "Sub"):
            left, right = self.affine(node.inputs[0]), self.affine(node.inputs[1])
            if left is not None and right is not None:
                return left.plus(right, 1 if node.op_type == "Add" else -1)
        if node is not None and (same := self.same_number(node)) is not None:
            return self.affine(same)
        if self.is_inner(value):
            return None
        size = size_behind(value)
        return Affine({size if size is not None else value: 1})

    def same_number(self, node: ir.Node) -> ir.Value | None:
        """The input that a number is, behind the tests that tf2onnx writes around the ends of a slice."""
        if node.op_type == "Concat" and len(node.inputs) == 1:
            return node.inputs[0]
        if node.op_type == "Where":
            holds = self._holds(node.inputs[0])
            return None if holds is None else node.inputs[1 if holds else 2]
        if node.op_type in ("Max", "Min") and len(node.inputs) == 2:
            for value, other in (tuple(node.inputs), tuple(node.inputs)[::-1]):
                limit = self.facts.of(other)
                if limit is not None and limit.size and (np.abs(limit) >= _ENDLESS).all():
                    return value if (limit.reshape(-1)[0] < 0) == (node.op_type == "Max") else other
        return None

    def _holds(self, value: ir.Value | None) -> bool | None:
        """Whether a condition is always true or always false; None where it depends."""
        array = self.facts.of(value)
        if array is not None:
            return bool(array.all()) if array.all() or not array.any() else None
        node = None if value is None else self.resolve(value).producer()
        if node is not None and node.op_type == "And" and False in [self._holds(item) for item in node.inputs]:
            return False
        return None

    def length_of(self, sequence: ir.Value, axis: int) -> Axis:
        """The key of a sequence's number of steps."""
        return axis_behind(sequence, axis)


def _gathered(steps: Steps, value: ir.Value) -> Slice | None:
    node = value.producer()
    if node is None or not steps.is_inner(value) or node.op_type not in ("Gather", "Squeeze"):
        return None
    assert node.inputs[0] is not None
    axis: int = attribute(node, "axis", 0)
    source, index = node.inputs[0], None
    if node.op_type == "Gather":
        index = steps.affine(node.inputs[1])
    else:
        squeezed, cut = steps.facts.of(node.inputs[1]) if len(node.inputs) > 1 else None, source.producer()
        if squeezed is None or squeezed.size != 1 or cut is None or cut.op_type != "Slice" or len(cut.inputs) < 4:
            return None
        assert cut.inputs[0] is not None
        axis = int(squeezed.reshape(-1)[0])
        source, index = cut.inputs[0], _single_step(steps, cut, axis)
    sequence = whole(steps, steps.resolve(source))
    if steps.is_inner(sequence) or index is None or abs(index.of(TIME)) != 1:
        return None
    return Slice(sequence, axis, index)


def _single_step(steps: Steps, node: ir.Node, axis: int) -> Affine | None:
    """The index of the one element that a Slice takes of an axis, where it takes everything of the others."""
    starts, ends, axes, *by = (_numbers(steps, item) for item in node.inputs[1:])
    if starts is None or ends is None or axes is None or None in by:
        return None
    found = None
    strides = by[0] if by and by[0] is not None else [Affine({ONE: 1})] * len(axes)
    for at, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        endless = not end.keys() and end.constant >= _ENDLESS
        if at == Affine({ONE: axis} if axis else {}):
            single = end.plus(start, -1) == Affine({ONE: 1}) or (endless and stride.constant >= _ENDLESS)
            found = start if single else None
        elif start.terms or not endless or stride.constant != 1:
            return None
    return found


def _numbers(steps: Steps, value: ir.Value | None) -> list[Affine] | None:
    """A vector of whole numbers as sums."""
    array = steps.facts.of(value)
    if array is not None:
        return [Affine({ONE: int(item)} if item else {}) for item in array.reshape(-1)]
    if value is None:
        return None
    value = steps.resolve(value)
    node = value.producer()
    if node is not None and node.op_type == "Cast":
        return _numbers(steps, node.inputs[0])
    if node is not None and node.op_type == "Concat":
        parts = [_numbers(steps, part) for part in node.inputs]
        return None if None in parts else [item for part in parts if part is not None for item in part]
    same = None if node is None else steps.same_number(node)
    if same is not None:
        return _numbers(steps, same)
    found = steps.affine(value)
    return None if found is None else [found]


def whole(steps: Steps, value: ir.Value) -> ir.Value:
    """The value behind a Slice that takes everything, as x[:, t] first does."""
    node = value.producer()
    while node is not None and node.op_type == "Slice" and node.inputs[0] is not None:
        starts, ends = steps.facts.of(node.inputs[1]), steps.facts.of(node.inputs[2])
        by = steps.facts.of(node.inputs[4]) if len(node.inputs) > 4 else None
        if starts is None or ends is None or starts.any() or (ends < _ENDLESS).any():
            break
        if by is not None and (by != 1).any():
            break
        value = steps.resolve(node.inputs[0])
        node = value.producer()
    return value

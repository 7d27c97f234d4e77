"""A Loop or a Scan, read as steps over time: what is carried, what each step reads, what each step gives.

Needs: a Loop or Scan node. Guarantees: the node's inputs, outputs and body, sorted by role; nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
        """The value behind Identities and loop-invariant body inputs."""
        before = None
        while value is not before:
            before = value
            value = skip(value)
            value = self.aliases.get(value, value)
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
        if self.is_inner(value):
            return None
        size = size_behind(value)
        return Affine({size if size is not None else value: 1})

    def length_of(self, sequence: ir.Value, axis: int) -> Axis:
        """The key of a sequence's number of steps."""
        return axis_behind(sequence, axis)


def _gathered(steps: Steps, value: ir.Value) -> Slice | None:
    node = value.producer()
    if node is None or not steps.is_inner(value) or node.op_type != "Gather":
        return None
    assert node.inputs[0] is not None
    sequence, index = _whole(steps, steps.resolve(node.inputs[0])), steps.affine(node.inputs[1])
    if steps.is_inner(sequence) or index is None or abs(index.of(TIME)) != 1:
        return None
    return Slice(sequence, attribute(node, "axis", 0), index)


def _whole(steps: Steps, value: ir.Value) -> ir.Value:
    """The value behind a Slice that takes everything, as x[:, t] first does."""
    node = value.producer()
    while node is not None and node.op_type == "Slice" and node.inputs[0] is not None:
        starts, ends = steps.facts.of(node.inputs[1]), steps.facts.of(node.inputs[2])
        by = steps.facts.of(node.inputs[4]) if len(node.inputs) > 4 else None
        if starts is None or ends is None or starts.any() or (ends < 2**31 - 1).any():
            break
        if by is not None and (by != 1).any():
            break
        value = steps.resolve(node.inputs[0])
        node = value.producer()
    return value

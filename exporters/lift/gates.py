"""Which rows a step changes: the test that keeps a state, or blanks an output, where a step is padding.

Needs: a value of a loop's body. Guarantees: a choice between two values by one boolean is found however it is
written (Where, or sums of products with a boolean and its opposite), and the boolean as lengths or as a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.steps import ONE, TIME, Affine, Slice, State, Steps, whole

# Ops that keep a boolean, whatever they do to its shape and element type.
_SAME_TEST = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand"})


@dataclass(frozen=True)
class Choice:
    """`valid` rows take `new`, the others `old` (None: zeros)."""

    test: ir.Value
    valid: bool
    new: ir.Value
    old: ir.Value | None

    def opposite(self) -> Choice:
        """The same choice, read the other way round."""
        assert self.old is not None
        return Choice(self.test, not self.valid, self.old, self.new)


@dataclass
class Carried:
    """A state with its gate taken off.

    Attributes:
        state: as the loop has it.
        new: the body's value after a valid step.
        choice: between `new` and the old value; None where every step is valid.
    """

    state: State
    new: ir.Value
    choice: Choice | None


@dataclass(frozen=True)
class Gate:
    """When a row is valid: before its length, or where its mask is true.

    Attributes:
        lengths: an outer value [batch] and what is added to it.
        mask: one step of a boolean sequence, or any boolean that no state reaches.
        index: of the step that is tested.
        valid: what the mask is at a valid step.
    """

    lengths: tuple[ir.Value, int] | None
    mask: Slice | ir.Value | None
    valid: bool = True

    @property
    def kind(self) -> str:
        """For the report."""
        return "lengths" if self.lengths is not None else "mask"


def choice_of(steps: Steps, value: ir.Value) -> Choice | None:
    """The choice that a value is, or None."""
    value = steps.resolve(value)
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Where":
        test, one, other = (item for item in node.inputs if item is not None)
        base, positive = _test(steps, test)
        return Choice(base, positive, steps.resolve(one), steps.resolve(other))
    if node.op_type == "Add":
        return _sum(steps, node)
    if node.op_type == "Mul":
        for factor, rest in _pairs(steps, node):
            found = _factor(steps, factor)
            if found is not None:
                return Choice(*found, rest, None)
    return None


def gate_of(steps: Steps, choice: Choice, index: Affine | None) -> Gate:
    """The gate behind a choice whose `new` is the step's result.

    Args:
        steps: the loop.
        choice: as found.
        index: of the step that the layer reads, so that both are known to speak of the same step.

    Raises:
        NotLiftedError: the test is neither lengths nor a mask of this step.
    """
    node = choice.test.producer()
    if node is not None and node.op_type in _COMPARISONS:
        one, other = steps.affine(node.inputs[0]), steps.affine(node.inputs[1])
        if one is not None and other is not None:
            return Gate(_lengths(node.op_type, one, other, choice.valid, index), None)
    part = steps.slice_of(choice.test)
    if part is not None and index is not None and part.index != index:
        raise NotLiftedError("its mask belongs to another step than its input")
    return Gate(None, part or choice.test, choice.valid)


# op → what is added to the right side so that "left < right" says the same.
_COMPARISONS = {"Less": (False, 0), "LessOrEqual": (False, 1), "Greater": (True, 0), "GreaterOrEqual": (True, 1)}


def _lengths(op: str, one: Affine, other: Affine, valid: bool, index: Affine | None) -> tuple[ir.Value, int]:
    """The lengths in `step < lengths`, from any comparison of the two."""
    swapped, extra = _COMPARISONS[op]
    small, large = (other, one) if swapped else (one, other)
    if not valid:  # not (small < large + extra) is (large < small + 1 - extra)
        small, large, extra = large, small, 1 - extra
    gap = large.plus(small, -1).plus(Affine({ONE: extra}))
    # lengths + offset - step, where step is what the layer reads: t itself, or T - 1 - t.
    gap = gap.plus(index if index is not None else Affine({TIME: 1}))
    keys = gap.keys()
    if len(keys) != 1 or gap.of(keys[0]) != 1 or not isinstance(keys[0], ir.Value):
        raise NotLiftedError("it compares the step's number with more than one length a row")
    return keys[0], gap.constant


def _sum(steps: Steps, node: ir.Node) -> Choice | None:
    """Test * new + (1 - test) * old, or old + test * (new - old)."""
    one, other = (steps.resolve(item) for item in node.inputs if item is not None)
    for left, right in ((one, other), (other, one)):
        first, second = left.producer(), right.producer()
        if first is None or first.op_type != "Mul":
            continue
        for factor, new in _pairs(steps, first):
            found = _factor(steps, factor)
            if found is None:
                continue
            if second is not None and second.op_type == "Mul":
                for other_factor, old in _pairs(steps, second):
                    if _factor(steps, other_factor) == (found[0], not found[1]):
                        return Choice(*found, new, old)
            difference = new.producer()
            if difference is not None and difference.op_type == "Sub":
                target, base = (steps.resolve(item) for item in difference.inputs if item is not None)
                if base is right:
                    return Choice(*found, target, base)
    return None


def _pairs(steps: Steps, node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    one, other = (steps.resolve(item) for item in node.inputs if item is not None)
    return [(one, other), (other, one)]


def _factor(steps: Steps, value: ir.Value) -> tuple[ir.Value, bool] | None:
    """The boolean behind a factor of 0 and 1, and whether 1 says true; None where it may be any number."""
    negated = _one_minus(steps, value)
    if negated is not None:
        inner = _factor(steps, negated)
        return None if inner is None else (inner[0], not inner[1])
    base, positive = _test(steps, value)
    return (base, positive) if _is_boolean(steps, base) and base is not value else None


def _one_minus(steps: Steps, value: ir.Value) -> ir.Value | None:
    """The m in 1 - m, or in -m + 1 as TorchScript writes it."""
    node = value.producer()
    if node is None or node.op_type not in ("Sub", "Add") or len(node.inputs) != 2:
        return None
    one, other = (steps.resolve(item) for item in node.inputs if item is not None)
    if node.op_type == "Add":
        one, other = (other, one) if steps.facts.of(other) is not None else (one, other)
        minus = other.producer()
        if minus is None or minus.op_type != "Neg" or minus.inputs[0] is None:
            return None
        other = steps.resolve(minus.inputs[0])
    array = steps.facts.of(one)
    return other if array is not None and (array == 1).all() else None


def _is_boolean(steps: Steps, value: ir.Value) -> bool:
    node = value.producer()
    if node is not None and node.op_type in {*_COMPARISONS, "And", "Or", "Equal", "Not"}:
        return True
    part = steps.slice_of(value)
    return steps.facts.dtype(part.sequence if part is not None else value) == ir.DataType.BOOL


def _test(steps: Steps, value: ir.Value) -> tuple[ir.Value, bool]:
    """The boolean behind its reshapes and negations, and whether it stands as it is."""
    positive = True
    while True:
        value = whole(steps, steps.resolve(value))
        node = value.producer()
        if node is None or steps.facts.of(value) is not None or not steps.is_inner(value):
            return value, positive
        if node.op_type == "Not":
            positive = not positive
        elif node.op_type not in _SAME_TEST:
            return value, positive
        assert node.inputs[0] is not None
        value = node.inputs[0]

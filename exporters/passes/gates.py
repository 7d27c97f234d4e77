"""A state that a mask holds, as loops over time write it.

`where(m, new, old)`, `m * new + (1 - m) * old`, or `old + m * (new - old)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.passes.builder import constant


@dataclass(frozen=True)
class Gate:
    """One held state.

    Attributes:
        value: the state after the gate.
        condition: the mask at this step.
        fresh: what the cell gave.
        held: the state before.
        inverted: the condition is true where the state is held.
    """

    value: ir.Value
    condition: ir.Value
    fresh: ir.Value
    held: ir.Value
    inverted: bool


def gate_behind(value: ir.Value, is_fresh: Callable[[ir.Value], bool]) -> Gate | None:
    """The gate that gave a value, where one of its branches is fresh by the given test."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Where":
        condition, yes, no = node.inputs
        if condition is not None and yes is not None and no is not None:
            if is_fresh(yes):
                return Gate(value, condition, yes, no, inverted=False)
            if is_fresh(no):
                return Gate(value, condition, no, yes, inverted=True)
    if node.op_type == "Add":
        return _blend(value, node, is_fresh) or _moved(value, node, is_fresh)
    return None


def _moved(value: ir.Value, node: ir.Node, is_fresh: Callable[[ir.Value], bool]) -> Gate | None:
    """`held + m * (fresh - held)`, the operands in any order."""
    for held, product in (node.inputs, node.inputs[::-1]):
        for change, weight in [] if (pair := _factors(product)) is None else (pair, pair[::-1]):
            step = change.producer()
            if held is None or step is None or step.op_type != "Sub" or step.inputs[1] is not held:
                continue
            fresh = step.inputs[0]
            if fresh is not None and is_fresh(fresh):
                return Gate(value, weight, fresh, held, inverted=False)
    return None


def _blend(value: ir.Value, node: ir.Node, is_fresh: Callable[[ir.Value], bool]) -> Gate | None:
    """`m * fresh + (1 - m) * held`, the factors in any order."""
    products = [_factors(item) for item in node.inputs]
    if any(pair is None for pair in products):
        return None
    one, other = products
    for new, old in ((one, other), (other, one)):
        assert new is not None and old is not None
        for fresh, weight in (new, new[::-1]):
            if not is_fresh(fresh):
                continue
            for held, rest in (old, old[::-1]):
                if _complement(rest, weight):
                    return Gate(value, weight, fresh, held, inverted=False)
                if _complement(weight, rest):
                    return Gate(value, rest, fresh, held, inverted=True)
    return None


def _factors(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Mul" or node.inputs[0] is None or node.inputs[1] is None:
        return None
    return node.inputs[0], node.inputs[1]


def _complement(value: ir.Value, of: ir.Value) -> bool:
    """Whether value is 1 - of, or not of."""
    node = _through_casts(value).producer()
    if node is None:
        return False
    if node.op_type == "Not" and node.inputs[0] is not None:
        return _through_casts(node.inputs[0]) is _through_casts(of)
    if node.op_type == "Sub" and node.inputs[1] is not None:
        one = constant(node.inputs[0])
        return one is not None and bool((one == 1).all()) and _through_casts(node.inputs[1]) is _through_casts(of)
    return False


def _through_casts(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.op_type in ("Cast", "Identity") and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value

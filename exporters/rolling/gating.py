"""A state that a mask holds or zeroes at some steps, with the mask taken off.

Needs: a state of a circle. Guarantees: what the state would be without the mask, and the mask; a mask never depends on
the state itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.passes.gates import gate_behind
from seqport.exporters.passes.lengths import is_zero
from seqport.exporters.rolling.stacks import rank_of
from seqport.exporters.rolling.template import TEMPLATE
from seqport.exporters.rolling.terms import Applied, Before, NotRollable, Same, Term


@dataclass(frozen=True)
class Gated:
    """One state.

    Attributes:
        fresh: what the cell gave.
        condition: the mask, or None where the state always moves.
        inverted: the mask is true where the state is held.
        zero: a masked step sets the state to zero.
    """

    fresh: Term
    condition: Term | None = None
    inverted: bool = False
    zero: bool = False

    @property
    def test(self) -> ir.Value | None:
        """The mask at the template step."""
        return None if self.condition is None else self.condition.family[TEMPLATE]


def gate_of(state: Before, circle: frozenset[Term]) -> Gated:
    """The state's gate.

    Raises:
        NotRollable: the state is held by something else than a mask.
    """
    step = state.after
    if not isinstance(step, Applied):
        raise NotRollable("a step reads another step's state than that of the step before")
    terms = _around(step)
    old, new = state.family[TEMPLATE], step.family[TEMPLATE]
    assert new is not None

    def in_circle(value: ir.Value | None) -> bool:
        return value in terms and terms[value] in circle  # type: ignore[index]

    gate = gate_behind(
        new,
        lambda value: value is not old and in_circle(value),
    )
    if gate is not None and not in_circle(gate.condition):
        if gate.held is old:
            return Gated(terms[gate.fresh], _mask(terms[gate.condition], step), gate.inverted)
        if step.node.op_type == "Where" and is_zero(gate.held):
            return Gated(terms[gate.fresh], _mask(terms[gate.condition], step), gate.inverted, zero=True)
    return _zeroed(step, circle) or Gated(step)


def _around(step: Applied) -> dict[ir.Value, Term]:
    """Values of the template step near a term → their terms."""
    found: dict[ir.Value, Term] = {}
    waiting: list[tuple[Term, int]] = [(step, 0)]
    while waiting:
        term, depth = waiting.pop()
        value = term.family[TEMPLATE]
        if value is not None:
            found.setdefault(value, term)
        if depth < 6:  # no gate is deeper
            waiting.extend((part, depth + 1) for part in term.parts())
    return found


def _zeroed(step: Applied, circle: frozenset[Term]) -> Gated | None:
    """`cell(x, h) * mask`."""
    if step.node.op_type != "Mul":
        return None
    for fresh, mask in (step.operands, step.operands[::-1]):
        if fresh in circle and mask not in circle and mask is not None and isinstance(mask, Applied):
            try:
                return Gated(fresh, _mask(mask, step), zero=True)
            except NotRollable:
                return None
    return None


def _mask(condition: Term, state: Term) -> Term:
    """The mask before it was repeated over the state's elements."""
    while isinstance(condition, Applied) and condition.node.op_type == "Expand" and condition.operands[0] is not None:
        condition = condition.operands[0]
    shape, rank = condition.example().shape, rank_of(state)
    if isinstance(condition, Same) or shape is None or rank is None:
        raise NotRollable("its state is held by the same test at each step")
    if shape.rank() == rank and rank and shape[-1] != 1:
        raise NotRollable("a mask holds single elements of its state")
    return condition

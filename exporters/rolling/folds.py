"""Recurrences that need no recurrent layer: sums, extremes, flags, and the last value that a test let through.

Needs: one state that an operator changes at each step. Guarantees: its last value, and every value where that has a
form without a loop.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.rolling.stacks import Stacks, rank_of
from seqport.exporters.rolling.terms import Applied, Before, NotRollable, Term
from seqport.exporters.rolling.vectorise import Operand

_REDUCED = {"Add": "ReduceSum", "Sub": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Mul": "ReduceProd"}


def fold(stacks: Stacks, circle: frozenset[Term]) -> bool:
    """Emit the circle if it is a fold; False if it is none."""
    states = [term for term in circle if isinstance(term, Before)]
    steps = [term for term in circle if isinstance(term, Applied)]
    if len(circle) != 2 or len(states) != 1 or len(steps) != 1 or states[0].after is not steps[0]:
        return False
    state, step = states[0], steps[0]
    places = [i for i, operand in enumerate(step.operands) if operand is state]
    if len(places) != 1:
        return False
    op, place = step.node.op_type, places[0]
    if op == "Where" and place > 0:
        _kept(stacks, state, step, place)
    elif op in ("Or", "And"):
        _flags(stacks, state, step, place)
    elif op in _REDUCED and (op != "Sub" or place == 0):
        _reduced(stacks, state, step, place)
    else:
        return False
    return True


def _reduced(stacks: Stacks, state: Before, step: Applied, place: int) -> None:
    build, op = stacks.build, step.node.op_type
    other = step.operands[1 - place]
    assert other is not None and len(step.operands) == 2
    whole = _broadcast(stacks, other, step)
    total = build.op(_REDUCED[op], whole, build.const([0], name="time"), keepdims=0)
    stacks.ends[step] = build.op(op, state.initial, total)
    if op in ("Add", "Sub"):
        running = build.op("CumSum", whole, build.const(0))
        _all(stacks, state, step, build.op(op, state.initial, running))


def _flags(stacks: Stacks, state: Before, step: Applied, place: int) -> None:
    """Whether any step so far was true, or every one."""
    build, other = stacks.build, step.operands[1 - place]
    assert other is not None
    whole = _broadcast(stacks, other, step)
    is_and = step.node.op_type == "And"
    counted = build.op("Cast", build.op("Not", whole) if is_and else whole, to=ir.DataType.INT32)
    some = build.op("Greater", build.op("CumSum", counted, build.const(0)), build.const(0, "int32"))
    some = build.op("Not", some) if is_and else some
    _all(stacks, state, step, build.op(step.node.op_type, state.initial, some))


def _kept(stacks: Stacks, state: Before, step: Applied, place: int) -> None:
    """The last step at which the test let a new value through."""
    build = stacks.build
    condition, fresh = step.operands[0], step.operands[3 - place]
    assert condition is not None and fresh is not None
    rank = rank_of(step)
    if rank is None or rank_of(condition) is None:
        raise NotRollable(f"the rank of {step.example().name} is not known")
    test = stacks.stacked(condition)
    taken = build.op("Not", test) if place == 1 else test
    number = build.op("Cast", taken, to=ir.DataType.INT64)
    seq = stacks.count(step)
    steps = build.op("Range", build.const(1), build.op("Add", build.op("Squeeze", seq), build.const(1)), build.const(1))
    axes = build.const(list(range(1, 1 + (rank_of(condition) or 0))), name="axes")
    steps = build.op("Unsqueeze", steps, axes) if rank_of(condition) else steps
    last = build.op("ReduceMax", build.op("Mul", number, steps), build.const([0], name="time"), keepdims=0)
    rows = stacks.after_initial(state.initial, _broadcast(stacks, fresh, step))  # [1 + seq, ...]
    index = build.op("Expand", last, build.op("Shape", rows, start=1))
    found = build.op("GatherElements", rows, build.op("Unsqueeze", index, build.const([0], name="axes")), axis=0)
    stacks.ends[step] = build.op("Squeeze", found, build.const([0], name="axes"))


def _broadcast(stacks: Stacks, term: Term, like: Term) -> ir.Value:
    """A term's stack with the rank of another's, [seq, ...]."""
    value, rank, wanted = stacks.stacked(term), rank_of(term), rank_of(like)
    if rank is None or wanted is None:
        raise NotRollable(f"the rank of {like.example().name} is not known")
    if rank == wanted:
        return value
    return stacks.build.op("Unsqueeze", value, stacks.build.const(list(range(1, 1 + wanted - rank)), name="axes"))


def _all(stacks: Stacks, state: Before, step: Applied, value: ir.Value) -> None:
    """Every value of the state is known."""
    stacks.done[step] = Operand(value, True, rank_of(step))
    before = stacks.window(stacks.after_initial(state.initial, value), 0, 1)
    stacks.done[state] = Operand(before, True, rank_of(state))

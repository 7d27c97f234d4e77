"""Sort the parts of a Loop or Scan by role.

Needs: a Loop or Scan node. Guarantees: its `Steps`, or a NotLiftedError where a part is none of a
recurrent layer's.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.steps import ONE, TIME, Affine, Emitted, Slice, State, Steps
from seqport.exporters.lift.walk import SAME_NUMBER, Facts, attribute, body_of, skip


def read_steps(node: ir.Node, facts: Facts) -> Steps:
    """Sort a loop's parts by role.

    Raises:
        NotLiftedError: it has a part that no recurrent layer has.
    """
    return _read_scan(node, facts) if node.op_type == "Scan" else _read_loop(node, facts)


def _read_scan(node: ir.Node, facts: Facts) -> Steps:
    steps = Steps(node, facts)
    body = body_of(node)
    scanned = attribute(node, "num_scan_inputs")
    carried = len(node.inputs) - scanned
    collected = len(node.outputs) - carried
    axes = attribute(node, "scan_input_axes") or [0] * scanned
    backwards = attribute(node, "scan_input_directions") or [0] * scanned
    _carry(steps, list(node.inputs[:carried]), list(body.inputs[:carried]), list(body.outputs[:carried]))
    length = None
    for value, inner, axis, back in zip(node.inputs[carried:], body.inputs[carried:], axes, backwards, strict=True):
        assert value is not None
        length = Affine({steps.length_of(value, axis): 1})
        index = length.plus(Affine({TIME: -1, ONE: -1})) if back else Affine({TIME: 1})
        steps.slices[inner] = Slice(value, axis, index)
    if length is None:
        raise NotLiftedError("it scans no sequence")
    steps.bounds.append(length)
    out_axes = attribute(node, "scan_output_axes") or [0] * collected
    out_back = attribute(node, "scan_output_directions") or [0] * collected
    for inner, outer, axis, back in zip(
        body.outputs[carried:], node.outputs[carried:], out_axes, out_back, strict=True
    ):
        steps.emitted.append(Emitted(inner, outer, axis, bool(back)))
    return steps


def _read_loop(node: ir.Node, facts: Facts) -> Steps:
    steps = Steps(node, facts)
    body = body_of(node)
    count = len(node.inputs) - 2
    steps.counters[body.inputs[0]] = Affine({TIME: 1})
    _carry(steps, list(node.inputs[2:]), list(body.inputs[2:]), list(body.outputs[1 : 1 + count]))
    for inner, outer in zip(body.outputs[1 + count :], node.outputs[count:], strict=True):
        steps.emitted.append(Emitted(inner, outer, 0))
    limit = node.inputs[0]
    if limit is not None and limit.name != "":
        bound = steps.affine(limit)
        assert bound is not None, "a trip count is a number of the outer graph"
        steps.bounds.append(bound)
    _stops(steps, body.outputs[0], body.inputs[1])
    if node.inputs[1] is not None and node.inputs[1].name != "":
        _begins(steps, node.inputs[1])
    return steps


def _begins(steps: Steps, condition: ir.Value) -> None:
    """Hold what is asked before the first step against the bounds: a count of zero is the only way not to begin.

    Raises:
        NotLiftedError: it may be false though there are steps to run.
    """
    condition = skip(condition, SAME_NUMBER)
    known, node = steps.facts.of(condition), condition.producer()
    if known is not None and known.all():
        return
    if node is not None and node.op_type == "And":
        for item in node.inputs:
            assert item is not None
            _begins(steps, item)
        return
    if node is not None and node.op_type in ("Less", "Greater"):
        one, other = steps.affine(node.inputs[0]), steps.affine(node.inputs[1])
        if one is not None and other is not None:
            small, large = (one, other) if node.op_type == "Less" else (other, one)
            if large.plus(small, -1) in steps.bounds:
                return
    raise NotLiftedError("whether its first step runs is computed, and a native layer always runs")


def _stops(steps: Steps, condition: ir.Value, entry: ir.Value) -> None:
    """Add the bounds that the condition of going on sets.

    Raises:
        NotLiftedError: it depends on more than the iteration number.
    """
    condition = steps.resolve(condition)
    node = condition.producer()
    known = steps.facts.of(condition)
    if known is not None and not known.all():
        raise NotLiftedError("it stops after its first step")
    if condition is entry or known is not None:
        return
    if node is not None and node.op_type == "And":
        for item in node.inputs:
            assert item is not None
            _stops(steps, item, entry)
        return
    if not steps.is_inner(condition):
        return  # the same at every step: the loop runs to its count or not at all
    if node is not None and node.op_type in ("Less", "Greater"):
        one, other = steps.affine(node.inputs[0]), steps.affine(node.inputs[1])
        if one is not None and other is not None:
            small, large = (one, other) if node.op_type == "Less" else (other, one)
            gap = large.plus(small, -1)  # goes on while 0 < gap, which falls by 1 a step
            if gap.of(TIME) == -1:
                steps.bounds.append(gap.plus(Affine({TIME: 1, ONE: 1})))
                return
    raise NotLiftedError("it stops on a condition that depends on what it computes")


def _carry(steps: Steps, initials: list[ir.Value | None], entries: list[ir.Value], leaving: list[ir.Value]) -> None:
    """Sort what is carried: loop-invariant values, counters, sequences that collect, states."""
    rest: list[State] = []
    finals = steps.node.outputs
    for initial, entry, left, final in zip(initials, entries, leaving, finals, strict=False):
        assert initial is not None
        if skip(left) is entry:
            steps.aliases[entry] = steps.facts.aliases[entry] = initial
            steps.unchanged.append((final, initial))
        else:
            rest.append(State(initial, entry, left, final))
    for state in rest:
        step = _count(steps, state)
        if step is not None:
            steps.counters[state.entry] = step
            if state.final.uses() or state.final.is_graph_output():
                raise NotLiftedError("the number of its steps is used after it")
        elif not _collect(steps, state):
            steps.states.append(state)


def _count(steps: Steps, state: State) -> Affine | None:
    node = skip(state.leaving).producer()
    if node is None or node.op_type not in ("Add", "Sub"):
        return None
    start = steps.affine(state.initial)
    if start is None or len(node.inputs) != 2 or state.initial.dtype not in (None, *_INTEGERS):
        return None
    one, other = (steps.resolve(value) for value in node.inputs if value is not None)
    if one is not state.entry and node.op_type == "Add":
        one, other = other, one
    by = steps.facts.of(other)
    if one is not state.entry or by is None or by.size != 1 or abs(int(by.reshape(-1)[0])) != 1:
        return None
    if by.dtype.kind not in "iu":
        return None
    return start.plus(Affine({TIME: int(by.reshape(-1)[0]) * (1 if node.op_type == "Add" else -1)}))


_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def _collect(steps: Steps, state: State) -> bool:
    """Whether the state is a sequence that each step adds its output to, joined after the loop."""
    node = skip(state.leaving).producer()
    if node is None or node.op_type != "SequenceInsert" or node.inputs[0] is not state.entry:
        return False
    first = skip(state.initial).producer()
    position = node.inputs[2] if len(node.inputs) > 2 else None
    at = None if position is None else steps.facts.of(position)
    users = state.final.consumers()
    if first is None or first.op_type != "SequenceEmpty" or (position is not None and (at is None or int(at) != 0)):
        raise NotLiftedError("it fills a sequence in an order of its own")
    if state.final.is_graph_output() or any(user.op_type != "ConcatFromSequence" for user in users):
        raise NotLiftedError("its sequence of outputs is used other than stacked")
    inner = node.inputs[1]
    assert inner is not None
    for user in users:
        if not attribute(user, "new_axis", 0):
            raise NotLiftedError("its outputs are joined along an axis that they already have")
        steps.emitted.append(Emitted(inner, user.outputs[0], attribute(user, "axis"), position is not None))
    return True

"""What a loop is, before anything is changed: its cells in order, when they run, and what its outputs are of them.

Needs: the loop as `Steps`. Guarantees: a `Plan` whose cells together compute what the loop does, or a
NotLiftedError with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from seqport.exporters.lift.cells import Cell
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.gates import Carried, Gate, choice_of, gate_of
from seqport.exporters.lift.pieces import separated
from seqport.exporters.lift.recognise import Candidate, dependencies_of, recognise
from seqport.exporters.lift.steps import ONE, TIME, Affine, State, Steps
from seqport.exporters.lift.walk import body_of, has_graph
from seqport.exporters.passes.lengths import is_zero


@dataclass
class Layer:
    """One cell of the loop: which states are its h and c, and when its rows are valid."""

    cell: Cell
    h: int
    c: int | None
    gate: Gate | None

    @property
    def states(self) -> list[int]:
        """Numbers of its states, h first."""
        return [self.h] if self.c is None else [self.h, self.c]


@dataclass
class Plan:
    """A loop as recurrent layers.

    Attributes:
        steps: the loop.
        carried: its states.
        layers: in the order in which they feed each other.
        inputs: name of the leaf → the body's value, for what the layers read.
        index: of the step that the layers read at iteration t.
        reverse: the loop reads from the last step to the first.
        bounds: the smallest is the number of steps; empty where that is the input's own.
        padded: the loop stops early, and its outputs are to have zeros after that.
        echoes: states that only repeat the last output.
        narrow: a loop in float64 may become a layer in float32.
    """

    steps: Steps
    carried: list[Carried]
    layers: list[Layer] = field(default_factory=list)
    inputs: dict[str, ir.Value] = field(default_factory=dict)
    index: Affine = field(default_factory=lambda: Affine({TIME: 1}))
    reverse: bool = False
    bounds: list[Affine] = field(default_factory=list)
    padded: bool = False
    echoes: set[int] = field(default_factory=set)
    narrow: bool = False

    def layer_of(self, value: ir.Value) -> tuple[Layer, bool] | None:
        """The layer whose new h this body's value is, and whether it is the gated one."""
        value = self.steps.resolve(value)
        for layer in self.layers:
            carried = self.carried[layer.h]
            if value is carried.new:
                return layer, False
            if value is self.steps.resolve(carried.state.leaving):
                return layer, True
        return None


def make_plan(steps: Steps, *, whole_length: bool = False, narrow: bool = False) -> Plan:
    """Read the loop.

    Args:
        steps: the loop.
        whole_length: see `lift_model`.
        narrow: see `lift_model`.

    Raises:
        NotLiftedError: it is no recurrent layer of ours; says why.
    """
    if not steps.states:
        raise NotLiftedError("it carries no state from step to step")
    unknown = [n.op_type for n in body_of(steps.node) if n.domain == "" and not onnx.defs.has(n.op_type)]
    if unknown:
        raise NotLiftedError(f"a step holds {unknown[0]}, which ONNX does not have: the file was invalid before")
    nested = [node for node in body_of(steps.node) if has_graph(node)]
    if nested:
        raise NotLiftedError(f"a step holds a {nested[0].op_type} of its own")
    plan = Plan(steps, separated(steps, [_carried(steps, state) for state in steps.states]))
    index, plan.narrow = _index(plan), narrow
    plan.index = index
    dependencies = dependencies_of(steps)
    needed: set[ir.Value] = set()
    for carried in plan.carried:
        needed |= dependencies.get(carried.new, {carried.new})
    plan.echoes = {i for i, item in enumerate(plan.carried) if item.state.entry not in needed}
    real = [i for i in range(len(plan.carried)) if i not in plan.echoes]
    if not real:
        raise NotLiftedError("no step depends on the one before")
    states = {i: Candidate(plan.carried[i].state, plan.carried[i].new) for i in real}
    for cell, h, c in recognise(steps, states, plan.inputs, dependencies):
        gates = [_gate(plan, i, index) for i in ([h] if c is None else [h, c])]
        if any(gate != gates[0] for gate in gates):
            raise NotLiftedError("its states are kept by different tests")
        plan.layers.append(Layer(cell, h, c, gates[0]))
    plan.layers = _ordered(plan.layers)
    _count_steps(plan, index)
    if plan.bounds and whole_length and all(layer.gate is not None for layer in plan.layers):
        plan.bounds, plan.padded = [], True
    return plan


def _carried(steps: Steps, state: State) -> Carried:
    choice = choice_of(steps, state.leaving)
    if choice is not None and choice.old is not None and (choice.new is state.entry or is_zero(choice.new)):
        choice = choice.opposite()
    if choice is None or choice.old is not state.entry:
        zeros = choice is not None and (choice.old is None or is_zero(choice.old))
        if choice is None or not zeros:
            return Carried(state, steps.resolve(state.leaving), None)
    return Carried(state, choice.new, choice)


def _index(plan: Plan) -> Affine:
    """The one index that the layers read at step t."""
    steps = plan.steps
    for node in body_of(steps.node):
        for value in node.outputs:
            steps.slice_of(value)
    indices = {tuple(sorted(part.index.terms.items(), key=repr)): part.index for part in steps.slices.values()}
    if not indices:
        raise NotLiftedError("a step reads nothing of a sequence")
    if len(indices) > 1:
        raise NotLiftedError("a step reads more than one step of its input")
    return next(iter(indices.values()))


def _count_steps(plan: Plan, index: Affine) -> None:
    """Whether the loop goes over the whole sequence, and in which direction."""
    steps = plan.steps
    lengths = {steps.length_of(part.sequence, part.axis) for part in steps.slices.values()}
    plan.reverse = index.of(TIME) < 0
    whole = [
        bound
        for bound in steps.bounds
        if len(bound.keys()) == 1 and bound.keys()[0] in lengths and bound.of(bound.keys()[0]) == 1
    ]
    others = [bound for bound in steps.bounds if bound not in whole and bound.constant < 2**31 - 1]
    if not whole and not others:
        raise NotLiftedError("how often it runs is not known")
    if any(bound.constant < 0 for bound in whole) or any(bound.of(TIME) for bound in others):
        raise NotLiftedError("it does not run over its whole input")
    plan.bounds = others
    if not plan.reverse and index == Affine({TIME: 1}):
        return
    rest = index.plus(Affine({TIME: 1, ONE: 1}))
    if not plan.reverse or others or len(rest.keys()) != 1 or rest.keys()[0] not in lengths or rest.constant:
        raise NotLiftedError("it does not read its input from one end to the other")


def _gate(plan: Plan, i: int, index: Affine) -> Gate | None:
    choice = plan.carried[i].choice
    if choice is None:
        return None
    if choice.old is not plan.carried[i].state.entry:
        raise NotLiftedError("a masked step sets its state to zero")
    return gate_of(plan.steps, choice, index)


def _ordered(layers: list[Layer]) -> list[Layer]:
    """Every layer after those that it reads.

    Raises:
        NotLiftedError: they read each other in a circle, or one reads another's c.
    """
    done: dict[str, Layer] = {}
    waiting = list(layers)
    while waiting:
        ready = [layer for layer in waiting if {n for n in layer.cell.inputs if n.startswith("new ")} <= done.keys()]
        if not ready:
            raise NotLiftedError("its cells read each other's states")
        for layer in ready:
            for name in layer.cell.inputs:
                if name.startswith("new ") and done[name].gate != layer.gate and done[name].gate is not None:
                    raise NotLiftedError("its cells are kept by different tests")
            done[f"new {layer.h}"] = layer
            waiting.remove(layer)
    return list(done.values())

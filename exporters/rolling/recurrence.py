"""A circle of terms as one recurrent layer: which cell it is, what it reads, when its state is held.

Needs: terms that depend on themselves. Guarantees: one neutral recurrent node over the whole time axis, and the stacks
and last values of the circle's states; NotRollable where the circle is no cell of ONNX's, with what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.cell import WEIGHTS, C, H, X, is_cell
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.recognise import Candidate, recognise
from seqport.exporters.lift.steps import State
from seqport.exporters.lift.walk import Facts
from seqport.exporters.passes.job import Job
from seqport.exporters.recurrent import RecurrentCall, num_states
from seqport.exporters.rolling.backward import is_backward, turned
from seqport.exporters.rolling.binary import numbers_behind
from seqport.exporters.rolling.components import reached
from seqport.exporters.rolling.folds import fold
from seqport.exporters.rolling.gating import Gated, gate_of
from seqport.exporters.rolling.layer import Layer, emit_layer
from seqport.exporters.rolling.names import layer_name
from seqport.exporters.rolling.stacks import Stacks, rank_of
from seqport.exporters.rolling.template import TEMPLATE, Template
from seqport.exporters.rolling.terms import ONE_STEP, Applied, Before, NotRollable, Term
from seqport.exporters.rolling.vectorise import Operand

# What to do about a mask of whole numbers.
_TEST = "hold it by a test of them, as in torch.where((m > 0)[:, None], new, old), or make the mask an input of its own"


class Solver:
    """Solves circles of one job's graph.

    Args:
        job: told of masks that may be no masks.
        facts: of the model.
    """

    def __init__(self, job: Job, facts: Facts) -> None:
        self._job, self._facts = job, facts

    def __call__(self, stacks: Stacks, circle: frozenset[Term]) -> None:
        """Emit the circle.

        Raises:
            NotRollable: it is no recurrent layer, and no fold.
        """
        if fold(stacks, circle):
            return
        every = sorted((t for t in circle if isinstance(t, Before)), key=lambda t: t.example().name or "")
        states = list({state.after: state for state in every}.values())
        if any(not isinstance(term, (Before, Applied)) for term in circle) or any(
            s.after not in circle for s in states
        ):
            raise NotRollable("a step reads another step's state than that of the step before")
        gated = {state: gate_of(state, circle) for state in states}
        conditions = {(g.test, g.inverted, g.zero) for g in gated.values()}
        if len(conditions) > 1:
            raise NotRollable("its states are held by different masks")
        cells = {term.node: term for term in circle if isinstance(term, Applied) and is_cell(term.node)}
        layer = _of_cell(gated, list(cells.values()), circle) if cells else self._recognised(gated, circle)
        condition = gated[layer.states[0]].condition
        if condition is not None:
            self._require_mask(condition, layer.name)
        _emit(stacks, layer, gated, circle)

    def _require_mask(self, condition: Term, layer: str) -> None:
        """Note the inputs that must hold zeros and ones for a mask to be one.

        Raises:
            NotRollable: it may hold other whole numbers all the same; where it may hold fractions, the probe finds out.
        """
        numbers = numbers_behind(condition)
        axes = {item.name: item.axes for item in self._job.capture.inputs}
        for value in (*numbers.inputs, numbers.unknown):
            if value is None:
                continue
            name = value.name or ""
            # More axes than rows and steps: then the mask is a part of an input that holds other numbers too.
            whole = value is not numbers.unknown and sum(axis != 1 for axis in axes[name]) <= 2
            if whole:
                self._job.zeros_and_ones.add(name)
            if value.dtype is not None and value.dtype.is_floating_point():
                self._job.soft_masks.setdefault(layer, name)
            elif not whole:
                node = value.producer()
                made = f"a part of {name!r}" if node is None else f"{name!r} ({node.op_type})"
                reason = f"its state is held by {made}, whole numbers that need not be 0 and 1"
                raise NotRollable(reason, layer=layer, remedy=_TEST)

    def _recognised(self, gated: Mapping[Before, Gated], circle: frozenset[Term]) -> Layer:
        """A cell written by hand, read as polynomials of its states and inputs."""
        name = layer_name(circle)
        states = dict(enumerate(gated))
        template = Template(self._facts, {part for term in circle for part in reached(term)})
        candidates = {}
        for i, state in states.items():
            entry, fresh = state.family[TEMPLATE], gated[state].fresh.family[TEMPLATE]
            assert entry is not None and fresh is not None
            candidates[i] = Candidate(State(state.initial, entry, fresh, fresh), fresh)
        entries = {candidate.state.entry for candidate in candidates.values()}
        dependent = {value: entries for term in circle if (value := term.family[TEMPLATE]) is not None}
        inputs: dict[str, ir.Value] = {}
        try:
            found = list(recognise(template, candidates, inputs, dependent))  # type: ignore[arg-type]
        except NotLiftedError as reason:
            raise NotRollable(f"it is no RNN, GRU or LSTM ({reason})", layer=name, remedy=ONE_STEP) from reason
        if len(found) != 1:
            raise NotRollable("its cells read each other's states", layer=name, remedy=ONE_STEP)
        cell, h, c = found[0]
        order = [states[h], *([] if c is None else [states[c]])]
        terms = {leaf: template.term_of(value) for leaf, value in inputs.items() if leaf in cell.inputs}
        return Layer(name, order, [gated[state].fresh for state in order], terms, cell=cell)


def _of_cell(gated: Mapping[Before, Gated], cells: list[Applied], circle: frozenset[Term]) -> Layer:
    """One of PyTorch's own cells."""
    cell = cells[0]
    call = RecurrentCall.from_node(cell.node)
    if len(cells) > 1:
        names = sorted({RecurrentCall.from_node(item.node).layer for item in cells})
        several = f"{' and '.join(names)} read each other's states"
        reason = several if len(names) > 1 else f"it runs {len(cells)} times a step"
        raise NotRollable(reason, layer=names[0], remedy=ONE_STEP)
    if cell.operands[X] in circle:
        reason = "what goes into it at a step is computed from what came out at the step before"
        raise NotRollable(reason, layer=call.layer, remedy=ONE_STEP)
    by_output = {term.index: term for term in circle if isinstance(term, Applied) and term.node is cell.node}
    order: list[Before] = []
    fresh: list[Term] = []
    for i in range(num_states(call.cell)):
        state = cell.operands[(H, C)[i]]
        state = next((known for known in gated if isinstance(state, Before) and known.after is state.after), None)
        if state is None or gated[state].fresh is not by_output.get(i):
            more = sorted(
                {term.node.op_type for term in circle if isinstance(term, Applied) and term.node is not cell.node}
            )
            reason = f"its state changes between the steps by more than a mask ({', '.join(more)})"
            raise NotRollable(reason, layer=call.layer, remedy=ONE_STEP)
        order.append(state)
        fresh.append(gated[state].fresh)
    x = cell.operands[X]
    assert x is not None
    return Layer(call.layer, order, fresh, {"x": x}, call=call, weights=list(cell.node.inputs[WEIGHTS:]))


@dataclass(frozen=True)
class _Way:
    """Inputs and mask in the order in which the native node reads them."""

    inputs: dict[str, Term]
    condition: Term | None
    reverse: bool


def _way(layer: Layer, gate: Gated) -> _Way:
    """A loop that runs backward becomes a backward layer."""
    parts = [*layer.inputs.values(), *([] if gate.condition is None else [gate.condition])]
    if not all(is_backward(part) for part in parts):
        return _Way(layer.inputs, gate.condition, False)
    inputs = {name: turned(term) for name, term in layer.inputs.items()}
    return _Way(inputs, None if gate.condition is None else turned(gate.condition), True)


def _emit(stacks: Stacks, layer: Layer, gated: Mapping[Before, Gated], circle: frozenset[Term]) -> None:
    gate = gated[layer.states[0]]
    way = _way(layer, gate)
    y, finals = emit_layer(stacks, layer, way.inputs, way.condition, gate, reverse=way.reverse)
    whole = stacks.reversed(y) if way.reverse else y
    h = layer.states[0]
    for term in {h.after, layer.fresh[0]}:
        stacks.done[term] = Operand(whole, True, rank_of(term))
    before = stacks.window(stacks.after_initial(h.initial, whole), 0, h.after.count + 1 - h.count)
    for term in circle:
        if isinstance(term, Before) and term.after is h.after:
            stacks.done[term] = Operand(before, True, rank_of(h))
    if gate.zero:
        return  # the last state is the last output, which is zero where a row has ended
    for state, fresh, final in zip(layer.states, layer.fresh, finals, strict=True):
        stacks.ends[state.after] = final
        if gate.condition is None:
            stacks.ends[fresh] = final

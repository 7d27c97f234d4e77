"""One recurrent layer written in place of a loop.

Needs: a cell, the terms that it reads, and its mask. Guarantees: one neutral node whose outputs have the states' own
rank: [seq, ...] for all steps, [...] for the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.cells import Cell
from seqport.exporters.passes.lengths import is_zero, lengths_behind
from seqport.exporters.recurrent import CELLS, DOMAIN, OP_TYPE, RecurrentCall
from seqport.exporters.rolling.gating import Gated
from seqport.exporters.rolling.spare import Steps, with_spare_step
from seqport.exporters.rolling.stacks import Stacks, rank_of
from seqport.exporters.rolling.terms import Before, NotRollable, Term


@dataclass
class Layer:
    """A recurrent layer.

    Attributes:
        name: the user's.
        states: h (and c) before each step.
        fresh: h (and c) after it, before a mask.
        inputs: name → what the cell reads.
        call: of one of PyTorch's own cells.
        weights: its weights.
        cell: one that was written by hand.
    """

    name: str
    states: list[Before]
    fresh: list[Term]
    inputs: dict[str, Term]
    call: RecurrentCall | None = None
    weights: list[ir.Value | None] = field(default_factory=list)
    cell: Cell | None = None

    @property
    def size(self) -> int:
        """num_hidden_units."""
        if self.call is not None:
            return self.call.num_hidden_units
        assert self.cell is not None
        return self.cell.size


def emit_layer(
    stacks: Stacks, layer: Layer, inputs: Mapping[str, Term], condition: Term | None, gate: Gated, *, reverse: bool
) -> tuple[ir.Value, list[ir.Value]]:
    """Y [seq, ...] in the order of time, and the last states [...]."""
    build, rank = stacks.build, rank_of(layer.fresh[0])
    if rank is None or rank < 1:
        raise NotRollable("the rank of its state is not known", layer=layer.name)
    dtype = layer.fresh[0].example().dtype
    x = _joined(stacks, layer, inputs, rank)
    lead = build.op("Shape", x, start=1, end=-1)  # the state's axes before its last
    states = [_initial(stacks, layer, state, lead, rank, dtype) for state in layer.states]
    mask = None if condition is None else _mask(stacks, condition, gate, x, rank)
    if gate.zero:
        _require_prefix(mask, layer, reverse=reverse)
    steps = Steps(_flat(stacks, x, rank), mask)
    empty = stacks.may_be_empty(layer.states[0])
    if empty:
        steps = with_spare_step(build, steps, stacks.count(layer.states[0]))
    x = steps.x
    held = "state" if states[0] is not None else "hold"
    call, weights = _call(stacks, layer, reverse=reverse, padding="zero" if condition is None or gate.zero else held)
    cast = dtype not in (None, ir.DataType.FLOAT)
    if cast:  # ONNX Runtime's recurrent kernels compute in float32
        x = build.op("Cast", x, to=ir.DataType.FLOAT)
        weights = [None if w is None else build.op("Cast", w, to=ir.DataType.FLOAT) for w in weights]
    operands = (x, steps.lengths, steps.mask, *(*states, None)[:2], *weights)
    first = build.op(OP_TYPE, *operands, num_outputs=3, **call.attributes())
    node = first.producer()
    assert node is not None
    node.domain, node.name = DOMAIN, f"{layer.name}/rolled"
    y, *finals = node.outputs
    y.shape, y.dtype = ir.Shape([None, None, layer.size]), ir.DataType.FLOAT
    if empty:
        y = stacks.window(y, 0, 1)
    if cast:
        y, finals = build.op("Cast", y, to=dtype), [build.op("Cast", final, to=dtype) for final in finals]
    return _ranked(stacks, y, lead, rank, layer.size, 1), [
        _ranked(stacks, final, lead, rank, layer.size, 0) for final in finals[: len(layer.states)]
    ]


def _joined(stacks: Stacks, layer: Layer, inputs: Mapping[str, Term], rank: int) -> ir.Value:
    """All that the cell reads, along the last axis, [seq, ..., input_dim]."""
    build = stacks.build
    if not inputs:
        raise NotRollable("it reads nothing but its own state", layer=layer.name)
    order = list(inputs) if layer.cell is None else list(layer.cell.inputs)
    parts = []
    for name in order:
        term = inputs[name]
        value, own = stacks.operand(term), rank_of(term)
        if own is None or own > rank or own == 0:
            raise NotRollable(f"it reads {term.example().name}, whose rank is not that of its state", layer=layer.name)
        whole = value.value
        if not value.varies:
            whole = build.op("Unsqueeze", whole, build.const([0], name="axes"))
        if own < rank:
            whole = build.op("Unsqueeze", whole, build.const(list(range(1, 1 + rank - own)), name="axes"))
        parts.append(whole)
    if len(parts) == 1 and stacks.operand(inputs[order[0]]).varies:
        return parts[0]
    varying = [part for part, name in zip(parts, order, strict=True) if stacks.operand(inputs[name]).varies]
    seq = build.op("Shape", varying[0], start=0, end=1) if varying else stacks.count(layer.states[0])
    leads = [build.op("Shape", part, start=1, end=-1) for part in parts]
    lead = leads[0] if len(leads) == 1 else build.op("Max", *leads)
    last = build.const([1])
    shape = build.op("Concat", seq, lead, last, axis=0)
    whole_parts = [build.op("Expand", part, shape) for part in parts]
    return whole_parts[0] if len(whole_parts) == 1 else build.op("Concat", *whole_parts, axis=-1)


def _flat(stacks: Stacks, x: ir.Value, rank: int) -> ir.Value:
    """X [seq, ..., input_dim] as [seq, batch, input_dim]."""
    if rank == 2:
        return x
    if rank == 1:
        return stacks.build.op("Unsqueeze", x, stacks.build.const([1], name="axes"))
    ends = [stacks.build.op("Shape", x, start=0, end=1), stacks.build.op("Shape", x, start=-1)]
    return stacks.build.op("Reshape", x, stacks.build.op("Concat", ends[0], stacks.build.const([-1]), ends[1], axis=0))


def _ranked(stacks: Stacks, value: ir.Value, lead: ir.Value, rank: int, size: int, steps: int) -> ir.Value:
    """[seq or 1, batch, H] as [seq, ..., H], or without steps [..., H]."""
    build = stacks.build
    if not steps:
        value = build.op("Squeeze", value, build.const([0], name="axes"))
    if rank == 2:
        return value
    if rank == 1:
        return build.op("Squeeze", value, build.const([steps], name="axes"))
    seq = [build.op("Shape", value, start=0, end=1)] if steps else []
    return build.op("Reshape", value, build.op("Concat", *seq, lead, build.const([size]), axis=0))


def _initial(
    stacks: Stacks, layer: Layer, state: Before, lead: ir.Value, rank: int, dtype: ir.DataType | None
) -> ir.Value | None:
    """The state before the first step, [1, batch, H]; None where it is zero."""
    value = state.initial
    if is_zero(value):
        return (
            None
            if len(layer.states) == 1 or all(is_zero(s.initial) for s in layer.states)
            else _zeros(stacks, layer, lead)
        )
    build, whole = stacks.build, value
    if value.shape is None or value.shape != state.after.example().shape:
        whole = build.op("Expand", value, build.op("Concat", lead, build.const([layer.size]), axis=0))
    if dtype not in (None, ir.DataType.FLOAT):
        whole = build.op("Cast", whole, to=ir.DataType.FLOAT)
    if rank == 2:
        return build.op("Unsqueeze", whole, build.const([0], name="axes"))
    return build.op("Reshape", whole, build.const([1, -1, layer.size], name="shape"))


def _zeros(stacks: Stacks, layer: Layer, lead: ir.Value) -> ir.Value:
    build = stacks.build
    batch = build.op("ReduceProd", lead, keepdims=1)
    shape = build.op("Concat", build.const([1]), batch, build.const([layer.size]), axis=0)
    return build.op("Expand", build.const(0.0, np.float32, "zero"), shape)


def _mask(stacks: Stacks, condition: Term, gate: Gated, x: ir.Value, rank: int) -> ir.Value:
    """Bool [batch, seq]: true where the state moves."""
    build = stacks.build
    value = stacks.stacked(condition)  # [seq, batch, 1], [seq, batch], [seq, 1], [seq]
    own, shape = rank_of(condition) or 0, condition.example().shape
    assert shape is not None
    if own == rank and own > 1:
        value = build.op("Squeeze", value, build.const([own], name="axes"))
        own -= 1
    if own == 0:
        value = build.op("Unsqueeze", value, build.const([1], name="axes"))
    elif own > 1:
        value = build.op(
            "Reshape", value, build.op("Concat", build.op("Shape", value, start=0, end=1), build.const([-1]), axis=0)
        )
    if rank > 1 and all(dim == 1 for dim in shape):  # one test for all rows
        value = build.op("Expand", value, build.op("Shape", x, start=0, end=2))
    value = build.op("Cast", value, to=ir.DataType.BOOL)
    if gate.inverted:
        value = build.op("Not", value)
    return build.op("Transpose", value, perm=[1, 0])


def _require_prefix(mask: ir.Value | None, layer: Layer, *, reverse: bool) -> None:
    if reverse or mask is None or lengths_behind(mask) is None or not all(is_zero(s.initial) for s in layer.states):
        raise NotRollable(
            "a mask sets its state to zero at steps that are not known to be the last ones (t < lengths)",
            layer=layer.name,
        )


def _call(stacks: Stacks, layer: Layer, *, reverse: bool, padding: str) -> tuple[RecurrentCall, list[ir.Value | None]]:
    direction = "reverse" if reverse else "forward"
    if layer.call is not None:
        return replace(layer.call, direction=direction, padded_outputs=padding), layer.weights
    cell = layer.cell
    assert cell is not None
    W_hx = np.concatenate(list(cell.inputs.values()), axis=1)
    arrays = {"W_hx": W_hx, "W_hh": cell.W_hh, "b_hx": cell.b_hx, "b_hh": cell.b_hh, "P": cell.peepholes}
    weights = [
        None if array is None else stacks.build.const(np.ascontiguousarray(array), np.float32, role)
        for role, array in arrays.items()
        if role != "P" or array is not None
    ]
    call = RecurrentCall(
        layer=layer.name,
        cell=cell.kind,
        num_hidden_units=cell.size,
        direction=direction,
        activations=cell.activations,
        gate_order=CELLS[cell.kind][1],
        reset_after=cell.reset_after,
        padded_outputs=padding,
        peepholes=cell.peepholes is not None,
    )
    return call, weights

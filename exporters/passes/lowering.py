"""Neutral recurrent nodes become native RNN, GRU and LSTM.

Needs: the graph as a frontend gives it. Guarantees: no neutral node is left; each became one native
node with `sequence_lens` where it had lengths or a mask, and the few ops that its framework's
convention at padded steps needs. Lengths reach the native node as int32.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, outputs_of, replace
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.lengths import is_zero, lengths_behind
from seqport.exporters.passes.masks import compact, hold_initial, hold_last, spread
from seqport.exporters.passes.weights import Cache, native_weights
from seqport.exporters.recurrent import (
    C_0,
    CELLS,
    DOMAIN,
    H_0,
    LENGTHS,
    MASK,
    WEIGHTS,
    RecurrentCall,
    X,
    is_recurrent,
    num_states,
)


def lower_recurrent(job: Job) -> None:
    """Lower every neutral node of the job's model."""
    for call in lower_model(job.model):
        job.padded_outputs[call.layer] = call.padded_outputs


def lower_model(model: ir.Model) -> list[RecurrentCall]:
    """Lower every neutral node of a model, and return what they were."""
    cache: Cache = {}
    calls = [_lower(node, cache) for node in list(model.graph.all_nodes()) if is_recurrent(node)]
    model.opset_imports.pop(DOMAIN, None)
    return calls


def _lower(node: ir.Node, cache: Cache) -> RecurrentCall:
    call = RecurrentCall.from_node(node)
    build = Builder(node, call.layer)
    x, lengths, mask, h_0, c_0 = (_input(node, i) for i in (X, LENGTHS, MASK, H_0, C_0))
    assert x is not None
    states = [None if is_zero(state) else state for state in (h_0, c_0)[: num_states(call.cell)]]
    if any(states):  # one state given and the other zero: ONNX Runtime takes both or none
        states = [given if given is not None else whole for given, whole in zip(states, (h_0, c_0), strict=False)]
    if mask is not None and (behind := lengths_behind(mask)) is not None:
        lengths, mask = _clipped(build, behind, x), None
    elif lengths is not None:
        lengths = build.op("Cast", lengths, to=ir.DataType.INT32)
    if mask is not None:
        x, lengths = compact(build, x, mask)

    slots = range(WEIGHTS, WEIGHTS + call.weights_per_direction * call.num_directions)
    W, R, B, *P = native_weights(build, call, [_input(node, i) for i in slots], cache)
    if P:
        states = [*states, None, None][:2]  # P follows the states, given or not
    native = build.op(
        call.op_type, x, W, R, B, lengths, *states, *P, num_outputs=1 + num_states(call.cell), **_attributes(call)
    )
    Y, *finals = outputs_of(native)
    y = _at_padding(build, call, _joined(build, Y, call), mask, lengths, states[0])
    if lengths is not None:
        finals = [_kept_state(build, lengths, *pair) for pair in zip(states, finals, strict=True)]
    _replace(node, [y, *finals, finals[-1]][: len(node.outputs)])
    return call


def _input(node: ir.Node, index: int) -> ir.Value | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return value if value is None or value.name != "" else None


def _attributes(call: RecurrentCall) -> dict[str, object]:
    attributes: dict[str, object] = {"hidden_size": call.num_hidden_units, "direction": call.direction}
    if call.cell == "gru":
        attributes["linear_before_reset"] = int(call.reset_after)
    if call.activations != CELLS[call.cell][2]:
        named = [item.split(":") for item in call.activations] * call.num_directions
        attributes["activations"] = [name for name, *_ in named]
        # ONNX lists alphas (betas) only of those activations that take one, in their order.
        for position, key in ((1, "activation_alpha"), (2, "activation_beta")):
            values = [float(item[position]) for item in named if len(item) > position]
            if values:
                attributes[key] = values
    return attributes


def _joined(build: Builder, Y: ir.Value, call: RecurrentCall) -> ir.Value:
    """Y [seq, D, batch, H] as [seq, batch, D * H]."""
    if call.num_directions == 1:
        return build.op("Squeeze", Y, build.const([1], name="axes"))
    by_row = build.op("Transpose", Y, perm=[0, 2, 1, 3])
    return build.op("Reshape", by_row, build.const([0, 0, -1], name="shape"))


def _at_padding(
    build: Builder,
    call: RecurrentCall,
    y: ir.Value,
    mask: ir.Value | None,
    lengths: ir.Value | None,
    h_0: ir.Value | None,
) -> ir.Value:
    """Y with what the call wants at padded steps; of a mask, back from the front."""
    reverse, hold = call.direction == "reverse", call.padded_outputs != "zero"
    initial = h_0 if call.padded_outputs == "state" else None
    if mask is not None:
        assert lengths is not None  # the mask's
        return spread(build, y, mask, lengths, reverse=reverse, hold=hold, initial=initial)
    if lengths is None or not hold:
        return y
    if call.direction == "forward":
        return hold_last(build, y, lengths, initial)
    # In reverse the padding comes first: nothing is held but the initial state.
    return y if initial is None else hold_initial(build, y, lengths, initial)


def _clipped(build: Builder, lengths: ir.Value, x: ir.Value) -> ir.Value:
    """Lengths as int32 between 0 and seq: a mask says no more than that of lengths beyond either."""
    seq = build.op("Shape", x, start=0, end=1)
    wide = build.op("Cast", lengths, to=ir.DataType.INT64)
    return build.op("Cast", build.op("Max", build.op("Min", wide, seq), build.const([0])), to=ir.DataType.INT32)


def _kept_state(build: Builder, lengths: ir.Value, initial: ir.Value | None, final: ir.Value) -> ir.Value:
    """The final state, with rows of length 0 keeping the initial one, which ONNX Runtime sets to 0."""
    if initial is None:
        return final
    some = build.op("Greater", lengths, build.const(0, "int32"))
    return build.op("Where", build.op("Unsqueeze", some, build.const([1], name="axes")), final, initial)


def _replace(node: ir.Node, values: list[ir.Value]) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for output, value in zip(node.outputs, values, strict=True):
        replace(graph, output, value, before=node)
    graph.remove(node, safe=True)

"""RNN and GRU as one product for the inputs of all steps, and a Scan of small ones for their states.

ONNX Runtime's RNN node packs no weights, and its GRU keeps other threads waiting between its steps; a Scan of products
with packed weights can be faster. The sums are taken in another order, so answers differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from seqport.runtime.rewriting.emit import Emitter, graph_of
from seqport.runtime.rewriting.forms import Form, Part
from seqport.runtime.rewriting.native import Native

_KNOWN = ("Tanh", "Relu", "Sigmoid")
_FLOAT = TensorProto.FLOAT


def by_steps(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form | None:
    """The form of one direction of an RNN or GRU; None for another cell, a clip, or activations that take numbers."""
    known = all(name in _KNOWN for name in native.activations(direction))
    if not known or native.attributes.get("clip"):
        return None
    make = {"RNN": _rnn, "GRU": _gru}.get(native.cell)
    return make(native, direction, [array[direction] for array in weights[:3]], outer) if make else None


def _rnn(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form:
    """h_t = f(W_hx x_t + W_hh h_{t-1} + b_h)."""
    W, R, B = weights
    hidden, name = native.hidden, native.node.name
    W_hx, W_hh = outer.weight(W.T, f"{name}.W_hx"), outer.weight(R.T, f"{name}.W_hh")
    b_h = outer.weight(B[:hidden] + B[hidden:], f"{name}.b_h")
    activation = native.activations(direction)[0]

    def form(emit: Emitter, part: Part, x: str, states: Sequence[str]) -> tuple[str, list[str]]:
        fed = emit.op("Add", emit.op("MatMul", x, W_hx), b_h)
        step = emit.body("steps")
        h, x_t = step.name("h"), step.name("x_t")
        h_t = step.op(activation, step.op("Gemm", h, W_hh, x_t))
        return _scanned(emit, step, part, states[0], {x_t: fed}, h, h_t, hidden)

    return form


def _gru(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form:
    """The gates z, r and n in ONNX's order, with the reset gate behind the product or before it."""
    W, R, B = weights
    hidden, name = native.hidden, native.node.name
    after = bool(native.attributes.get("linear_before_reset", 0))
    gate, candidate = native.activations(direction)
    bias, added = B[: 3 * hidden].copy(), B[3 * hidden :]
    bias[: 2 * hidden] += added[: 2 * hidden]
    if not after:
        bias[2 * hidden :] += added[2 * hidden :]
    w, b = outer.weight(W.T, f"{name}.W"), outer.weight(bias, f"{name}.b")
    r_zr = outer.weight(R[: 2 * hidden].T, f"{name}.R_zr")
    r_n = outer.weight(R[2 * hidden :].T, f"{name}.R_n")
    b_n = outer.weight(added[2 * hidden :], f"{name}.b_n")

    def form(emit: Emitter, part: Part, x: str, states: Sequence[str]) -> tuple[str, list[str]]:
        fed = emit.op("Add", emit.op("MatMul", x, w), b)
        fed_zr, fed_n = emit.ops("Split", fed, emit.const([2 * hidden, hidden]), outputs=2, axis=2)
        step = emit.body("steps")
        h, x_zr, x_n = step.name("h"), step.name("x_zr"), step.name("x_n")
        gates = step.op(gate, step.op("Gemm", h, r_zr, x_zr))
        z, r = step.ops("Split", gates, step.const([hidden, hidden]), outputs=2, axis=1)
        if after:
            inner = step.op("Add", x_n, step.op("Mul", r, step.op("Gemm", h, r_n, b_n)))
        else:
            inner = step.op("Gemm", step.op("Mul", r, h), r_n, x_n)
        n = step.op(candidate, inner)
        h_t = step.op("Add", n, step.op("Mul", z, step.op("Sub", h, n)))
        return _scanned(emit, step, part, states[0], {x_zr: fed_zr, x_n: fed_n}, h, h_t, hidden)

    return form


def _scanned(
    emit: Emitter, step: Emitter, part: Part, state: str, fed: dict[str, str], h: str, h_t: str, hidden: int
) -> tuple[str, list[str]]:
    """The Scan over the steps of a piece: outputs [τ, n, H], and the state after each row's last step."""
    inputs = [(name, _FLOAT) for name in (h, *fed)]
    body = graph_of(step, "steps", inputs, [(h_t, _FLOAT), (step.op("Identity", h_t), _FLOAT)])
    first = emit.op("Squeeze", state, emit.const([0]))
    _, y = emit.ops("Scan", first, *fed.values(), outputs=2, body=body, num_scan_inputs=len(fed))
    lengths = emit.op("Cast", part.lengths, to=TensorProto.INT64)
    before = emit.op("Mul", emit.op("Sub", lengths, emit.const([1])), part.alive)
    last = emit.op("Add", before, emit.range(part.alive))
    rows = emit.op("Reshape", y, emit.const([-1, hidden]))
    return y, [emit.op("Unsqueeze", emit.op("Gather", rows, last), emit.const([0]))]

"""A native recurrent operator that runs one step inside of a loop, as its equations.

PyTorch's TorchScript exporter writes the LSTMCell of a scripted loop that way. Equations and layouts:
https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.algebra import Expression, activated, add, matmul, multiply, number
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.walk import Facts, attribute
from seqport.exporters.recurrent import CELLS

STEP_OPS = {"RNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
_PLAIN = frozenset({"hidden_size", "direction", "linear_before_reset", "layout"})


def native_step(node: ir.Node, facts: Facts, row: Callable[[ir.Value], Expression]) -> list[Expression]:
    """Y, Y_h (and Y_c) of a native operator after one step from the given states.

    Raises:
        NotLiftedError: it has several directions, computed weights or activations of its own.
    """
    cell = STEP_OPS[node.op_type]
    _, gates, acts = CELLS[cell]
    size = attribute(node, "hidden_size")
    inputs = [value if value is not None and value.name != "" else None for value in node.inputs]
    inputs += [None] * (8 - len(inputs))
    arrays = [facts.of(value) for value in inputs]
    x, W, R, B = inputs[0], arrays[1], arrays[2], arrays[3]
    forward = attribute(node, "direction", "forward") == "forward" and not attribute(node, "layout", 0)
    if x is None or W is None or R is None or not forward or not set(node.attributes) <= _PLAIN:
        raise NotLiftedError(f"a step runs a {node.op_type} of its own ({node.name})")
    if inputs[4] is not None or inputs[7] is not None or (inputs[3] is not None and B is None):
        raise NotLiftedError(f"a step runs a {node.op_type} with lengths or peepholes ({node.name})")
    bias = np.zeros((2, len(gates) * size)) if B is None else np.asarray(B[0], np.float64).reshape(2, -1)
    h = number(np.zeros(size)) if inputs[5] is None else row(inputs[5])
    from_x = add(matmul(row(x), np.asarray(W[0], np.float64).T), number(bias[0]))
    from_h = add(matmul(h, np.asarray(R[0], np.float64).T), number(bias[1]))

    def part(expression: Expression, gate: str) -> Expression:
        at = gates.index(gate) * size
        return expression.cut(at, at + size)

    if cell == "rnn":
        new = activated(acts[0], add(from_x, from_h))
        return [new, new]
    if cell == "lstm":
        i, o, f, g = (
            activated(acts[0] if gate != "g" else acts[1], add(part(from_x, gate), part(from_h, gate)))
            for gate in "iofg"
        )
        c = number(np.zeros(size)) if inputs[6] is None else row(inputs[6])
        new_c = add(multiply(f, c), multiply(i, g))
        new = multiply(o, activated(acts[2], new_c))
        return [new, new, new_c]
    z, r = (activated(acts[0], add(part(from_x, gate), part(from_h, gate))) for gate in "zr")
    if attribute(node, "linear_before_reset", 0):
        inner = multiply(r, part(from_h, "n"))
    else:
        R_n = np.asarray(R[0], np.float64)[2 * size :].T
        inner = add(matmul(multiply(r, h), R_n), number(bias[1][2 * size :]))
    n = activated(acts[1], add(part(from_x, "n"), inner))
    new = add(multiply(z, h), multiply(add(number(1.0), multiply(z, number(-1.0))), n))
    return [new, new]

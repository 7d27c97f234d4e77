"""Forms of one direction of a recurrent layer over one piece: what computes its steps.

A form gets [τ, n, I] and the states of its n rows, every one of which has at least one step left; it gives the outputs,
[τ, n, H], and the states after each row's last step. What it gives at steps behind a row's end is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from seqport.runtime.rewriting.emit import Emitter, graph_of
from seqport.runtime.rewriting.native import Native


@dataclass(frozen=True)
class Part:
    """What one piece computes, by names inside the body.

    Attributes:
        width, alive: [1]: τ and n.
        lengths: [n], int64: the steps that each row has within the piece, from 1 to τ.
    """

    width: str
    alive: str
    lengths: str


# (where to, part, x [τ, n, I], states, each [1, n, H]) → outputs [τ, n, H], states
Form = Callable[[Emitter, Part, str, Sequence[str]], tuple[str, list[str]]]


def native_form(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form | None:
    """ONNX Runtime's own operator, to the last bit what it gives on the whole batch.

    Args:
        native: the layer.
        direction: which of its directions.
        weights: W, R, B, and P where it has peepholes, each with its directions first.
        outer: of the graph, for the weights.
    """
    attributes = native.forward_attributes(direction)
    if attributes is None:
        return None
    named = [
        outer.weight(array[direction : direction + 1], f"{native.node.name}.{name}")
        for name, array in zip("WRBP", weights, strict=False)
    ]

    def form(emit: Emitter, part: Part, x: str, states: Sequence[str]) -> tuple[str, list[str]]:
        lengths = emit.op("Cast", part.lengths, to=TensorProto.INT32)
        inputs = [x, *named[:3], lengths, *states, *named[3:]]
        y, *finals = emit.ops(native.cell, *inputs, outputs=1 + native.states, **attributes)
        return emit.op("Squeeze", y, emit.const([1])), finals

    return form


def rnn_by_steps(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form | None:
    """The simple RNN as one product for the inputs of all steps, and a Scan of small ones for its states.

    ONNX Runtime's RNN node packs no weights and multiplies on one thread at a time. The sums are taken in another order
    than there, so answers differ in their last bits.
    """
    activation = native.activations(direction)[0]
    if activation not in ("Tanh", "Relu", "Sigmoid") or native.attributes.get("clip"):
        return None
    W, R, B = (array[direction] for array in weights[:3])
    hidden = native.hidden
    w = outer.weight(W.T, f"{native.node.name}.W_hx")
    r = outer.weight(R.T, f"{native.node.name}.W_hh")
    b = outer.weight(B[:hidden] + B[hidden:], f"{native.node.name}.b_h")

    def form(emit: Emitter, part: Part, x: str, states: Sequence[str]) -> tuple[str, list[str]]:
        fed = emit.op("Add", emit.op("MatMul", x, w), b)
        step = emit.body("steps")
        h, x_t = step.name("h"), step.name("x_t")
        h_t = step.op(activation, step.op("Gemm", h, r, x_t))
        kinds = TensorProto.FLOAT
        body = graph_of(step, "steps", [(h, kinds), (x_t, kinds)], [(h_t, kinds), (step.op("Identity", h_t), kinds)])
        first = emit.op("Squeeze", states[0], emit.const([0]))
        _, y = emit.ops("Scan", first, fed, outputs=2, body=body, num_scan_inputs=1)
        return y, [_last_steps(emit, part, y, hidden)]

    return form


def _last_steps(emit: Emitter, part: Part, y: str, hidden: int) -> str:
    """[1, n, H]: the outputs at each row's last step in the piece."""
    before = emit.op("Mul", emit.op("Sub", part.lengths, emit.const([1])), part.alive)
    place = emit.op("Add", before, emit.range(emit.op("Squeeze", part.alive)))
    rows = emit.op("Reshape", y, emit.const([-1, hidden]))
    return emit.op("Unsqueeze", emit.op("Gather", rows, place), emit.const([0]))

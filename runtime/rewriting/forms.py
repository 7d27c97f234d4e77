"""Forms of one direction of a recurrent layer over one piece: what computes its steps.

A form gets [τ, n, I] and the states of its n rows, every one of which has at least one step left; it gives the outputs,
τ · n · H numbers in that order, however shaped, and the states after each row's last step. What it gives for steps
behind a row's end is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.native import Native


@dataclass(frozen=True)
class Part:
    """What one piece computes, by names inside the body.

    Attributes:
        alive: [1]: n.
        lengths: [n], int32: the steps that each row has within the piece, from 1 to τ.
    """

    alive: str
    lengths: str


# (where to, part, x [τ, n, I], states, each [1, n, H]) → outputs of τ · n · H, states
Form = Callable[[Emitter, Part, str, Sequence[str]], tuple[str, list[str]]]


def native_form(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form | None:
    """ONNX Runtime's own operator; of LSTM and GRU to the last bit what it gives on the whole batch.

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
        inputs = [x, *named[:3], part.lengths, *states, *named[3:]]
        y, *finals = emit.ops(native.cell, *inputs, outputs=1 + native.states, **attributes)
        return y, finals

    return form

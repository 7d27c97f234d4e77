"""Activations as ONNX's recurrent operators name them, however a graph writes them.

Needs: a node of a step. Guarantees: the name with its alpha and beta, as a `RecurrentCall` has it; clips as the hard
sigmoid or the ReLU that they are part of.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.algebra import Expression, activated, add, close, multiply, number
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.walk import Facts, attribute

# ONNX's recurrent operators know these by the same names; alpha and beta follow where they have any.
_ACTIVATIONS: dict[str, tuple[tuple[str, float], ...]] = {
    "Sigmoid": (),
    "Tanh": (),
    "Relu": (),
    "Softsign": (),
    "Softplus": (),
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
    "Elu": (("alpha", 1.0),),
    "LeakyRelu": (("alpha", 0.01),),
    "ThresholdedRelu": (("alpha", 1.0),),
}


def activation_of(node: ir.Node) -> str | None:
    """The activation that a node is, or None."""
    if node.op_type not in _ACTIVATIONS:
        return None
    numbers = [repr(float(attribute(node, key, by))) for key, by in _ACTIVATIONS[node.op_type]]
    return ":".join([node.op_type, *numbers])


def limits_of(node: ir.Node, facts: Facts) -> tuple[int, float | None, float | None]:
    """Which input a Clip, Min or Max limits, and where from below and above.

    Raises:
        NotLiftedError: the limits are computed, or differ between columns.
    """
    called = f" ({node.name})" if node.name else ""
    arrays = [facts.of(value) for value in node.inputs]
    bounds: list[np.ndarray | None]
    if node.op_type == "Clip":
        at, bounds = 0, [*arrays[1:], None, None][:2]
    else:
        place = next((i for i, array in enumerate(arrays) if array is not None), None)
        if place is None or len(arrays) != 2:
            raise NotLiftedError(f"a step takes the {node.op_type} of what it computed{called}")
        at = 1 - place
        bounds = [arrays[place], None] if node.op_type == "Max" else [None, arrays[place]]
    if any(bound is not None and bound.size != 1 for bound in bounds):
        raise NotLiftedError(f"a step clips each column at a place of its own{called}")
    low, high = (None if bound is None else float(bound.reshape(-1)[0]) for bound in bounds)
    return at, low, high


def clipped(expression: Expression, low: float | None, high: float | None) -> Expression:
    """Clip as the hard sigmoid it is part of, low + span * HardSigmoid((x - low) / span), or as a ReLU.

    One-sided clips wait as activations of their own names, until the other side is clipped too.
    """
    pending = [product[0] for product in expression.scaled if len(product) == 1 and product[0].kind == "act"]
    if len(pending) == 1 and not expression.dense and len(expression.scaled) == 1 and close(expression.const, 0):
        side, _, at = pending[0].name.partition(":")
        inner = pending[0].argument
        if inner is not None and close(expression.scaled[(pending[0],)], 1):
            if side == "Below" and high is None:
                expression, high = inner, float(at)
            elif side in ("Above", "Relu") and low is None:
                expression, low = inner, float(at or 0)
    if low is None or high is None:
        name = "Relu" if low == 0 else f"Above:{low!r}" if high is None else f"Below:{high!r}"
        return activated(name, expression)
    inner = multiply(add(expression, number(-low)), number(1 / (high - low)))
    return add(multiply(activated("HardSigmoid:1.0:0.0", inner), number(high - low)), number(low))

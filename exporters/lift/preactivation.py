"""A gate before its activation: which input, which state and which bias go into it, with which weights.

Needs: an activation of an expression. Guarantees: its sum sorted into inputs, h, bias and the rest, which only some
cells have (a peephole, a reset gate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seqport.exporters.lift.algebra import Factor, Product, leaf_factor
from seqport.exporters.lift.errors import NotLiftedError


@dataclass(frozen=True)
class Gate:
    """One gate before its activation: inputs, h, bias, and the rest that only some cells have."""

    activation: str
    inputs: Mapping[str, np.ndarray]
    h: np.ndarray
    bias: np.ndarray
    scaled: Mapping[Product, np.ndarray]
    dense: Mapping[Product, np.ndarray]

    def opposite(self) -> Gate:
        """1 minus this gate, which is the gate of the negated sum."""
        if not _is_odd(self.activation) or self.scaled or self.dense:
            raise NotLiftedError(f"it takes 1 minus a gate whose activation is {self.activation}")
        inputs = {name: -matrix for name, matrix in self.inputs.items()}
        return Gate(self.activation, inputs, -self.h, -self.bias, {}, {})


def _is_odd(activation: str) -> bool:
    """Whether 1 - f(a) is f(-a)."""
    name, *numbers = activation.split(":")
    return name == "Sigmoid" or (name == "HardSigmoid" and float(numbers[1]) == 0.5)


def gate_of(factor: Factor, h: str, size: int, own: str = "", width: int | None = None) -> Gate:
    """An activation's argument, sorted; `own` is the cell's new c, which is no input, `width` h's where not `size`."""
    argument = factor.argument
    assert argument is not None and factor.kind == "act"
    width = size if width is None else width
    state = (leaf_factor(h, width, 0, width),)
    inputs: dict[str, np.ndarray] = {}
    dense, scaled = dict(argument.dense), dict(argument.scaled)
    R = dense.pop(state, np.zeros((width, size)))
    if state in scaled and width == size:  # h element by element is h times a diagonal
        R = R + np.diag(scaled.pop(state))
    for terms, is_matrix in ((dense, True), (scaled, False)):
        for product in [key for key in terms if len(key) == 1 and _is_input(key[0], own)]:
            part = product[0]
            matrix = terms.pop(product)
            if not is_matrix:
                whole = np.zeros((part.width, size))
                whole[np.arange(*part.columns), np.arange(size)] = matrix
                matrix = whole
            inputs[part.name] = inputs.get(part.name, 0) + matrix.T
    bias = np.broadcast_to(argument.const, (size,))
    return Gate(factor.name, inputs, R, bias, scaled, dense)


def _is_input(factor: Factor, own: str) -> bool:
    return factor.kind == "leaf" and factor.name != own and factor.name.startswith(("input ", "new "))


def plain(gate: Gate) -> Gate:
    """The gate, if it reads inputs and h only.

    Raises:
        NotLiftedError: it reads more.
    """
    rest = [*gate.scaled, *gate.dense]
    if rest:
        listed = ", ".join("·".join(f.name or f.kind for f in product) for product in rest)
        raise NotLiftedError(f"a gate reads {listed} beside the input and its own state")
    return gate


def stacked_inputs(gates: list[Gate]) -> dict[str, np.ndarray]:
    """Name of the leaf → its weights for all gates, [G * H, size of the leaf]."""
    names = dict.fromkeys(name for gate in gates for name in gate.inputs)
    size = len(gates[0].bias)
    found = {}
    for name in names:
        width = next(gate.inputs[name].shape[1] for gate in gates if name in gate.inputs)
        found[name] = np.concatenate([gate.inputs.get(name, np.zeros((size, width))) for gate in gates])
    return found

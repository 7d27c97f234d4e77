"""One step of each recurrent cell, in ONNX's elementary operators.

The equations, the order of the gates, what `clip` clips and how alpha and beta are dealt out are those of ONNX
Runtime's own CPU kernels, so that a node and its rewritten form give the same answers.
https://github.com/onnx/onnx/blob/main/docs/Operators.md (RNN, GRU, LSTM)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from seqport.runtime.cudnn import DEFAULT_ACTIVATIONS

# What an activation takes, with ONNX Runtime's defaults.
_TAKES: dict[str, dict[str, float]] = {
    "affine": {"alpha": 0.0, "beta": 0.0},
    "relu": {},
    "leakyrelu": {"alpha": 0.01},
    "thresholdedrelu": {"alpha": 0.0},
    "tanh": {},
    "scaledtanh": {"alpha": 0.0, "beta": 0.0},
    "sigmoid": {},
    "hardsigmoid": {"alpha": 0.2, "beta": 0.5},
    "elu": {"alpha": 1.0},
    "softsign": {},
    "softplus": {},
}
_OPERATORS = {
    "relu": "Relu",
    "leakyrelu": "LeakyRelu",
    "thresholdedrelu": "ThresholdedRelu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "hardsigmoid": "HardSigmoid",
    "elu": "Elu",
    "softsign": "Softsign",
    "softplus": "Softplus",
}


class Writer:
    """Collects nodes.

    Args:
        prefix: how the names of its values begin, which are each used once.
        label: how the names of its nodes begin, which need not be unique.
    """

    def __init__(self, prefix: str, label: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._prefix, self._label, self._count = prefix, label, 0

    def name(self, what: str) -> str:
        """A new value's name."""
        self._count += 1
        return f"{self._prefix}/{what}_{self._count}"

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.many(op_type, inputs, 1, **attributes)[0]

    def many(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node, and return its outputs' names."""
        names = [self.name(op_type) for _ in range(outputs)]
        name = f"{self._label}/{op_type}_{self._count}"
        self.nodes.append(helper.make_node(op_type, inputs, names, name=name, **attributes))
        return names

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Add a constant."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self("Constant", value=tensor)

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Cut a value along one axis."""
        return self.many("Split", [value, self.constant(sizes, np.int64)], len(sizes), axis=axis)


@dataclass(frozen=True)
class Activation:
    """An activation with its parameters."""

    name: str  # in lower case
    parameters: Mapping[str, float]

    def __call__(self, write: Writer, value: str) -> str:
        """Apply it."""
        alpha, beta = self.parameters.get("alpha", 0.0), self.parameters.get("beta", 0.0)
        if self.name == "affine":
            return write("Add", write("Mul", value, write.constant(alpha)), write.constant(beta))
        if self.name == "scaledtanh":
            return write("Mul", write("Tanh", write("Mul", value, write.constant(beta))), write.constant(alpha))
        return write(_OPERATORS[self.name], value, **self.parameters)


def activations(op_type: str, attributes: Mapping[str, Any], directions: int) -> list[tuple[Activation, ...]] | None:
    """The activations of each direction; None where one of them is unknown."""
    defaults = DEFAULT_ACTIVATIONS[op_type]
    count = len(defaults) * directions
    names = [name.lower() for name in attributes.get("activations") or defaults * directions]
    if len(names) < count or any(name not in _TAKES for name in names):
        return None
    given = {key: list(attributes.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    found = []
    for name in names[:count]:
        # In order, to those that take one.
        parameters = {key: given[key].pop(0) if given[key] else default for key, default in _TAKES[name].items()}
        found.append(Activation(name, parameters))
    return [tuple(found[d * len(defaults) : (d + 1) * len(defaults)]) for d in range(directions)]


@dataclass(frozen=True)
class Weights:
    """What of one direction's weights every step reads, as names of values outside the loop.

    Attributes:
        recurrent: R, [gates × hidden, hidden], in as many parts as there are products.
        bias: what is added to h R^T, [gates × hidden]; None where all bias is in the input's part already.
        peepholes: those of i, o and f, [hidden] each; none without.
    """

    recurrent: list[str]
    bias: str | None
    peepholes: list[str]


@dataclass(frozen=True)
class Cell:
    """How one direction of a node steps.

    Attributes:
        op_type: "RNN", "GRU", "LSTM".
        size: num_hidden_units.
        functions: its activations.
        clip: the bound of every activation's input; None without.
        reset_after: a GRU resets after the product (linear_before_reset).
        coupled: an LSTM forgets what it does not take in (input_forget).
    """

    op_type: str
    size: int
    functions: tuple[Activation, ...]
    clip: float | None
    reset_after: bool
    coupled: bool

    def weights(self, write: Writer, recurrent: str, bias: str | None, peepholes: str | None) -> Weights:
        """Lay out the weights for the loop, before it.

        Args:
            write: takes the nodes.
            recurrent: R, [gates × hidden, hidden].
            bias: as in `Weights`.
            peepholes: P, [3 × hidden], None without.
        """
        parts = [recurrent]
        if self.op_type == "GRU" and not self.reset_after:
            parts = write.split(recurrent, [2 * self.size, self.size], axis=0)
        return Weights(parts, bias, [] if peepholes is None else write.split(peepholes, [self.size] * 3))

    def step(self, write: Writer, x: str, states: Sequence[str], weights: Weights) -> list[str]:
        """One step.

        Args:
            write: takes the nodes.
            x: the input's part, W x_t with its bias, [batch, gates × hidden].
            states: h_{t-1}, and c_{t-1} of an LSTM, each [batch, hidden].
            weights: the direction's weights.

        Returns:
            The next states.
        """
        return {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.op_type](write, x, states, weights)

    def _activate(self, write: Writer, which: int, value: str) -> str:
        if self.clip is not None:
            value = write("Clip", value, write.constant(-self.clip), write.constant(self.clip))
        return self.functions[which](write, value)

    def _rnn(self, write: Writer, x: str, states: Sequence[str], weights: Weights) -> list[str]:
        return [self._activate(write, 0, write("Gemm", states[0], weights.recurrent[0], x, transB=1))]

    def _gru(self, write: Writer, x: str, states: Sequence[str], weights: Weights) -> list[str]:
        (h,) = states
        x_gates, x_candidate = write.split(x, [2 * self.size, self.size])
        if self.reset_after:
            bias = () if weights.bias is None else (weights.bias,)
            recurrent = write("Gemm", h, weights.recurrent[0], *bias, transB=1)
            r_gates, r_candidate = write.split(recurrent, [2 * self.size, self.size])
            z, r = write.split(self._activate(write, 0, write("Add", x_gates, r_gates)), [self.size, self.size])
            candidate = write("Add", x_candidate, write("Mul", r, r_candidate))
        else:
            r_gates, r_candidate = weights.recurrent
            gates = self._activate(write, 0, write("Gemm", h, r_gates, x_gates, transB=1))
            z, r = write.split(gates, [self.size, self.size])
            candidate = write("Gemm", write("Mul", r, h), r_candidate, x_candidate, transB=1)
        candidate = self._activate(write, 1, candidate)
        # (1 - z) h~ + z h_{t-1}
        return [write("Add", candidate, write("Mul", z, write("Sub", h, candidate)))]

    def _lstm(self, write: Writer, x: str, states: Sequence[str], weights: Weights) -> list[str]:
        h, c = states
        gates = write("Gemm", h, weights.recurrent[0], x, transB=1)
        i, o, f, g = write.split(gates, [self.size] * 4)
        p_i, p_o, p_f = weights.peepholes or (None, None, None)
        i = self._activate(write, 0, _peep(write, i, p_i, c))
        f = write("Sub", write.constant(1.0), i) if self.coupled else self._activate(write, 0, _peep(write, f, p_f, c))
        g = self._activate(write, 1, g)
        c_next = write("Add", write("Mul", f, c), write("Mul", i, g))
        o = self._activate(write, 0, _peep(write, o, p_o, c_next))
        # ONNX Runtime does not clip the state.
        return [write("Mul", o, self.functions[2](write, c_next)), c_next]


def _peep(write: Writer, gate: str, peephole: str | None, c: str) -> str:
    return gate if peephole is None else write("Add", gate, write("Mul", peephole, c))

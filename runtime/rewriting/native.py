"""Reads the native recurrent nodes of a graph: one direction of one of them is a track."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
# Inputs by position: https://onnx.ai/onnx/operators/onnx__LSTM.html (GRU and RNN end at the initial state)
_X, _W, _R, _B, _LENGTHS, _H_0, _C_0, _P = range(8)
_ACTIVATIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # of one direction
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

Constant = Callable[[str], np.ndarray | None]


@dataclass(frozen=True)
class Native:
    """A recurrent node that runs forward, in reverse, or both.

    Attributes:
        node: as it stands in the graph.
        num_directions: 1 or 2.
        reversed: of each direction, whether it runs from the last step to the first.
    """

    node: NodeProto
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, node: NodeProto) -> Native | None:
        """The node, where it is a recurrent one in the usual layout (time first)."""
        if node.op_type not in GATES or node.domain not in ("", "ai.onnx"):
            return None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return None if attributes.get("layout") else cls(node, attributes)

    @property
    def cell(self) -> str:
        """RNN, GRU or LSTM."""
        return self.node.op_type

    @property
    def hidden(self) -> int:
        """num_hidden_units."""
        return int(self.attributes["hidden_size"])

    @property
    def reversed(self) -> tuple[bool, ...]:
        """Of each direction, whether it runs from the last step to the first."""
        direction = self.attributes.get("direction", b"forward").decode()
        return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]

    @property
    def num_directions(self) -> int:
        """1 or 2."""
        return len(self.reversed)

    @property
    def states(self) -> int:
        """How many states it carries: h, and the LSTM's c."""
        return 2 if self.cell == "LSTM" else 1

    def _input(self, index: int) -> str:
        return self.node.input[index] if index < len(self.node.input) else ""

    @property
    def x(self) -> str:
        """[T, B, I]."""
        return self._input(_X)

    @property
    def lengths(self) -> str:
        """[B], int32; "" where every row is as long as the batch."""
        return self._input(_LENGTHS)

    @property
    def initial(self) -> list[str]:
        """h_0 and c_0, each [D, B, H]; "" where it is zero."""
        return [self._input(_H_0), self._input(_C_0)][: self.states]

    @property
    def peepholes(self) -> str:
        """[D, 3H], of the LSTM."""
        return self._input(_P)

    def output(self, index: int) -> str:
        """Y [T, D, B, H], then the final states, each [D, B, H]; "" where nothing reads it."""
        return self.node.output[index] if index < len(self.node.output) else ""

    def activations(self, direction: int) -> list[str]:
        """Of one direction's gates, as ONNX names them."""
        count = _ACTIVATIONS[self.cell]
        named = [name.decode() for name in self.attributes.get("activations", ())] or DEFAULTS[self.cell] * 2
        return named[direction * count : (direction + 1) * count]

    def forward_attributes(self, direction: int) -> dict[str, Any] | None:
        """The attributes of a node that runs one direction forward; None where they cannot be told apart."""
        kept = {name: self.attributes[name] for name in ("clip", "input_forget") if name in self.attributes}
        if self.cell == "GRU":
            kept["linear_before_reset"] = self.attributes.get("linear_before_reset", 0)
        alike = all(self.activations(d) == self.activations(0) for d in range(self.num_directions))
        for name in ("activation_alpha", "activation_beta"):
            values = list(self.attributes.get(name, ()))
            half, odd = divmod(len(values), self.num_directions)
            if odd or (values and not alike):  # ONNX lists them for those activations alone that take one
                return None
            if values:
                kept[name] = values[direction * half : (direction + 1) * half]
        return {"hidden_size": self.hidden, "activations": self.activations(direction), **kept}

    def weights(self, constant: Constant) -> list[np.ndarray] | None:
        """W, R, B (zeros where absent), and P where there is one; None where one of them is computed."""
        found = [constant(self._input(i)) for i in (_W, _R)]
        if any(array is None or array.dtype != np.float32 for array in found):
            return None
        rest = [(self._input(_B), (self.num_directions, 2 * GATES[self.cell] * self.hidden))]
        rest += [(self.peepholes, ())] if self.peepholes else []
        found += [constant(name) if name else np.zeros(shape, np.float32) for name, shape in rest]
        return None if any(array is None for array in found) else found  # type: ignore[return-value]

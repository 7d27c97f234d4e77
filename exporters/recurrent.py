"""The neutral recurrent operator: one node for a whole recurrent layer, before it is lowered.

Every frontend traces a recurrent layer to one `seqport::Recurrent` node, and one pass lowers
that node to a native ONNX operator. The node is time-major and says nothing of frameworks:

inputs   x        [seq, batch, input_dim]
         lengths  [batch]            optional; the valid steps stand first
         mask     [batch, seq] bool  optional, instead of lengths; any step may be masked
         h_0, c_0 [D, batch, num_hidden_units]  optional
         then for each of D directions W_hx, W_hh, b_hx, b_hh, the biases optional:
         [G * num_hidden_units, input_dim] and so on, transposed where `transposed` says so;
         and P [3 * num_hidden_units] after them where `peepholes` says so, an LSTM's weights
         from c to its gates i, o, f, in the order in which `gate_order` names these three
outputs  y        [seq, batch, D * num_hidden_units], in the order of time
         h_T, c_T [D, batch, num_hidden_units]; c_T repeats h_T where a cell has no c

A masked step leaves the states as they are. At masked steps y is 0 or, where `padded_outputs`
is "hold", the output of the step processed before (0 where there is none), or, where it is "state",
the state h itself: the same, but h_0 where there is none. "state" is for one direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

DOMAIN = "seqport"
OP_TYPE = "Recurrent"
VERSION = 1

# Positions of the inputs.
X, LENGTHS, MASK, H_0, C_0, WEIGHTS = range(6)
WEIGHTS_PER_DIRECTION = 4

# cell → (ONNX operator, its order of gates, its default activations for one direction).
# Gates: h the only one of an RNN; i f g o of an LSTM (g the candidate, ONNX's c); r z n of a GRU (n ONNX's h).
# https://onnx.ai/onnx/operators/onnx__LSTM.html and onnx__GRU.html, onnx__RNN.html
CELLS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "rnn": ("RNN", "h", ("Tanh",)),
    "gru": ("GRU", "zrn", ("Sigmoid", "Tanh")),
    "lstm": ("LSTM", "iofg", ("Sigmoid", "Tanh", "Tanh")),
}


@dataclass(frozen=True, kw_only=True)
class RecurrentCall:
    """The attributes of a neutral recurrent node.

    Attributes:
        layer: the user's name of the layer, for messages and metadata.
        cell: "rnn", "gru" or "lstm".
        num_hidden_units: size of one direction's state.
        direction: "forward", "reverse" or "bidirectional".
        activations: ONNX's names for one direction, with alpha and beta after colons where they
            are not ONNX's defaults: "HardSigmoid:0.2:0.5".
        gate_order: the framework's order of the gates' blocks, such as "ifgo" or "rzn".
        transposed: the weights are [input_dim, G * num_hidden_units], as Keras keeps them.
        reset_after: a GRU's reset gate acts after the recurrent product.
        padded_outputs: "zero", "hold" or "state".
        peepholes: each direction has the weight P.
    """

    layer: str
    cell: str
    num_hidden_units: int
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    gate_order: str = ""
    transposed: bool = False
    reset_after: bool = True
    padded_outputs: str = "zero"
    peepholes: bool = False

    @property
    def num_directions(self) -> int:
        """D in the shapes."""
        return 2 if self.direction == "bidirectional" else 1

    @property
    def weights_per_direction(self) -> int:
        """W_hx, W_hh, b_hx, b_hh, and P where it has peepholes."""
        return WEIGHTS_PER_DIRECTION + self.peepholes

    @property
    def op_type(self) -> str:
        """The native ONNX operator."""
        return CELLS[self.cell][0]

    def attributes(self) -> dict[str, Any]:
        """The call as node attributes: strings and ints only, which every tracer carries."""
        peepholes = {"peepholes": 1} if self.peepholes else {}
        return {
            "layer": self.layer,
            "cell": self.cell,
            "num_hidden_units": self.num_hidden_units,
            "direction": self.direction,
            "activations": " ".join(self.activations or CELLS[self.cell][2]),
            "gate_order": self.gate_order or CELLS[self.cell][1],
            "transposed": int(self.transposed),
            "reset_after": int(self.reset_after),
            "padded_outputs": self.padded_outputs,
            **peepholes,
        }

    @classmethod
    def from_node(cls, node: ir.Node) -> RecurrentCall:
        """Read what `attributes` wrote."""
        raw: dict[str, Any] = {name: attribute.value for name, attribute in node.attributes.items()}
        return cls(
            layer=raw["layer"],
            cell=raw["cell"],
            num_hidden_units=raw["num_hidden_units"],
            direction=raw["direction"],
            activations=tuple(raw["activations"].split()),
            gate_order=raw["gate_order"],
            transposed=bool(raw["transposed"]),
            reset_after=bool(raw["reset_after"]),
            padded_outputs=raw["padded_outputs"],
            peepholes=bool(raw.get("peepholes", 0)),
        )


def is_recurrent(node: ir.Node) -> bool:
    """Whether the node is a neutral recurrent call."""
    return node.domain == DOMAIN and node.op_type == OP_TYPE


def num_states(cell: str) -> int:
    """2 for an LSTM (h and c), 1 otherwise."""
    return 2 if cell == "lstm" else 1

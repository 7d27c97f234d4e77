"""One exportable network of a specification: what goes in, what comes out, and the shapes of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Cell = Literal["rnn", "gru", "lstm"]
OutputFunction = Literal["none", "softmax", "sigmoid"]
Activation = Literal["tanh", "relu"]
ResetGate = Literal["after", "before"]
Direction = Literal["forward", "backward"]

# A gate's suffix in the name of a weight: W_hx_i. Input, forget, cell (g), output; reset, update (z), new.
GATES: dict[Cell, tuple[str, ...]] = {
    "rnn": ("",),
    "gru": ("_r", "_z", "_n"),
    "lstm": ("_i", "_f", "_g", "_o"),
}


class TensorSpec(NamedTuple):
    """One input: a string axis is dynamic, an int is fixed."""

    name: str
    axes: tuple[str | int, ...]
    dtype: str


class RecurrentLayer(NamedTuple):
    """One direction of one recurrent layer."""

    index: int
    direction: Direction
    input_dim: int
    prefix: str  # of the names of its weights: "model.layers.0.forward"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network; `ModelSpec.parts` makes it, and every framework builds from it.

    Everything is zero at padded steps, the output too. States are [num_layers * num_directions, batch,
    num_hidden_units], layer by layer, forward before backward (the order of PyTorch).

    Attributes:
        out_dim: None for a network without a head, which gives its final state only.
        every_step: the head reads h_t at each step; otherwise the last layer's final h.
        vocab_size: None for features; otherwise token ids through an embedding [vocab_size, input_dim].
        initial_state: h_0 (and c_0) are inputs; otherwise zeros.
        seq_max_len: 1 where the network takes a single step; its sequence axis is fixed then.
    """

    name: str
    cell: Cell
    input_dim: int
    num_hidden_units: int
    out_dim: int | None
    every_step: bool
    output: OutputFunction
    activation: Activation
    reset_gate: ResetGate
    num_layers: int
    bidirectional: bool
    vocab_size: int | None
    initial_state: bool
    seq_max_len: int

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Of every recurrent layer, in the order of the states."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def num_directions(self) -> int:
        """2 where the network is bidirectional, else 1."""
        return len(self.directions)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the network takes, in order."""
        seq = 1 if self.seq_max_len == 1 else "seq"
        if self.vocab_size is None:
            source = TensorSpec("x", ("batch", seq, self.input_dim), "float32")
        else:
            source = TensorSpec("ids", ("batch", seq), "int64")
        state_axes = (self.num_layers * self.num_directions, "batch", self.num_hidden_units)
        lengths = TensorSpec("lengths", ("batch",), "int64")
        if not self.initial_state:
            return source, lengths
        return source, lengths, *(TensorSpec(f"{state}_0", state_axes, "float32") for state in self.states)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the network gives, in order."""
        head = () if self.out_dim is None else ("output",)
        return (*head, *(f"{state}_T" for state in self.states))

    @property
    def states(self) -> tuple[str, ...]:
        """What a cell carries from step to step."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def gates(self) -> tuple[str, ...]:
        """The suffixes of a cell's weights."""
        return GATES[self.cell]

    @property
    def has_inner_bias(self) -> bool:
        """A GRU whose reset gate comes after the product has one more bias, b_hh_n, inside that product."""
        return self.cell == "gru" and self.reset_gate == "after"

    def layers(self) -> Iterator[RecurrentLayer]:
        """Every direction of every recurrent layer, in the order of the states."""
        for index in range(self.num_layers):
            input_dim = self.input_dim if index == 0 else self.num_directions * self.num_hidden_units
            for direction in self.directions:
                yield RecurrentLayer(index, direction, input_dim, f"{self.name}.layers.{index}.{direction}")

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every weight."""
        hidden = self.num_hidden_units
        shapes: dict[str, tuple[int, ...]] = {}
        if self.vocab_size is not None:
            shapes[f"{self.name}.embedding"] = (self.vocab_size, self.input_dim)
        for layer in self.layers():
            for gate in self.gates:
                shapes[f"{layer.prefix}.W_hx{gate}"] = (hidden, layer.input_dim)
                shapes[f"{layer.prefix}.W_hh{gate}"] = (hidden, hidden)
                shapes[f"{layer.prefix}.b_h{gate}"] = (hidden,)
            if self.has_inner_bias:
                shapes[f"{layer.prefix}.b_hh_n"] = (hidden,)
        if self.out_dim is not None:
            shapes[f"{self.name}.W_oh"] = (self.out_dim, self.num_directions * hidden)
            shapes[f"{self.name}.b_o"] = (self.out_dim,)
        return shapes

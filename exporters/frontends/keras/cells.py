"""Keras's recurrent cells as neutral calls: gates, activations, weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from seqport.exporters.errors import Refusal
from seqport.exporters.frontends.keras.activations import KNOWN, onnx_activation
from seqport.exporters.frontends.keras.library import is_a, libraries, path_of
from seqport.exporters.recurrent import RecurrentCall

# The neutral cell and Keras's order of gates: keras/src/layers/rnn/lstm.py (i, f, c, o) and gru.py (z, r, h).
_CELLS: dict[str, tuple[str, str]] = {
    "SimpleRNNCell": ("rnn", "h"),
    "GRUCell": ("gru", "zrn"),
    "LSTMCell": ("lstm", "ifgo"),
}
# What a cell does before and beside its steps, which the trace runs as it is.
_AROUND_A_STEP = frozenset({"build", "get_config", "from_config", "get_initial_state"})


def cells_of(layer: Any) -> list[Any]:
    """The layer's cells, several where they are stacked."""
    return list(layer.cell.cells) if is_a(layer.cell, "StackedRNNCells") else [layer.cell]


def obstacle(layer: Any) -> Refusal | None:
    """Why a layer is no stack of Keras's own cells with activations that ONNX has, or None where it is."""
    if getattr(layer.cell, "reverse_state_order", False):
        return Refusal(path_of(layer), "stacks cells with reverse_state_order=True", "leave it at False")
    for cell in cells_of(layer):
        if _kind(cell) is None:
            return Refusal(
                path_of(layer),
                f"runs the cell {type(cell).__name__}, which no native operator computes",
                "use keras.layers.SimpleRNN, GRU or LSTM, or RNN over one of their cells",
            )
        for function in _functions(cell):
            if onnx_activation(function, cell.units) is None:
                return Refusal(
                    path_of(layer),
                    f"has the activation {_name(function)}, which ONNX's recurrent operators do not have",
                    f"use one of {KNOWN}",
                )
    return None


def call_of(layer: Any, cell: Any, index: int, count: int) -> RecurrentCall:
    """The neutral call of one cell of a layer that has no obstacle."""
    kind = _kind(cell)
    assert kind is not None
    name, gates = kind
    act, *gate = (onnx_activation(function, cell.units) or "" for function in _functions(cell))
    path = path_of(layer)
    return RecurrentCall(
        layer=path if count == 1 else f"{path}.{index}",
        cell=name,
        num_hidden_units=cell.units,
        direction="reverse" if layer.go_backwards else "forward",
        activations={"rnn": (act,), "gru": (*gate, act), "lstm": (*gate, act, act)}[name],
        gate_order=gates,
        transposed=True,
        reset_after=getattr(cell, "reset_after", False),
        padded_outputs="zero" if layer.zero_output_for_mask else "hold",
    )


def weights_of(cell: Any) -> list[Any]:
    """W_hx, W_hh, b_hx, b_hh as Keras keeps them; a GRU with reset_after has two rows of biases."""
    bias = None if cell.bias is None else tf.convert_to_tensor(cell.bias)
    pair = [None, None] if bias is None else tf.unstack(bias) if bias.shape.rank == 2 else [bias, None]
    return [tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel), *pair]


def _kind(cell: Any) -> tuple[str, str] | None:
    """Which of the three a cell is; a subclass only where it computes as its base does."""
    for library in libraries():
        for name, kind in _CELLS.items():
            base = getattr(library.layers, name)
            if isinstance(cell, base):
                return None if _steps_otherwise(type(cell), base, library.layers.Layer) else kind
    return None


def _steps_otherwise(cell: type, base: type, layer: type) -> bool:
    """Whether a subclass has its own form of anything that Keras's cell has and other layers have not, or of a call."""
    kinds = [vars(kind) for kind in base.__mro__ if kind not in layer.__mro__]
    own = {name for found in kinds for name, value in found.items() if callable(value) and not name.startswith("__")}
    names = own - _AROUND_A_STEP | {"__call__"}
    return any(_found(cell, name) is not _found(base, name) for name in names)


def _found(kind: type, name: str) -> Any:
    return next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None)


def _functions(cell: Any) -> list[Any]:
    """The activation, and that of the gates where there are gates."""
    gates = getattr(cell, "recurrent_activation", None)
    return [cell.activation] if gates is None else [cell.activation, gates]


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))

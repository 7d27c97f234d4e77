"""Keras's recurrent cells as neutral calls: gates, activations, weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from seqport.exporters.errors import RefusedError
from seqport.exporters.recurrent import RecurrentCall

# Keras's order of gates: keras/src/layers/rnn/lstm.py (i, f, c, o) and gru.py (z, r, h).
_CELLS: dict[type, tuple[str, str]] = {
    keras.layers.SimpleRNNCell: ("rnn", "h"),
    keras.layers.GRUCell: ("gru", "zrn"),
    keras.layers.LSTMCell: ("lstm", "ifgo"),
}

# Keras's activation functions as ONNX spells them, with alpha and beta where Keras differs from ONNX's defaults.
# https://keras.io/api/layers/activations/ and https://onnx.ai/onnx/operators/onnx__LSTM.html
_ACTIVATIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "hard_sigmoid": f"HardSigmoid:{1 / 6!r}:0.5",
    "linear": "Affine:1.0:0.0",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "elu": "Elu:1.0",
}


def cells_of(layer: keras.layers.RNN) -> list[Any]:
    """The layer's cells, several where they are stacked."""
    return list(layer.cell.cells) if isinstance(layer.cell, keras.layers.StackedRNNCells) else [layer.cell]


def unknown_cell(layer: keras.layers.RNN) -> str | None:
    """The name of a cell of the layer that is not Keras's own, or None."""
    return next((type(cell).__name__ for cell in cells_of(layer) if _kind(cell) is None), None)


def call_of(layer: keras.layers.RNN, cell: Any, index: int, count: int) -> RecurrentCall:
    """The neutral call of one cell of a layer.

    Raises:
        RefusedError: an activation that ONNX does not have.
    """
    kind = _kind(cell)
    assert kind is not None
    name, gates = kind
    path = str(layer.path) if count == 1 else f"{layer.path}.{index}"
    act = _activation(path, cell.activation)
    gate = _activation(path, cell.recurrent_activation) if name != "rnn" else ""
    return RecurrentCall(
        layer=path,
        cell=name,
        num_hidden_units=cell.units,
        direction="reverse" if layer.go_backwards else "forward",
        activations={"rnn": (act,), "gru": (gate, act), "lstm": (gate, act, act)}[name],
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
    for base, kind in _CELLS.items():
        if isinstance(cell, base) and type(cell).call is base.call:
            return kind
    return None


def _activation(path: str, function: Any) -> str:
    name = getattr(function, "__name__", repr(function))
    own = any(getattr(home, name, None) is function for home in (keras.activations, keras.ops, tf.nn, tf.math))
    if not own or name not in _ACTIVATIONS:
        raise RefusedError(
            path,
            f"has the activation {name}, which ONNX's recurrent operators do not have",
            f"use one of {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]

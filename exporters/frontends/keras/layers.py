"""Keras's recurrent layers while a model is traced: one neutral recurrent node a layer.

The loop over time of every recurrent layer is its `inner_loop`; whatever Keras does around it (merge
modes, returned states, masks computed by other layers) stays Keras's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from seqport.exporters.errors import RefusedError
from seqport.exporters.recurrent import RecurrentCall, num_states

# The token of a traced call begins with this; the translation to ONNX finds it by that.
TOKEN_PREFIX = "seqport:"

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


def inner_loop(layer: keras.layers.RNN, sequences: Any, initial_state: Any, mask: Any) -> tuple[Any, Any, list[Any]]:
    """`inner_loop` of keras.layers.RNN and its kin while tracing.

    Args:
        layer: a layer whose cell is one of Keras's own three.
        sequences: [batch, seq, input_dim].
        initial_state: one or two tensors [batch, num_hidden_units].
        mask: bool [batch, seq] or None.

    Returns:
        The last output [batch, H], all outputs [batch, seq, H] in order of processing, and the final states.

    Raises:
        RefusedError: an activation that ONNX does not have, or a state kept between calls.
    """
    call = _call(layer)
    mask = _plain_mask(mask)
    states = keras.tree.flatten(initial_state)
    y, h_T, c_T = _emit(call, sequences, mask, states, _weights(layer.cell))
    finals = [h_T[0], c_T[0]][: num_states(call.cell)]
    outputs = tf.transpose(y, [1, 0, 2])  # [batch, seq, H], in order of time
    last = _last_output(finals[0], mask, call)
    return last, outputs, finals


def is_captured(layer: keras.layers.RNN) -> bool:
    """Whether the layer's cell is one of Keras's own."""
    return type(layer.cell) in _CELLS


def _call(layer: keras.layers.RNN) -> RecurrentCall:
    if layer.stateful:
        raise RefusedError(
            str(layer.path),
            "is stateful=True, so its state would be frozen into the file",
            "build it with stateful=False and pass initial_state as an input of the model",
        )
    cell: Any = layer.cell
    name, gates = _CELLS[type(cell)]
    act = _activation(layer, cell.activation)
    gate = _activation(layer, cell.recurrent_activation) if name != "rnn" else ""
    return RecurrentCall(
        layer=str(layer.path),
        cell=name,
        num_hidden_units=cell.units,
        direction="reverse" if layer.go_backwards else "forward",
        activations={"rnn": (act,), "gru": (gate, act), "lstm": (gate, act, act)}[name],
        gate_order=gates,
        transposed=True,
        reset_after=getattr(cell, "reset_after", False),
        padded_outputs="zero" if layer.zero_output_for_mask else "hold",
    )


def _activation(layer: keras.layers.RNN, function: Any) -> str:
    name = getattr(function, "__name__", repr(function))
    own = getattr(keras.activations, name, None) is function
    if not own or name not in _ACTIVATIONS:
        raise RefusedError(
            str(layer.path),
            f"has the activation {name}, which ONNX's recurrent operators do not have",
            f"use one of {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def _plain_mask(mask: Any) -> Any:
    """The mask as bool [batch, seq]; Keras may hand it in a list or with a last axis of 1."""
    if mask is None:
        return None
    mask = tf.cast(keras.tree.flatten(mask)[0], tf.bool)
    return tf.squeeze(mask, -1) if mask.shape.rank == 3 else mask


def _weights(cell: Any) -> list[Any]:
    """W_hx, W_hh, b_hx, b_hh as Keras keeps them; a GRU with reset_after has two rows of biases."""
    bias = None if cell.bias is None else tf.convert_to_tensor(cell.bias)
    pair = [None, None] if bias is None else tf.unstack(bias) if bias.shape.rank == 2 else [bias, None]
    return [tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel), *pair]


def _emit(
    call: RecurrentCall, sequences: Any, mask: Any, states: Sequence[Any], weights: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """One op in the traced graph that stands for the whole layer; it is never run."""
    x = tf.transpose(sequences, [1, 0, 2])
    rows = [tf.expand_dims(state, 0) for state in states]  # [1, batch, H]
    slots = [x, None, mask, *(*rows, None)[:2], *weights]
    present = [i for i, value in enumerate(slots) if value is not None]
    token = TOKEN_PREFIX + json.dumps({"slots": present, "attributes": call.attributes()}, sort_keys=True)
    y, h_T, c_T = tf.raw_ops.PyFunc(input=[slots[i] for i in present], token=token, Tout=[x.dtype] * 3)
    # ensure_shape, not set_shape: only an op keeps the shapes when the graph is frozen.
    state_shape = [1, x.shape[1], call.num_hidden_units]
    return (
        tf.ensure_shape(y, [x.shape[0], x.shape[1], call.num_hidden_units]),
        tf.ensure_shape(h_T, state_shape),
        tf.ensure_shape(c_T, state_shape),
    )


def _last_output(h_T: Any, mask: Any, call: RecurrentCall) -> Any:
    """What Keras returns without return_sequences: the output of the step processed last.

    Where that step is masked it is 0 ("zero"), or the last valid output ("hold"), 0 for a row
    without any; the final state of such a row would be its initial one.
    """
    if mask is None:
        return h_T
    if call.padded_outputs == "zero":
        valid = mask[:, 0] if call.direction == "reverse" else mask[:, -1]
    else:
        valid = tf.reduce_any(mask, axis=1)
    return tf.where(valid[:, None], h_T, tf.zeros_like(h_T))

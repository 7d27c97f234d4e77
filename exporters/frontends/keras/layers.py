"""Keras's recurrent layers while a model is traced: one neutral recurrent node a cell.

The loop over time of every recurrent layer is its `inner_loop`; whatever Keras does around it (merge
modes, returned states, masks computed by other layers) stays Keras's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seqport.exporters.frontends.keras.cells import call_of, cells_of, weights_of
from seqport.exporters.frontends.tensorflow.convert import TOKEN_PREFIX
from seqport.exporters.recurrent import RecurrentCall, num_states


def inner_loop(
    layer: Any, sequences: Any, initial_state: Any, mask: Any, *, time_major: bool = False
) -> tuple[Any, Any, Any]:
    """`inner_loop` of keras.layers.RNN and its kin while tracing.

    Args:
        layer: a layer whose cells are Keras's own.
        sequences: [batch, seq, input_dim].
        initial_state: tensors [batch, num_hidden_units], nested by cell where cells are stacked.
        mask: bool [batch, seq] or None.
        time_major: sequences, mask and outputs begin with [seq, batch] instead (tf_keras).

    Returns:
        The last output [batch, H], all outputs [batch, seq, H] in the order of time, and the final states, nested
        as the initial ones.
    """
    mask = _plain_mask(mask)
    if time_major and mask is not None:
        mask = tf.transpose(mask)
    cells, remaining = cells_of(layer), tf.nest.flatten(initial_state)
    x = sequences if time_major else tf.transpose(sequences, [1, 0, 2])
    finals: list[Any] = []
    for index, cell in enumerate(cells):
        call = call_of(layer, cell, index, len(cells))
        count = num_states(call.cell)
        states, remaining = remaining[:count], remaining[count:]
        x, *last_states = _emit(call, x, mask, states, weights_of(cell))
        last = _last_output(last_states[0][0], mask, call)
        finals.extend(state[0] for state in last_states[:count])
    outputs = x if time_major else tf.transpose(x, [1, 0, 2])
    return last, outputs, tf.nest.pack_sequence_as(initial_state, finals)


def _plain_mask(mask: Any) -> Any:
    """The mask as bool [batch, seq]; Keras may hand it in a list or with a last axis of 1."""
    if mask is None:
        return None
    mask = tf.cast(tf.nest.flatten(mask)[0], tf.bool)
    return tf.squeeze(mask, -1) if mask.shape.rank == 3 else mask


def _emit(
    call: RecurrentCall, x: Any, mask: Any, states: Sequence[Any], weights: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """One op in the traced graph that stands for the whole layer; it is never run.

    ONNX Runtime's recurrent kernels compute in float32; a layer of another type is converted around them.
    """
    rows = [tf.expand_dims(state, 0) for state in states]  # [1, batch, H]
    slots = [x, None, mask, *(*rows, None)[:2], *weights]
    present = [i for i, value in enumerate(slots) if value is not None]
    values = [slots[i] if i == 2 else tf.cast(slots[i], tf.float32) for i in present]
    token = TOKEN_PREFIX + json.dumps({"slots": present, "attributes": call.attributes()}, sort_keys=True)
    y, h_T, c_T = tf.raw_ops.PyFunc(input=values, token=token, Tout=[tf.float32] * 3)
    # ensure_shape, not set_shape: only an op keeps the shapes when the graph is frozen.
    state_shape = [1, x.shape[1], call.num_hidden_units]
    return (
        tf.cast(tf.ensure_shape(y, [x.shape[0], x.shape[1], call.num_hidden_units]), x.dtype),
        tf.cast(tf.ensure_shape(h_T, state_shape), x.dtype),
        tf.cast(tf.ensure_shape(c_T, state_shape), x.dtype),
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

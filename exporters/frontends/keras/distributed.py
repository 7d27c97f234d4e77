"""TimeDistributed while a model is traced: time folded into the batch, so that one call serves all steps.

Keras maps the inner layer over the steps, which TensorFlow traces to a loop. For inference the inner layer treats
rows alike and apart, so rows of all steps may go through it together.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def call(wrapper: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """`call` of keras.layers.TimeDistributed while tracing; inputs [batch, seq, ...]."""
    layer = wrapper.layer
    options: dict[str, Any] = {}
    if layer._call_has_mask_arg and mask is not None:
        options["mask"] = _folded(mask)
    if layer._call_has_training_arg:
        options["training"] = training
    outputs = layer.call(_folded(inputs), **options)
    leading = tf.shape(inputs)[:2]
    unfolded = tf.reshape(outputs, tf.concat([leading, tf.shape(outputs)[1:]], axis=0))
    return tf.ensure_shape(unfolded, [*inputs.shape[:2], *outputs.shape[1:]])


def _folded(x: Any) -> Any:
    """[batch, seq, ...] as [batch * seq, ...]."""
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    return tf.ensure_shape(flat, [None, *x.shape[2:]])

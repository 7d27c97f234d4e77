"""Put the traced forms in place of Keras's loops while a model is traced, and take them back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend, ops
from keras.src.backend.common import global_state

from seqport.exporters.errors import Refusal
from seqport.exporters.frontends.keras.cells import obstacle
from seqport.exporters.frontends.keras.cudnn import without_cudnn
from seqport.exporters.frontends.keras.distributed import call as time_distributed
from seqport.exporters.frontends.keras.layers import inner_loop
from seqport.exporters.frontends.keras.legacy import legacy_layers_whole
from seqport.exporters.frontends.keras.reversals import Reversals
from seqport.exporters.frontends.keras.stateful import KeptStates
from seqport.exporters.frontends.patching import replaced


@contextmanager
def recurrent_layers_whole(refusals: list[Refusal], kept: KeptStates) -> Iterator[None]:
    """Within this block recurrent layers trace to neutral nodes; layers that cannot are added to `refusals`."""
    reversals = Reversals()

    def capture(
        layer: Any, loop: Callable[[], Any], x: Any, initial_state: Any, mask: Any, time_major: bool = False
    ) -> Any:
        kept.meet(layer)
        if (refusal := obstacle(layer)) is not None:
            if refusal not in refusals:
                refusals.append(refusal)
            return loop()
        given = kept.initial(layer, initial_state)
        last, outputs, finals = inner_loop(layer, x, given, mask, time_major=time_major)
        kept.keep(layer, finals)
        return last, reversals.of(outputs, 0 if time_major else 1) if layer.go_backwards else outputs, finals

    def captured(original: Any) -> Any:
        def patched(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            def loop() -> Any:
                return original(layer, sequences, initial_state, mask, training)

            return capture(layer, loop, sequences, initial_state, mask)

        return patched

    with _name_scopes_kept(), without_cudnn(), ExitStack() as stack:
        for layer in (keras.layers.RNN, keras.layers.GRU, keras.layers.LSTM):
            stack.enter_context(replaced(layer, "inner_loop", captured(layer.inner_loop)))
        stack.enter_context(replaced(keras.layers.TimeDistributed, "call", time_distributed))
        stack.enter_context(replaced(backend.numpy, "argmax", _argmax))
        stack.enter_context(replaced(ops, "flip", reversals.undone(ops.flip)))
        if "tf_keras" in sys.modules:
            stack.enter_context(legacy_layers_whole(capture, reversals))
        yield


@contextmanager
def _name_scopes_kept() -> Iterator[None]:
    """A call that fails leaves its name scope open in Keras, and layers made later would be named inside of it."""
    scopes: list[Any] = global_state.get_global_attribute("name_scope_stack", default=[], set_to_default=True)  # type: ignore[assignment]
    before = list(scopes)
    try:
        yield
    finally:
        scopes[:] = before


def _argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """`keras.ops.argmax` without the bit tricks that its TensorFlow form plays for negative zeros."""
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    found = tf.argmax(x, axis, output_type=tf.int32)
    return tf.expand_dims(found, axis) if keepdims else found

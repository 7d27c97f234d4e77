"""Put the traced forms in place of Keras's loops while a model is traced, and take them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import global_state

from seqport.exporters.errors import Refusal
from seqport.exporters.frontends.keras.cells import unknown_cell
from seqport.exporters.frontends.keras.distributed import call as time_distributed
from seqport.exporters.frontends.keras.layers import inner_loop
from seqport.exporters.frontends.keras.stateful import KeptStates
from seqport.exporters.frontends.patching import replaced


@contextmanager
def recurrent_layers_whole(refusals: list[Refusal], kept: KeptStates) -> Iterator[None]:
    """Within this block recurrent layers trace to neutral nodes; layers that cannot are added to `refusals`."""
    reversals = _Reversals()

    def capture(original: Any) -> Any:
        def patched(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            if (cell := unknown_cell(layer)) is not None:
                refusals.append(_custom_cell(layer, cell))
                return original(layer, sequences, initial_state, mask, training)
            last, outputs, finals = inner_loop(layer, sequences, kept.initial(layer, initial_state), mask)
            kept.keep(layer, finals)
            return last, reversals.of(outputs) if layer.go_backwards else outputs, finals

        return patched

    with _name_scopes_kept(), ExitStack() as stack:
        for layer in (keras.layers.RNN, keras.layers.GRU, keras.layers.LSTM):
            stack.enter_context(replaced(layer, "inner_loop", capture(layer.inner_loop)))
        for fused in ("_can_attempt_fused_lstm", "_can_attempt_fused_gru"):
            # On a machine with a GPU these would call cuDNN's kernels, which no ONNX operator matches.
            if hasattr(keras.layers.Bidirectional, fused):
                stack.enter_context(replaced(keras.layers.Bidirectional, fused, lambda *_: False))
        stack.enter_context(replaced(keras.layers.TimeDistributed, "call", time_distributed))
        stack.enter_context(replaced(backend.numpy, "argmax", _argmax))
        for owner in reversals.owners():
            stack.enter_context(replaced(owner, "flip", reversals.flip(owner.flip)))
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


class _Reversals:
    """Outputs of backward layers, which Keras returns reversed and Bidirectional reverses again.

    The native node gives them in the order of time, so the second reversal just returns that; the
    first is then read by nobody and drops out of the graph.
    """

    def __init__(self) -> None:
        self._in_time: dict[int, tuple[Any, Any]] = {}

    def of(self, outputs: Any) -> Any:
        """The outputs [batch, seq, H] in the order of processing."""
        reversed_outputs = tf.reverse(outputs, [1])
        self._in_time[id(reversed_outputs)] = (reversed_outputs, outputs)  # the tensor itself keeps its id alive
        return reversed_outputs

    def flip(self, original: Any) -> Any:
        """A `keras.ops.flip` that knows these outputs."""

        def patched(x: Any, axis: Any = None) -> Any:
            _, in_time = self._in_time.get(id(x), (None, None))
            return in_time if in_time is not None and axis == 1 else original(x, axis=axis)

        return patched

    @staticmethod
    def owners() -> list[Any]:
        """The modules through which Keras's own layers reach `flip`."""
        from keras.src import ops

        return [ops]


def _argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """`keras.ops.argmax` without the bit tricks that its TensorFlow form plays for negative zeros."""
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    found = tf.argmax(x, axis, output_type=tf.int32)
    return tf.expand_dims(found, axis) if keepdims else found


def _custom_cell(layer: Any, cell: str) -> Refusal:
    return Refusal(
        layer.path,
        f"runs the cell {cell}, which no native operator computes",
        "use keras.layers.SimpleRNN, GRU or LSTM, or RNN over one of their cells",
    )

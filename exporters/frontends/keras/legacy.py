"""tf_keras while a model is traced: its loop over time becomes a neutral node, as Keras 3's `inner_loop` does.

All its recurrent layers hand their loop to `backend.rnn`, LSTM and GRU after a choice between implementations (cuDNN's
among them), which they make only where `_could_use_gpu_kernel` allows it. What they do around the loop stays theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tensorflow as tf

from seqport.exporters.frontends.keras.reversals import Reversals
from seqport.exporters.frontends.patching import attribute, replaced

# What `capture` is given of a loop: the layer, the loop itself, x, initial state, mask, and whether x is time-major.
Capture = Callable[[Any, Callable[[], Any], Any, Any, Any, bool], Any]


@contextmanager
def legacy_layers_whole(capture: Capture, reversals: Reversals) -> Iterator[None]:
    """Within this block the loops of tf_keras's recurrent layers go to `capture`."""
    from tf_keras.src import backend
    from tf_keras.src.layers.rnn.base_rnn import RNN

    with ExitStack() as stack:
        loops = _Loops(capture, stack)
        stack.enter_context(replaced(RNN, "_process_inputs", loops.announced(RNN._process_inputs)))
        stack.enter_context(replaced(backend, "rnn", loops.captured(backend.rnn)))
        stack.enter_context(replaced(backend, "reverse", reversals.undone(backend.reverse)))
        yield


class _Loops:
    """Tells whose loop `backend.rnn` runs: a layer looks at its inputs last before that."""

    def __init__(self, capture: Capture, stack: ExitStack) -> None:
        self._capture, self._stack = capture, stack
        self._layer: Any = None

    def announced(self, original: Any) -> Any:
        """An `RNN._process_inputs` that remembers its layer."""

        def patched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(layer, *args, **kwargs)
            if getattr(layer, "_could_use_gpu_kernel", False):
                self._stack.enter_context(attribute(layer, "_could_use_gpu_kernel", False))
            self._layer = layer
            return found

        return patched

    def captured(self, original: Any) -> Any:
        """A `backend.rnn` that captures the loop of the layer that was announced."""

        def patched(step: Any, inputs: Any, initial_states: Any, **options: Any) -> Any:
            layer, self._layer = self._layer, None

            def loop() -> Any:
                return original(step, inputs, initial_states, **options)

            lengths = options.get("input_length")
            if layer is None and not initial_states and options.get("mask") is None:
                return _mapped(step, inputs)
            if layer is None or options.get("constants") or (lengths is not None and not isinstance(lengths, int)):
                return loop()
            mask, time_major = options.get("mask"), bool(options.get("time_major"))
            return self._capture(layer, loop, inputs, initial_states, mask, time_major)

        return patched


def _mapped(step: Any, inputs: Any) -> Any:
    """A loop without a state, as TimeDistributed has it: all steps of x [batch, seq, ...] in one call."""
    leading = tf.shape(inputs)[:2]
    folded = tf.reshape(inputs, tf.concat([[-1], tf.shape(inputs)[2:]], axis=0))
    folded.set_shape([None, *inputs.shape[2:]])
    output, _ = step(folded, [])
    unfolded = tf.reshape(output, tf.concat([leading, tf.shape(output)[1:]], axis=0))
    outputs = tf.ensure_shape(unfolded, [*inputs.shape[:2], *output.shape[1:]])
    return outputs[:, -1], outputs, []

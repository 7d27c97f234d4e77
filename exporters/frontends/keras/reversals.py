"""Outputs of backward layers, which Keras returns reversed and Bidirectional reverses again.

The native node gives them in the order of time, so the second reversal just returns that; the first is then read by
nobody and drops out of the graph.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Reversals:
    """The outputs that were reversed while a model is traced."""

    def __init__(self) -> None:
        self._in_time: dict[int, tuple[Any, Any, int]] = {}

    def of(self, outputs: Any, axis: int = 1) -> Any:
        """The outputs in the order of processing, where `axis` is their time."""
        reversed_outputs = tf.reverse(outputs, [axis])
        self._in_time[id(reversed_outputs)] = (reversed_outputs, outputs, axis)  # the tensor itself keeps its id alive
        return reversed_outputs

    def undone(self, original: Any) -> Any:
        """A `keras.ops.flip`, or `tf_keras.backend.reverse`, that knows these outputs."""

        def patched(x: Any, axis: Any = None, **kwargs: Any) -> Any:
            _, in_time, time = self._in_time.get(id(x), (None, None, None))
            if in_time is not None and axis in (time, [time], (time,)):
                return in_time
            return original(x, axis, **kwargs)

        return patched

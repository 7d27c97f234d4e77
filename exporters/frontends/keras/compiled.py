"""Keras's own recurrent layers as graphs while the model is asked for its answers, as its `predict` runs them.

Called eagerly, Keras runs the loop over time in Python, some milliseconds a step. A proof asks a model a dozen times,
so that tracing each loop once is what costs least. Only loops of Keras's own cells are: a user's Python code is called
at each step, as ever, because what it does there may depend on the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from seqport.exporters.frontends.keras.cells import obstacle
from seqport.exporters.frontends.patching import replaced


class CompiledLoops:
    """The loops of one model, each traced when it is first run."""

    def __init__(self) -> None:
        # By layer, and whether it is given a mask. The layer is kept, so that no other takes its place in memory.
        self._traced: dict[tuple[int, int], tuple[Any, Any]] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block Keras 3's layers run them instead of their own."""
        with ExitStack() as stack:
            for layer in (keras.layers.RNN, keras.layers.GRU, keras.layers.LSTM):
                stack.enter_context(replaced(layer, "inner_loop", self._patched(layer.inner_loop)))
            yield

    def _patched(self, original: Any) -> Any:
        def patched(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            given = [sequences, initial_state] if mask is None else [sequences, initial_state, mask]
            key = id(layer), len(given)
            # Dropout has drawn its masks before the loop: in a graph they would be constants.
            if not tf.executing_eagerly() or training or layer.unroll:
                return original(layer, sequences, initial_state, mask, training)
            if key not in self._traced:
                if obstacle(layer) is not None:
                    return original(layer, sequences, initial_state, mask, training)
                self._traced[key] = layer, _traced(partial(original, layer), given)
            return self._traced[key][1](*given)

        return patched


def _traced(loop: Callable[..., Any], given: Sequence[Any]) -> Any:
    """A loop as a graph for tensors like those that it is given, of any batch and any number of steps."""
    sequences, initial_state, *mask = given
    signature = [
        _of_any_size(sequences, 2),
        tf.nest.map_structure(lambda state: _of_any_size(state, 1), initial_state),
        *tf.nest.map_structure(lambda each: _of_any_size(each, 2), mask),
    ]

    def run(sequences: Any, initial_state: Any, mask: Any = None) -> Any:
        return loop(sequences, initial_state, mask)

    return tf.function(run, input_signature=signature, autograph=False)


def _of_any_size(value: Any, free: int) -> Any:
    """A tensor whose first axes, the batch and perhaps the steps, have any size."""
    return tf.TensorSpec([None] * free + value.shape.as_list()[free:], value.dtype)

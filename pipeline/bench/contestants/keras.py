"""Keras on TensorFlow: the masked layer as one graph, and the same through tf2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqport.pipeline.quiet import import_tensorflow

import_tensorflow()

import keras  # noqa: E402 - after TensorFlow, whose messages are held back
import tensorflow as tf  # noqa: E402

from seqport.pipeline.bench.cases import INPUT_DIM, Case, Inputs, Network  # noqa: E402
from seqport.pipeline.bench.contestants.entry import Prepared  # noqa: E402
from seqport.pipeline.bench.contestants.sessions import zero_state  # noqa: E402
from seqport.pipeline.bench.contestants.streams import checked_steps, gathered  # noqa: E402
from seqport.pipeline.bench.networks import keras_weights  # noqa: E402


class Masked:
    """The layer with a mask from lengths, traced once with open axes: how TensorFlow serves it."""

    def __init__(self, network: Network, folder: Path) -> None:
        del folder  # its weights need no file
        self.network = network
        self.function = function_of(network)

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        if case.kind == "stream":
            return self._prepare_stream(inputs)
        x, lengths = tf.constant(inputs.x), tf.constant(inputs.lengths)
        return Prepared(
            lambda: self.function(x, lengths)["y"].numpy(),
            lambda: self.function(x, lengths)["y"].numpy()[inputs.valid],
        )

    def _prepare_stream(self, inputs: Inputs) -> Prepared:
        def stepper() -> Callable[[Any], np.ndarray]:
            zeros = zero_state(self.network, len(inputs.x))
            state = [tf.constant(array) for array in zeros.values()]

            def step(x: Any) -> np.ndarray:
                outputs = self.function(x, *state)
                state[:] = [outputs[f"{name[0]}_T"] for name in zeros]
                return outputs["y"].numpy()

            return step

        x, step = tf.constant(inputs.x), stepper()
        steps = [tf.constant(one) for one in checked_steps(inputs.x)]
        return Prepared(lambda: step(x), lambda: gathered(map(stepper(), steps)))


def function_of(network: Network) -> Any:
    """The layer as a `tf.function` of (x, lengths), or of x and its state."""
    H = network.num_hidden_units
    kind: Any = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[network.cell]
    layer = kind(H, return_sequences=True, return_state=network.with_state)
    if network.bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, INPUT_DIM))
    layer.set_weights(keras_weights(network))
    x = tf.TensorSpec([None, None, INPUT_DIM], tf.float32, name="x")

    if network.with_state:
        names = list(zero_state(network, 1))
        states = [tf.TensorSpec([network.directions, None, H], tf.float32, name=name) for name in names]

        def stepped(x: Any, *state: Any) -> dict[str, Any]:
            y, *finals = layer(x, initial_state=[one[0] for one in state])
            return {"y": y, **{f"{name[0]}_T": final[None] for name, final in zip(names, finals, strict=True)}}

        return tf.function(stepped, input_signature=[x, *states], autograph=False)

    def masked(x: Any, lengths: Any) -> dict[str, Any]:
        return {"y": layer(x, mask=tf.sequence_mask(lengths, tf.shape(x)[1]))}

    lengths = tf.TensorSpec([None], tf.int64, name="lengths")
    return tf.function(masked, input_signature=[x, lengths], autograph=False)


def export(network: Network, path: Path) -> None:
    """Convert the same function by tf2onnx."""
    import tf2onnx

    function = function_of(network)
    signature = function.input_signature
    tf2onnx.convert.from_function(function, input_signature=signature, opset=18, output_path=str(path))

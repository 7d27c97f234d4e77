"""The model as a Keras 3 model, written as a user would write it: the Functional API, masks from lengths."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from seqport.models.part import Part
from seqport.models.weights import Weights


def build(part: Part, weights: Weights | None = None) -> SequenceModel:
    """The Keras model of one part; without weights it has Keras's random ones."""
    model = SequenceModel(part)
    if weights is not None:
        model.load(weights)
    return model


class SequenceModel(keras.Model):
    """Embedding, masked recurrent layers, head: one `Part`, with zeros at its padded steps.

    It takes a list in the order of `part.inputs` and returns a dict with the names of `part.outputs`.
    """

    def __init__(self, part: Part) -> None:
        inputs = [_input(name, axes, dtype) for name, axes, dtype in part.inputs]
        super().__init__(inputs=inputs, outputs=_connect(part, *inputs), name=part.name)
        self.part = part

    def load(self, weights: Weights) -> None:
        """Take over neutral weights."""
        for name, arrays in weights.to_keras(self.part).items():
            self.get_layer(name).set_weights(arrays)

    def layer_weights(self) -> dict[str, list[Any]]:
        """What each layer holds, as `Weights.from_keras` takes it."""
        return {layer.name: arrays for layer in self.layers if (arrays := layer.get_weights())}


class LengthsMask(layers.Layer):
    """True at the steps of a padded batch that a row's length covers: [batch, seq]."""

    def call(self, x: Any, lengths: Any) -> Any:
        """Compare each step of x [batch, seq, ...] with its row's length."""
        seq = ops.shape(x)[1]  # pyright: ignore[reportOptionalSubscript] - keras types it as None
        return ops.less(ops.arange(seq, dtype=lengths.dtype), ops.expand_dims(lengths, 1))


def _input(name: str, axes: tuple[str | int, ...], dtype: str) -> Any:
    shape = tuple(axis if isinstance(axis, int) else None for axis in axes)
    return keras.Input(batch_shape=shape, dtype=dtype, name=name)


def _connect(part: Part, source: Any, lengths: Any, *states: Any) -> dict[str, Any]:
    mask = LengthsMask(name="mask")(source, lengths)
    h = source
    if part.vocab_size is not None:
        h = layers.Embedding(part.vocab_size, part.input_dim, name="embedding")(source)
    finals = []
    for index in range(part.num_layers):
        rows = range(index * part.num_directions, (index + 1) * part.num_directions)
        initial = [state[row] for row in rows for state in states] or None
        h, *final = _recurrent(part, index)(h, initial_state=initial, mask=mask)
        finals += final
    # Each layer lists a direction's h_T, then its c_T.
    kinds = len(part.states)
    outputs = {f"{state}_T": ops.stack(finals[i::kinds]) for i, state in enumerate(part.states)}
    if part.out_dim is None:
        return outputs
    g = None if part.output == "none" else part.output
    head = layers.Dense(part.out_dim, activation=g, name="head")
    if part.every_step:
        output = ops.where(ops.expand_dims(mask, -1), head(h), 0.0)  # [batch, seq, out_dim]
    else:
        last = finals[-kinds * part.num_directions :: kinds]
        output = head(ops.concatenate(last, axis=-1) if part.bidirectional else last[0])  # [batch, out_dim]
    return {"output": output, **outputs}


def _recurrent(part: Part, index: int) -> layers.Layer:
    name = f"recurrent_{index}"
    options = {"return_sequences": True, "return_state": True, "name": name}
    if part.cell == "rnn":
        layer = layers.SimpleRNN(part.num_hidden_units, activation=part.activation, **options)
    elif part.cell == "gru":
        layer = layers.GRU(part.num_hidden_units, reset_after=part.reset_gate == "after", **options)
    else:
        layer = layers.LSTM(part.num_hidden_units, **options)
    return layers.Bidirectional(layer, name=name) if part.bidirectional else layer

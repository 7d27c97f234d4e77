"""tf_keras models as users write them, where the library differs from Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from seqport.exporters import Input
from support.keras_models import FEATURES, HIDDEN, IDS, LENGTHS, MASK, VOCABULARY, Row, X

layers: Any = tf_keras.layers
STEPS = Input("x", ("batch", 7, FEATURES))
BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}


def functional(run: Callable[..., Any], *items: Input) -> Any:
    """A Functional model whose body is a function of its symbolic inputs."""
    tensors = [
        tf_keras.Input([None if isinstance(a, str) else a for a in item.axes[1:]], dtype=item.dtype, name=item.name)
        for item in items
    ]
    return tf_keras.Model(tensors if len(tensors) > 1 else tensors[0], run(*tensors))


class Subclassed(tf_keras.Model):
    """Inputs by name, and a mask computed from lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = layers.GRU(HIDDEN, return_sequences=True)

    def call(self, x: Any, lengths: Any) -> Any:
        return self.recurrent(x, mask=tf.sequence_mask(lengths, tf.shape(x)[1]))


def tagger() -> Any:
    """A masked tagger; its dropout is there for training alone."""
    return tf_keras.Sequential(
        [
            tf_keras.Input((None,), dtype="int64", name="ids"),
            layers.Embedding(VOCABULARY, FEATURES, mask_zero=True),
            layers.SpatialDropout1D(0.2),
            layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, dropout=0.1, recurrent_dropout=0.1)),
            layers.GRU(HIDDEN, return_sequences=True, recurrent_activation="hard_sigmoid", reset_after=False),
            layers.TimeDistributed(layers.Dense(2)),
        ]
    )


def _time_major(x: Any) -> Any:
    by_step = layers.LSTM(HIDDEN, time_major=True, return_sequences=True, go_backwards=True)
    return tf.transpose(by_step(tf.transpose(x, (1, 0, 2))), (1, 0, 2))


def _stacked(x: Any, mask: Any) -> Any:
    cells = layers.StackedRNNCells([layers.LSTMCell(HIDDEN), layers.GRUCell(4)])
    return layers.RNN(cells, return_sequences=True, return_state=True)(x, mask=mask)


def _masked(layer: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: functional(lambda x, mask: layer()(x, mask=mask), X, MASK)


def rows() -> list[Row]:
    """All rows."""
    found = []
    for cell in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        name = cell.__name__.lower()
        found += [
            Row(f"{name}-states", _masked(lambda c=cell: c(HIDDEN, **BOTH)), (X, MASK)),
            Row(f"{name}-backwards", _masked(lambda c=cell: c(HIDDEN, go_backwards=True, **BOTH)), (X, MASK)),
            Row(f"{name}-bidirectional", _masked(lambda c=cell: layers.Bidirectional(c(HIDDEN, **BOTH))), (X, MASK)),
            Row(f"{name}-no-bias", _masked(lambda c=cell: c(HIDDEN, use_bias=False)), (X, MASK)),
        ]
    return [
        *found,
        Row("tagger", tagger, (IDS,), True),
        Row("time-major", lambda: functional(_time_major, X), (X,)),
        Row("stacked", lambda: functional(_stacked, X, MASK), (X, MASK)),
        Row("unrolled", lambda: functional(layers.LSTM(HIDDEN, unroll=True), STEPS), (STEPS,)),
        Row("zero-output", _masked(lambda: layers.GRU(HIDDEN, zero_output_for_mask=True, **BOTH)), (X, MASK)),
        Row("float64", lambda: functional(layers.LSTM(HIDDEN, dtype="float64"), X), (X,)),
        Row("subclassed", Subclassed, (X, LENGTHS)),
    ]

"""More Keras 3 models as users write them: masks through other layers, activations, ways to build and to call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import keras
import tensorflow as tf
from keras import ops

from seqport.exporters import Input
from support.keras_models import FEATURES, HIDDEN, IDS, LENGTHS, MASK, VOCABULARY, Row, X, functional

layers: Any = keras.layers
TAGS = Input("tags", ("batch", "seq"), "int64")
TARGET = Input("y", ("batch", "out_seq"), "int64")
DOCUMENTS = Input("documents", ("batch", "sentences", "words"), "int64")
STEPS = Input("x", ("batch", 7, FEATURES))


def embedded(ids: Any, mask_zero: bool = True) -> Any:
    return layers.Embedding(VOCABULARY, FEATURES, mask_zero=mask_zero)(ids)


class Scale(keras.layers.Layer):
    """A user's layer with a weight, which lets masks through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x: Any) -> Any:
        return x * self.weight


class NonZero(keras.layers.Layer):
    """A user's layer that computes the mask."""

    def compute_mask(self, x: Any, previous: Any = None) -> Any:  # noqa: ARG002
        return ops.any(ops.greater(x, -0.5), axis=-1)

    def call(self, x: Any) -> Any:
        return x + 0.0


class Tied(keras.layers.Layer):
    """Scores by the rows of an embedding."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


class MinimalCell(keras.layers.Layer):
    """The cell that Keras's own documentation teaches to write."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="uniform")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), initializer="uniform")

    def call(self, inputs: Any, states: Any) -> Any:
        output = ops.tanh(inputs @ self.kernel + states[0] @ self.recurrent_kernel)
        return output, [output]


class LastValid(keras.Model):
    """Takes each row's output at its last step, and the mean of the valid ones."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = layers.GRU(HIDDEN, return_sequences=True)

    def call(self, x: Any, lengths: Any) -> Any:
        mask = tf.sequence_mask(lengths, maxlen=tf.shape(x)[1])
        y = self.recurrent(x, mask=mask)
        mean = tf.reduce_sum(tf.where(mask[..., None], y, 0.0), 1) / tf.cast(lengths, tf.float32)[:, None]
        return {"last": tf.gather(y, lengths - 1, axis=1, batch_dims=1), "mean": mean}


class Decorated(keras.Model):
    """A call that is a tf.function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = layers.LSTM(HIDDEN, return_sequences=True)

    @tf.function
    def call(self, x: Any) -> Any:
        return self.recurrent(x)


def _attention(query_from_state: bool) -> Callable[[Any], Any]:
    def run(ids: Any) -> Any:
        y, h, _ = layers.LSTM(HIDDEN, return_sequences=True, return_state=True)(embedded(ids))
        if query_from_state:
            return layers.Flatten()(layers.AdditiveAttention()([layers.Reshape((1, HIDDEN))(h), y]))
        return layers.GRU(HIDDEN)(layers.MultiHeadAttention(2, 4)(y, y))

    return run


def _sequence_to_sequence(ids: Any, target: Any) -> Any:
    encoder = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, return_state=True))
    encoded, *states = encoder(embedded(ids))
    h, c = (layers.Concatenate()([states[i], states[i + 2]]) for i in range(2))
    decoded = layers.LSTM(2 * HIDDEN, return_sequences=True)(embedded(target), initial_state=[h, c])
    return layers.Dense(3)(layers.Concatenate()([decoded, layers.Attention()([decoded, encoded])]))


def _hierarchical(documents: Any) -> Any:
    words = keras.Input((None,), dtype="int64")
    sentence = keras.Model(words, layers.LSTM(HIDDEN)(embedded(words)))
    return layers.Bidirectional(layers.GRU(HIDDEN))(layers.TimeDistributed(sentence)(documents))


def _nested(ids: Any) -> Any:
    embedding = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)
    inner = keras.Sequential([embedding, layers.GRU(4, return_sequences=True)])
    return keras.Sequential([layers.LSTM(HIDDEN), layers.Dense(2)])(inner(ids))


def _lambda(ids: Any) -> Any:
    double: Any = layers.Lambda(lambda x: x * 2, mask=lambda _, mask: mask)
    return layers.GRU(HIDDEN)(double(embedded(ids)))


def _concatenated(ids: Any, tags: Any) -> Any:
    return layers.LSTM(HIDDEN)(layers.Concatenate()([embedded(ids), embedded(tags)]))


def _stacked_both_ways(x: Any, mask: Any) -> Any:
    layer = layers.RNN([layers.LSTMCell(HIDDEN), layers.GRUCell(4)], return_sequences=True)
    return layers.Bidirectional(layer)(x, mask=mask)


def _time_major(x: Any) -> Any:
    by_row = layers.LSTM(4, return_sequences=True)(ops.transpose(x, (1, 0, 2)))
    return ops.transpose(by_row, (1, 0, 2))


def _normalized(x: Any) -> Any:
    return layers.LSTM(HIDDEN)(layers.Normalization(mean=[0.1] * FEATURES, variance=[2.0] * FEATURES)(x))


def _unrolled(x: Any, mask: Any) -> Any:
    return layers.LSTM(4, unroll=True, return_sequences=True)(x, mask=mask)


def _tied(ids: Any) -> Any:
    embedding = layers.Embedding(VOCABULARY, HIDDEN, mask_zero=True)
    return Tied(embedding)(layers.LSTM(HIDDEN, return_sequences=True)(embedding(ids)))


def _residual(ids: Any) -> Any:
    x = embedded(ids)
    y = layers.LSTM(FEATURES, return_sequences=True)(layers.Dense(FEATURES, activation="gelu")(x))
    return layers.GRU(HIDDEN)(layers.LayerNormalization()(layers.Add()([x, y])))


def _pooled(ids: Any) -> Any:
    y = layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True))(embedded(ids))
    return layers.Concatenate()([layers.GlobalAveragePooling1D()(y), layers.GlobalMaxPooling1D()(y)])


def _many_outputs(ids: Any) -> Any:
    y = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), merge_mode=None)(embedded(ids))
    return [layers.Dense(3)(y[0]), {"pooled": layers.GlobalAveragePooling1D()(y[1])}]


def _different_directions(x: Any, mask: Any) -> Any:
    backward = layers.GRU(4, go_backwards=True, return_sequences=True)
    return layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), backward_layer=backward)(x, mask=mask)


# Name, body and inputs of Functional models.
_FUNCTIONAL: tuple[tuple[str, Callable[..., Any], tuple[Input, ...]], ...] = (
    ("mask-layer-norm", lambda i: layers.LSTM(HIDDEN)(layers.LayerNormalization()(embedded(i))), (IDS,)),
    ("mask-concatenate", _concatenated, (IDS, TAGS)),
    ("mask-add", lambda i, t: layers.GRU(HIDDEN)(layers.Add()([embedded(i), embedded(t)])), (IDS, TAGS)),
    ("mask-residual", _residual, (IDS,)),
    ("mask-own-layer", lambda i: layers.LSTM(HIDDEN)(Scale()(embedded(i))), (IDS,)),
    ("mask-own-compute", lambda x: layers.LSTM(HIDDEN)(NonZero()(x)), (X,)),
    ("mask-lambda", _lambda, (IDS,)),
    ("mask-dropped-by-conv", lambda i: layers.LSTM(HIDDEN)(layers.Conv1D(4, 3, padding="same")(embedded(i))), (IDS,)),
    ("mask-batch-norm", lambda i: layers.GRU(HIDDEN)(layers.BatchNormalization()(embedded(i))), (IDS,)),
    ("mask-pooled", _pooled, (IDS,)),
    ("attention-by-state", _attention(True), (IDS,)),
    ("attention-heads", _attention(False), (IDS,)),
    ("sequence-to-sequence", _sequence_to_sequence, (IDS, TARGET)),
    ("hierarchical", _hierarchical, (DOCUMENTS,)),
    ("nested-models", _nested, (IDS,)),
    ("tied", _tied, (IDS,)),
    ("many-outputs", _many_outputs, (IDS,)),
    ("different-directions", _different_directions, (X, MASK)),
    ("stacked-both-ways", _stacked_both_ways, (X, MASK)),
    ("minimal-cell", lambda x, m: layers.RNN(MinimalCell(HIDDEN), return_sequences=True)(x, mask=m), (X, MASK)),
    ("time-major", _time_major, (Input("x", ("seq", "batch", FEATURES)),)),
    ("normalized", _normalized, (X,)),
    ("unrolled-mask", _unrolled, (STEPS, Input("mask", ("batch", 7), "bool"))),
)

_ACTIVATIONS: dict[str, Any] = {
    "leaky-relu": "leaky_relu",
    "celu": "celu",
    "layer": layers.LeakyReLU(0.1),
    "lambda": lambda x: ops.tanh(x),
    "scaled-tanh": lambda x: 1.7159 * tf.tanh(x * 2 / 3),
    "partial": functools.partial(keras.activations.elu, alpha=0.7),
    "tensorflow": tf.nn.relu,
}


def rows() -> list[Row]:
    """All rows."""
    found = [Row(name, lambda r=run, i=inputs: functional(r, *i), inputs) for name, run, inputs in _FUNCTIONAL]
    for name, activation in _ACTIVATIONS.items():

        def run(x: Any, mask: Any, a: Any = activation) -> Any:
            layer = layers.GRU(
                HIDDEN, activation=cast(Any, a), recurrent_activation="hard_sigmoid", return_sequences=True
            )
            return layer(x, mask=mask)

        found.append(Row(f"activation-{name}", lambda r=run: functional(r, X, MASK), (X, MASK)))
    return [
        *found,
        Row("last-valid", LastValid, (X, LENGTHS)),
        Row("decorated", Decorated, (X,)),
    ]

"""Keras 3 models as users write them; none of them is built by seqport. One row a way of writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from seqport.exporters import Input

# Few ids, so that a random batch has zeros (masked by mask_zero) left, right, between, and whole rows of them.
VOCABULARY, FEATURES, HIDDEN = 3, 6, 5

IDS = Input("ids", ("batch", "seq"), "int64")
X = Input("x", ("batch", "seq", FEATURES))
LENGTHS = Input("lengths", ("batch",), "int64")
MASK = Input("mask", ("batch", "seq"), "bool")
H_0, C_0 = Input("h_0", ("batch", HIDDEN)), Input("c_0", ("batch", HIDDEN))

CELLS: dict[str, Callable[..., Any]] = {
    "rnn": layers.SimpleRNN,
    "rnn-relu": lambda *a, **k: layers.SimpleRNN(*a, activation="relu", **k),
    "gru": layers.GRU,
    "gru-reset-before": lambda *a, **k: layers.GRU(*a, reset_after=False, **k),
    "lstm": layers.LSTM,
    "lstm-hard": lambda *a, **k: layers.LSTM(*a, recurrent_activation="hard_sigmoid", **k),
}


@dataclass(frozen=True)
class Row:
    """One model: how to make it, and the inputs it is exported with (None: it knows them itself)."""

    name: str
    make: Callable[[], keras.Model]
    inputs: tuple[Input, ...]
    declared: bool = False


class LengthsMask(layers.Layer):
    """Lengths [batch] as a mask [batch, seq]."""

    def call(self, x: Any, lengths: Any) -> Any:
        shape: Any = ops.shape(x)
        steps: Any = ops.arange(shape[1], dtype=lengths.dtype)
        return steps < ops.expand_dims(lengths, 1)


class Flip(layers.Layer):
    """The steps in reverse."""

    def call(self, x: Any) -> Any:
        return ops.flip(x, axis=1)


def symbolic(item: Input) -> Any:
    return keras.Input([None if isinstance(a, str) else a for a in item.axes[1:]], dtype=item.dtype, name=item.name)


def functional(run: Callable[..., Any], *items: Input) -> keras.Model:
    """A Functional model whose body is a function of its symbolic inputs."""
    tensors = [symbolic(item) for item in items]
    return keras.Model(tensors, run(*tensors))


class Subclassed(keras.Model):
    """Layers made in __init__, called in call."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = layers.Embedding(VOCABULARY, FEATURES)
        self.mask = LengthsMask()
        self.first = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True))
        self.second = layers.GRU(HIDDEN)
        self.head = layers.Dense(4, activation="softmax")

    def call(self, ids: Any, lengths: Any) -> Any:
        mask = self.mask(ids, lengths)
        return self.head(self.second(self.first(self.embedding(ids), mask=mask), mask=mask))


class SubclassedWithMask(keras.Model):
    """A mask by Keras's own name."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True
        self.recurrent = layers.LSTM(HIDDEN, return_sequences=True)

    def call(self, x: Any, mask: Any = None) -> Any:
        return self.recurrent(x, mask=mask)


class Nested(layers.Layer):
    """A recurrent layer inside a user's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = layers.GRU(HIDDEN, return_sequences=True)
        self.norm = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        return self.norm(self.recurrent(x, mask=mask))


def _masked(layer: Callable[[], Any]) -> keras.Model:
    return functional(lambda ids: layer()(layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)), IDS)


def _with_mask(layer: Callable[[], Any]) -> keras.Model:
    return functional(lambda x, mask: layer()(x, mask=mask), X, MASK)


def _with_lengths(layer: Callable[[], Any]) -> keras.Model:
    return functional(lambda x, lengths: layer()(x, mask=LengthsMask()(x, lengths)), X, LENGTHS)


def _with_states(cell: Callable[..., Any], two: bool) -> keras.Model:
    def run(x: Any, mask: Any, *states: Any) -> Any:
        layer = cell(HIDDEN, return_sequences=True, return_state=True)
        return layer(x, mask=mask, initial_state=list(states))

    return functional(run, X, MASK, H_0, *([C_0] if two else []))


def _bidirectional_states() -> keras.Model:
    def run(x: Any, mask: Any, h_0: Any, c_0: Any) -> Any:
        layer = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, return_state=True))
        y, *states = layer(x, mask=mask, initial_state=[h_0, c_0, c_0, h_0])
        return {"y": y, "states": states}

    return functional(run, X, MASK, H_0, C_0)


def _encoder_decoder() -> keras.Model:
    def run(ids: Any, y: Any) -> Any:
        embedded = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
        _, h, c = layers.LSTM(HIDDEN, return_state=True)(embedded)
        return layers.Dense(3)(layers.LSTM(HIDDEN, return_sequences=True)(y, initial_state=[h, c]))

    return functional(run, IDS, Input("y", ("batch", "out_seq", FEATURES)))


def _shared() -> keras.Model:
    def run(x: Any, mask: Any) -> Any:
        layer = layers.GRU(FEATURES, return_sequences=True)
        return layer(layer(x, mask=mask), mask=mask)

    return functional(run, X, MASK)


def _pooled() -> keras.Model:
    def run(ids: Any) -> Any:
        x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
        return layers.GlobalAveragePooling1D()(layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True))(x))

    return functional(run, IDS)


def _stack_of_everything() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int64", name="ids"),
            layers.Embedding(VOCABULARY, FEATURES, mask_zero=True),
            layers.SpatialDropout1D(0.3),
            layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, dropout=0.2)),
            layers.TimeDistributed(layers.Dense(FEATURES, activation="relu")),
            layers.GRU(HIDDEN, return_sequences=True, go_backwards=True),
            layers.SimpleRNN(HIDDEN),
            layers.Dense(2),
        ]
    )


def _masking() -> keras.Model:
    return keras.Sequential(
        [keras.Input((None, FEATURES), name="x"), layers.Masking(-1.0), layers.LSTM(HIDDEN, return_sequences=True)]
    )


def _stacked_cells(backwards: bool) -> keras.Model:
    def run(x: Any, mask: Any) -> Any:
        cells = [layers.LSTMCell(HIDDEN), layers.GRUCell(4), layers.SimpleRNNCell(HIDDEN)]
        layer = layers.RNN(cells, return_sequences=True, return_state=True, go_backwards=backwards)
        y, *states = layer(x, mask=mask)
        return {"y": y, "states": states}

    return functional(run, X, MASK)


def _of_precision(dtype: str) -> keras.Model:
    def run(x: Any, mask: Any) -> Any:
        layer = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, dtype=dtype), dtype=dtype)
        return layers.Dense(3, dtype=dtype)(layer(x, mask=mask))

    return functional(run, X, MASK)


def _unrolled() -> keras.Model:
    tensor = keras.Input((9, FEATURES), name="x")
    return keras.Model(tensor, layers.GRU(HIDDEN, unroll=True, return_sequences=True)(tensor))


def rows() -> list[Row]:
    """All rows."""
    found: list[Row] = []
    for name, cell in CELLS.items():
        for options in (
            {},
            {"return_sequences": True},
            {"return_sequences": True, "return_state": True},
            {"go_backwards": True},
            {"go_backwards": True, "return_sequences": True, "return_state": True},
            {"return_sequences": True, "zero_output_for_mask": True},
            {"zero_output_for_mask": True},
            {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True},
        ):
            if len(options) > 1 and name in ("rnn-relu", "lstm-hard"):
                continue  # the cell differs, not what is around it
            label = "-".join([name, *options])

            def make(c: Any = cell, o: Any = options) -> Any:
                return c(HIDDEN, **o)

            found.append(Row(f"mask-{label}", lambda m=make: _with_mask(m), (X, MASK)))
            found.append(Row(f"lengths-{label}", lambda m=make: _with_lengths(m), (X, LENGTHS)))
        found.append(
            Row(f"{name}-no-mask", lambda c=cell: functional(lambda x: c(HIDDEN, return_sequences=True)(x), X), (X,))
        )
        found.append(Row(f"{name}-no-bias", lambda c=cell: _masked(lambda: c(HIDDEN, use_bias=False)), (IDS,), True))
        found.append(
            Row(
                f"{name}-states",
                lambda c=cell, n=name: _with_states(c, n.startswith("lstm")),
                (X, MASK, H_0, C_0) if name.startswith("lstm") else (X, MASK, H_0),
            )
        )
    for merge in ("concat", "sum", "mul", "ave", None):
        for sequences in (True, False):

            def bidirectional(m: Any = merge, s: bool = sequences) -> Any:
                return layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=s), merge_mode=m)

            found.append(Row(f"merge-{merge}-{sequences}", lambda b=bidirectional: _masked(b), (IDS,)))
    return [
        *found,
        Row("bidirectional-states", _bidirectional_states, (X, MASK, H_0, C_0)),
        Row("encoder-decoder", _encoder_decoder, (IDS, Input("y", ("batch", "out_seq", FEATURES)))),
        Row("shared", _shared, (X, MASK)),
        Row("pooled", _pooled, (IDS,), True),
        Row("stack", _stack_of_everything, (IDS,), True),
        Row("masking", _masking, (X,), True),
        Row("stacked-cells", lambda: _stacked_cells(False), (X, MASK)),
        Row("stacked-cells-backwards", lambda: _stacked_cells(True), (X, MASK)),
        Row("float64", lambda: _of_precision("float64"), (X, MASK)),
        Row("unrolled", _unrolled, (Input("x", ("batch", 9, FEATURES)),)),
        Row("subclassed", Subclassed, (IDS, LENGTHS)),
        Row("subclassed-with-mask", SubclassedWithMask, (X, MASK)),
        Row("nested", lambda: _masked(Nested), (IDS,)),
        Row(
            "rnn-over-cell", lambda: _masked(lambda: layers.RNN(layers.LSTMCell(HIDDEN), return_sequences=True)), (IDS,)
        ),
        Row(
            "user-flip",
            lambda: functional(
                lambda x: layers.LSTM(HIDDEN)(Flip()(layers.GRU(HIDDEN, return_sequences=True, go_backwards=True)(x))),
                X,
            ),
            (X,),
        ),
    ]

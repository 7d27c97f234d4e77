"""What cannot be exported natively from Keras is refused with the layer's own name, the cause and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras import layers
from keras.src import ops as keras_ops
from support.keras_models import FEATURES, HIDDEN, IDS, LENGTHS, MASK, Subclassed, X, functional

from seqport.exporters import ExportError, Input, InputsError, export
from seqport.runtime import read_description


class DoublingCell(layers.Layer):
    """A cell that no native operator computes."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size = FEATURES

    def call(self, inputs: Any, states: Any) -> Any:
        h = inputs + 2 * states[0]
        return h, [h]


class Python(layers.Layer):
    """A layer that runs Python while the model runs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return tf.ensure_shape(self.function(lambda a: a, [x], x.dtype), x.shape)


def _custom_cell() -> keras.Model:
    return functional(lambda x: layers.RNN(DoublingCell(), name="doubling")(x), X)


def _activation() -> keras.Model:
    return functional(lambda x: layers.LSTM(HIDDEN, activation="gelu", name="odd")(x), X)


def _own_tanh() -> keras.Model:
    def tanh(x: Any) -> Any:
        return x * tf.tanh(x)

    return functional(lambda x: layers.GRU(HIDDEN, activation=cast(Any, tanh), name="mine")(x), X)


def _hashed() -> keras.Model:
    def run(x: Any) -> Any:
        ids = layers.Hashing(4, name="buckets")(layers.Lambda(lambda y: tf.cast(y[..., 0], tf.int64))(x))
        return layers.GRU(HIDDEN)(layers.Embedding(4, FEATURES)(ids))

    return functional(run, X)


def _python(function: Any) -> keras.Model:
    return functional(lambda x: layers.GRU(HIDDEN)(Python(function)(x)), X)


CASES: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "a custom cell": (_custom_cell, "doubling: runs the cell DoublingCell, .*use keras.layers.SimpleRNN, GRU or LSTM"),
    "an activation": (_activation, "odd: has the activation gelu, which ONNX's .*use one of tanh, sigmoid"),
    "a function named tanh": (_own_tanh, "mine: has the activation tanh, which ONNX's"),
    "a py_function": (
        lambda: _python(tf.py_function),
        "translate the TensorFlow operation EagerPyFunc: replace",
    ),
    "a hash": (_hashed, r"operation StringToHashBucketFast: hash before the model, and pass the ids \(.*buckets"),
    "a numpy_function": (lambda: _python(tf.numpy_function), "translate the TensorFlow operation PyFunc: replace"),
}


@pytest.mark.parametrize("name", CASES)
def test_refusal_names_layer_cause_and_remedy(name: str, tmp_path: Path) -> None:
    make, message = CASES[name]
    with pytest.raises(ExportError, match=f"(?s){message}"):
        export(make(), tmp_path / "m.onnx", [X])
    assert not list(tmp_path.iterdir())


def test_softplus_inside_a_layer_is_refused_where_it_overflows(tmp_path: Path) -> None:
    """ONNX Runtime computes log(1 + exp(x)) as it stands there; values that stay small may be said to."""
    keras.utils.set_random_seed(0)
    model = functional(lambda x: layers.LSTM(HIDDEN, activation="softplus")(x), X)
    with pytest.raises(ExportError, match=r"differs from the model's own by .* at values 30 to 1000 times as large"):
        export(model, tmp_path / "m.onnx", [X])
    small = {"x": np.linspace(-3, 3, 30, dtype=np.float32).reshape(-1, 1, FEATURES)}
    assert export(model, tmp_path / "m.onnx", [X], example=small).path.exists()


def test_not_strict_keeps_the_loop_and_records_it(tmp_path: Path) -> None:
    artifact = export(_custom_cell(), tmp_path / "m.onnx", [X], strict=False)
    assert "runs the cell DoublingCell" in read_description(artifact.path).breaks[0]
    assert {"Loop", "Scan"} & {node.op_type for node in onnx.load(artifact.path).graph.node}


def test_inputs_that_the_model_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"the model 'subclassed.*' does not declare its own"):
        export(Subclassed(), tmp_path / "m.onnx")


def test_another_number_of_inputs(tmp_path: Path) -> None:
    model = functional(lambda x, mask: layers.GRU(HIDDEN)(x, mask=mask), X, MASK)
    with pytest.raises(InputsError, match=r"inputs names 1 inputs \(x\); the model takes x, mask"):
        export(model, tmp_path / "m.onnx", [X])


def test_another_number_of_outputs(tmp_path: Path) -> None:
    model = functional(lambda x: layers.GRU(HIDDEN)(x), X)
    with pytest.raises(InputsError, match=r"outputs names 2 outputs \['a', 'b'\], and the model gives 1"):
        export(model, tmp_path / "m.onnx", outputs=["a", "b"])


def test_declared_inputs_have_axes_of_their_own(tmp_path: Path) -> None:
    def run(query: Any, document: Any, lengths: Any) -> Any:
        return layers.GRU(HIDDEN)(query) + layers.GRU(HIDDEN)(document) * lengths[:, None]

    def named(name: str) -> Input:
        return Input(name, ("batch", "seq", FEATURES))

    model = functional(run, named("query"), named("document"), Input("lengths", ("batch",)))
    description = export(model, tmp_path / "m.onnx").description
    assert [t.axes for t in description.inputs] == [
        ("batch", "query_seq", FEATURES),
        ("batch", "document_seq", FEATURES),
        ("batch",),
    ]


def test_keras_layers_are_their_own_again(tmp_path: Path) -> None:
    before = (layers.LSTM.inner_loop, layers.GRU.inner_loop, layers.TimeDistributed.call, keras_ops.flip)
    export(functional(lambda x: layers.Bidirectional(layers.LSTM(HIDDEN))(x), X), tmp_path / "m.onnx")
    after = (layers.LSTM.inner_loop, layers.GRU.inner_loop, layers.TimeDistributed.call, keras_ops.flip)
    assert before == after
    assert "inner_loop" not in vars(layers.SimpleRNN)


def test_the_same_model_exports_to_the_same_bytes(tmp_path: Path) -> None:
    model = Subclassed()
    first = export(model, tmp_path / "a.onnx", [IDS, LENGTHS]).path.read_bytes()
    assert export(model, tmp_path / "b.onnx", [IDS, LENGTHS]).path.read_bytes() == first


def test_lengths_behind_a_mask_reach_the_native_node_without_a_sort(tmp_path: Path) -> None:
    artifact = export(Subclassed(), tmp_path / "m.onnx", [IDS, LENGTHS])
    assert [layer.lengths for layer in artifact.description.recurrent] == ["lengths"] * 3
    assert "TopK" not in {node.op_type for node in onnx.load(artifact.path).graph.node}


def test_the_value_that_masking_takes_for_padding_is_recorded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, FEATURES), name="x"), layers.Masking(-1.0), layers.GRU(HIDDEN)])
    (sequence,) = export(model, tmp_path / "m.onnx").description.sequences
    assert (sequence.lengths, sequence.padding_value) == (None, -1.0)
    from seqport.runtime import Session

    session = Session(tmp_path / "m.onnx", provider="cpu")
    random = np.random.default_rng(0)
    rows = [random.standard_normal((n, FEATURES)).astype(np.float32) for n in (5, 1, 3)]
    for row, found in zip(rows, session.predict(rows), strict=True):
        np.testing.assert_allclose(found["output"], session.run({"x": row[None]})["output"][0], atol=1e-6)


class Long(layers.Layer):
    """Half as much, of more than 100 steps: a trace of any number of steps sees no number."""

    def call(self, x):
        return x * 0.5 if x.shape[1] is not None and x.shape[1] > 100 else x


def test_a_branch_on_steps_that_a_trace_does_not_know_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((None, FEATURES), name="x"), layers.GRU(HIDDEN, return_sequences=True), Long()]
    )
    with pytest.raises(ExportError, match=r"seq=101, next to where test_refusals_keras\.py"):
        export(model, tmp_path / "m.onnx")

"""Live tf_keras models: native nodes, exact for any mask, and tf_keras's own answers at shapes never traced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from support.checks import SHAPES, assert_contract, assert_same, draw, native_nodes, run_file
from support.keras_models import FEATURES, HIDDEN, MASK, VOCABULARY, Row, X
from support.tf_keras_rows import functional, rows

from seqport.exporters import ExportError, Input, export
from seqport.exporters.arrangement import Arrangement
from seqport.exporters.frontends.keras.call import callers, flatten_outputs

ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_exported_model_gives_tf_keras_answers(row: Row, tmp_path: Path) -> None:
    tf_keras.utils.set_random_seed(0)
    model: Any = row.make()
    call = callers(model, Arrangement(row.inputs))[0]
    if model.built:
        random = np.random.default_rng(0)
        model.set_weights([w + 0.1 * random.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    path = tmp_path / "model.onnx"
    artifact = export(model, path, None if row.declared else row.inputs)
    assert_contract(path, row.inputs)
    assert native_nodes(path)
    assert artifact.description.source["framework"] == "tf_keras"
    for shape in SHAPES:
        arrays = draw(row.inputs, shape, vocabulary=VOCABULARY)
        _, expected = flatten_outputs(call([tf.constant(arrays[item.name]) for item in row.inputs]))
        found = list(run_file(path, arrays).values())
        assert_same(found, [np.asarray(leaf) for leaf in expected], f"{row.name} at {shape}")


def test_a_kept_state_becomes_an_input_and_an_output(tmp_path: Path) -> None:
    layer = tf_keras.layers.GRU(HIDDEN, stateful=True, return_sequences=True, name="kept")
    steps = tf_keras.layers.TimeDistributed(tf_keras.layers.Dense(2))
    model = tf_keras.Sequential([tf_keras.Input(batch_shape=(3, None, FEATURES), name="x"), layer, steps])
    artifact = export(model, tmp_path / "m.onnx")
    assert [t.axes for t in artifact.description.inputs] == [(3, "seq", FEATURES), (3, HIDDEN)]
    assert [t.name for t in artifact.description.outputs] == ["output", "kept_h_T"]
    assert layer.stateful
    state, random = np.zeros((3, HIDDEN), np.float32), np.random.default_rng(0)
    model.reset_states()
    for count in (5, 1, 3):
        x = random.standard_normal((3, count, FEATURES)).astype(np.float32)
        found = run_file(artifact.path, {"x": x, "kept_h_0": state})
        state = found["kept_h_T"]
        assert_same([found["output"]], [np.asarray(model(x))], f"after {count} more steps")


class Squared(tf_keras.layers.Layer):
    """A cell that no native operator computes."""

    state_size = FEATURES

    def call(self, inputs: Any, states: Any) -> Any:
        h = inputs * states[0] + 1
        return h, [h]


def test_a_cell_of_another_kind_is_refused(tmp_path: Path) -> None:
    model = functional(lambda x, mask: tf_keras.layers.RNN(Squared(), name="mine")(x, mask=mask), X, MASK)
    with pytest.raises(ExportError, match=r"mine: runs the cell Squared, which no native operator computes \(its new"):
        export(model, tmp_path / "m.onnx")


def test_a_function_that_was_traced_before_is_left_as_it_was(tmp_path: Path) -> None:
    model = functional(tf_keras.layers.LSTM(HIDDEN), X)
    function = tf.function(lambda x: {"y": model(x)})
    x = tf.ones((2, 3, FEATURES))
    before = function(x)["y"].numpy()
    artifact = export(function, tmp_path / "m.onnx", [Input("x", ("batch", "seq", FEATURES))])
    np.testing.assert_allclose(run_file(artifact.path, {"x": x.numpy()})["y"], before, atol=1e-6)
    np.testing.assert_allclose(function(tf.ones((4, 5, FEATURES)))["y"].shape, (4, HIDDEN))

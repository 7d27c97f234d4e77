"""Any user's Keras model: native nodes, exact for any mask, and Keras's own answers at shapes never traced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import keras_models, keras_rows
from support.checks import SHAPES, assert_contract, assert_same, draw, native_nodes, run_file
from support.keras_models import MASK, VOCABULARY, Row, X, functional

from seqport.exporters import Input, export
from seqport.exporters.arrangement import Arrangement
from seqport.exporters.frontends.keras.call import callers, flatten_outputs

# Keras warns, rightly, where a layer loses a mask and of attention over a single step; users write such models.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*will therefore destroy the mask information"),
    pytest.mark.filterwarnings(r"ignore:[\s\S]*You are using a softmax over axis -1"),
]
ROWS = [*keras_models.rows(), *keras_rows.rows()]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_exported_model_gives_keras_answers(row: Row, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = row.make()
    call = callers(model, Arrangement(row.inputs))[0]
    if model.built:
        _disturb(model)  # zero biases would hide a bias in the wrong place
    path = tmp_path / "model.onnx"
    artifact = export(model, path, None if row.declared else row.inputs)
    assert_contract(path, row.inputs)
    assert native_nodes(path)
    assert artifact.description.convention == "keras"
    for shape in SHAPES:
        arrays = draw(row.inputs, shape, vocabulary=VOCABULARY)
        _, expected = flatten_outputs(call([tf.constant(arrays[item.name]) for item in row.inputs]))
        found = list(run_file(path, arrays).values())
        assert_same(found, [np.asarray(leaf) for leaf in expected], f"{row.name} at {shape}")


def _disturb(model: keras.Model) -> None:
    random = np.random.default_rng(0)
    model.set_weights([w + 0.1 * random.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])


def test_a_kept_state_becomes_an_input_and_an_output(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    layer = keras.layers.LSTM(4, stateful=True, return_sequences=True, name="kept")
    model = keras.Sequential([keras.Input(batch_shape=(3, None, 6), name="x"), layer])
    path = tmp_path / "model.onnx"
    artifact = export(model, path, [Input("x", (3, "seq", 6))], outputs=["y"])  # Keras fixes its batch
    assert [t.name for t in artifact.description.inputs] == ["x", "kept_h_0", "kept_c_0"]
    assert [t.name for t in artifact.description.outputs] == ["y", "kept_h_T", "kept_c_T"]
    assert [(s.input, s.output) for s in artifact.description.states] == [
        ("kept_h_0", "kept_h_T"),
        ("kept_c_0", "kept_c_T"),
    ]
    assert layer.stateful
    random = np.random.default_rng(0)
    state = {"kept_h_0": np.zeros((3, 4), np.float32), "kept_c_0": np.zeros((3, 4), np.float32)}
    for steps in (5, 1, 3):
        x = random.standard_normal((3, steps, 6)).astype(np.float32)
        found = run_file(path, {"x": x, **state})
        state = {"kept_h_0": found["kept_h_T"], "kept_c_0": found["kept_c_T"]}
        assert_same([found["y"]], [np.asarray(model(x))], f"after {steps} more steps")


def test_a_choice_keeps_nan_out_of_the_branch_not_taken(tmp_path: Path) -> None:
    def run(x: Any, mask: Any) -> Any:
        kept = keras.ops.where(keras.ops.expand_dims(mask, -1), x, 0.0)
        return keras.layers.GRU(4)(x, mask=mask), keras.ops.sum(kept, axis=1)

    path = export(functional(run, X, MASK), tmp_path / "m.onnx").path
    x = np.ones((2, 3, 6), np.float32)
    x[0, 1:] = np.nan
    found = run_file(path, {"x": x, "mask": np.array([[True, False, False], [True, True, True]])})
    assert all(np.isfinite(array).all() for array in found.values())


class TakesOne(keras.Model):
    """A subclassed model whose first argument holds all inputs."""

    def __init__(self, pick: Any) -> None:
        super().__init__()
        self.recurrent = keras.layers.GRU(4)
        self.pick = pick

    def call(self, inputs: Any, scale: float = 2.0) -> Any:
        x, mask = self.pick(inputs)
        return self.recurrent(x, mask=mask) * scale


@pytest.mark.parametrize("pick", [lambda i: (i["x"], i["mask"]), lambda i: (i[0], i[1])], ids=["dict", "list"])
def test_a_subclassed_model_may_take_its_inputs_in_one(pick: Any, tmp_path: Path) -> None:
    artifact = export(TakesOne(pick), tmp_path / "m.onnx", [X, MASK])
    assert artifact.description.recurrent[0].lengths == "mask"
    layer = keras.layers.Dense(1)
    layer.build((1, 1))
    assert layer.path == layer.name, "an attempt that failed left its name scope open"


def test_outputs_in_bfloat16_are_given_in_float32(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    layer = keras.layers.LSTM(4, dtype="mixed_bfloat16", name="brief")
    model = functional(lambda x: layer(x), X)
    artifact = export(model, tmp_path / "m.onnx")
    assert artifact.description.outputs[0].dtype == "float32"
    assert artifact.description.notes == ("brief: computed in float32; the model computes it in bfloat16",)
    x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)
    expected = np.asarray(tf.cast(model([x]), tf.float32))
    np.testing.assert_allclose(run_file(artifact.path, {"x": x})["output"], expected, atol=0.02)

"""Variables that are too large for TensorFlow to freeze: the same answers, the same nodes, and no copy of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tensorflow as tf
from support import keras_models, keras_rows, tf_keras_rows
from support.checks import SHAPES, assert_contract, assert_same, draw, run_file
from support.keras_models import VOCABULARY, Row

from seqport.exporters import Input, export
from seqport.exporters.frontends.tensorflow import freeze

# Bytes that leave the biases in the graph, and nothing else.
BIASES = 100
ROWS = {row.name: row for row in [*keras_models.rows(), *keras_rows.rows()]}
# With as many bytes as leave the biases in the graph, and nothing else.
LIMITS = {"merge-concat-True": 400, "minimal-cell": 0, "encoder-decoder": 300, "many-outputs": 300}
LEGACY_ROWS = {row.name: row for row in tf_keras_rows.rows()}
LEGACY_LIMITS = {"tagger": 400, "time-major": 0}
V1 = {
    "flat/v1/large": [["LSTM", "forward", "lengths"]],
    "hand_written/v2/large": [["RNN", "forward", "lengths"]],
    "residual/v1/large": [["GRU", "forward", "lengths"], ["LSTM", "forward", "lengths"]],
    "residual/v2/large": [["GRU", "forward", "lengths"], ["LSTM", "forward", "lengths"]],
}


@pytest.fixture
def kept_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors of the variables that were kept out of a graph."""
    names: list[str] = []
    original = freeze._with_placeholders

    def record(data: Any, places: Any, large: Any) -> Any:
        names.extend(large)
        return original(data, places, large)

    monkeypatch.setattr(freeze, "_with_placeholders", record)
    return names


def _assert_same_artifact(row: Row, limit: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export whose variables are too large for its graph is the export of the same model with smaller ones."""
    model, inputs, given = row.make(), row.inputs, None if row.declared else row.inputs
    frozen = export(model, folder / "frozen.onnx", given).path
    monkeypatch.setattr(freeze, "FROZEN_AT_MOST", limit)
    path = export(model, folder / "large.onnx", given).path
    again = export(model, folder / "again.onnx", given).path
    assert path.read_bytes() == again.read_bytes()
    assert_contract(path, inputs)
    assert _operators(path) == _operators(frozen)
    for shape in SHAPES:
        arrays = draw(inputs, shape, vocabulary=VOCABULARY)
        found, expected = (list(run_file(file, arrays).values()) for file in (path, frozen))
        assert_same(found, expected, f"{shape}")


def _operators(path: Path) -> list[str]:
    return sorted(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("name", LIMITS)
def test_keras_models_are_exported_as_with_smaller_weights(
    name: str, kept_out: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    _assert_same_artifact(ROWS[name], LIMITS[name], tmp_path, monkeypatch)
    assert len(kept_out) >= 4, "two variables in each of two exports"


@pytest.mark.parametrize("name", LEGACY_LIMITS)
def test_tf_keras_models_are_exported_as_with_smaller_weights(
    name: str, kept_out: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _assert_same_artifact(LEGACY_ROWS[name], LEGACY_LIMITS[name], tmp_path, monkeypatch)
    assert len(kept_out) >= 4


class Module(tf.Module):
    """A table, and a loop written by hand over its rows."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self.table = tf.Variable(tf.constant(random.standard_normal((VOCABULARY, 8)).astype(np.float32)))
        self.W = tf.Variable(tf.constant(0.3 * random.standard_normal((8 + 12, 12)).astype(np.float32)))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="ids")])
    def __call__(self, ids: Any) -> Any:
        size = tf.shape(ids)[1]

        def step(t: Any, h: Any, y: Any) -> Any:
            x = tf.gather(self.table, ids[:, t])  # looked up in the loop's own function
            h = tf.tanh(tf.matmul(tf.concat([x, h], 1), self.W))
            return t + 1, h, y.write(t, h)

        start = (0, tf.zeros([tf.shape(ids)[0], 12]), tf.TensorArray(tf.float32, size))
        shapes = (tf.TensorShape([]), tf.TensorShape([None, 12]), tf.TensorShape(None))  # type: ignore[arg-type] - any shape
        _, h, y = tf.while_loop(lambda t, *_: t < size, step, start, shape_invariants=shapes)
        return {"h": h, "y": tf.transpose(y.stack(), [1, 0, 2])}


@pytest.mark.parametrize("saved", [False, True], ids=["function", "saved"])
def test_tensorflow_models_are_exported_as_with_smaller_weights(
    saved: bool, kept_out: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model: Any = Module()
    if saved:
        tf.saved_model.save(model, str(tmp_path / "model"))
        model = tmp_path / "model"
    row = Row("module", lambda: model, (Input("ids", ("batch", "seq"), "int64"),))
    _assert_same_artifact(row, 0, tmp_path, monkeypatch)
    assert len(kept_out) == 4


def test_tf_1_graphs_are_exported_with_all_their_variables_outside(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "tensorflow_v1_graphs.py")
    done = subprocess.run([sys.executable, script, str(tmp_path), *V1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dict(zip(V1, map(json.loads, done.stdout.splitlines()), strict=True)) == V1


class Constants(keras.layers.Layer):
    """Reads a table that is no variable."""

    def build(self, shape: Any) -> None:
        size = shape[-1] * 64  # TensorFlow copies constants of up to 128 elements into the graph
        self.table = tf.reshape(tf.range(size, dtype=tf.float32) / size, (shape[-1], 64))

    def call(self, x: Any) -> Any:
        return tf.matmul(x, self.table)


@pytest.mark.parametrize("limit", [0, freeze.FROZEN_AT_MOST])
def test_a_constant_of_the_models_own_keeps_its_values(
    limit: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(freeze, "FROZEN_AT_MOST", limit)
    x = keras.Input((None, 6), name="x")
    model = keras.Model(x, keras.layers.LSTM(4)(Constants()(x)))
    path = export(model, tmp_path / "m.onnx").path
    arrays = {"x": np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)}
    assert_same(list(run_file(path, arrays).values()), [np.asarray(model(arrays["x"]))], "a constant table")


def test_the_largest_variables_stay_outside_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze, "FROZEN_AT_MOST", 100)
    values = {f"v{size}": tf.TensorSpec([size]) for size in (10, 20, 5, 30)}
    assert list(freeze._largest(values)) == ["v30", "v20"]
    assert not freeze._largest({"v25": tf.TensorSpec([25])})


def test_an_initializer_shares_the_variables_memory() -> None:
    variable = tf.Variable(tf.constant(np.ones((100, 100), np.float32)))
    value = ir.Value(name="v:0")
    graph = ir.Graph([value], [], nodes=[])
    freeze.keep_constants(graph, {"v:0": variable})
    assert not graph.inputs
    tensor = graph.initializers["v:0"].const_value
    assert tensor is not None
    assert np.shares_memory(tensor.numpy(), np.asarray(variable.read_value()))

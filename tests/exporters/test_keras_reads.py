"""What Keras and TensorFlow models may hold that an export must not read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import pytest
import tensorflow as tf
from keras import layers
from support.checks import run_file

from seqport.exporters import ExportError, Input, export
from seqport.exporters.frontends.tensorflow.branches import take_branches

X = Input("x", ("batch", "seq", 3))
FEED = {"x": np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)}


class OwnOutput(layers.LSTMCell):
    """Keras's step, with another output."""

    def _compute_carry_and_output_fused(self, z: Any, c_tm1: Any) -> Any:
        c, o = super()._compute_carry_and_output_fused(z, c_tm1)  # type: ignore[misc]
        return c, keras.ops.log1p(keras.ops.abs(o))


class OwnStart(layers.GRUCell):
    """Keras's step, from another state."""

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.ops.ones((batch_size, self.units))]


def _of(cell: Any) -> keras.Model:
    x = keras.Input((None, 3), name="x")
    return keras.Model(x, layers.RNN(cell, name="mine")(x))


def test_a_cell_with_a_method_of_its_own_is_not_keras_own(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="mine: runs the cell OwnOutput, which no native operator computes"):
        export(_of(OwnOutput(4)), tmp_path / "m.onnx")


def test_a_cell_that_starts_elsewhere_is_native(tmp_path: Path) -> None:
    model = _of(OwnStart(4))
    artifact = export(model, tmp_path / "m.onnx")
    assert [layer.op for layer in artifact.description.recurrent] == ["GRU"]
    np.testing.assert_allclose(run_file(artifact.path, FEED)["output"], model(FEED["x"]).numpy(), atol=1e-5)


def test_dropout_at_inference(tmp_path: Path) -> None:
    class Always(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.gru = layers.Dropout(0.5), layers.GRU(4)

        def call(self, x: Any) -> Any:
            return self.gru(self.dropout(x, training=True))

    with pytest.raises(ExportError, match=r"StatelessRandom.*: the model draws random numbers: switch that off"):
        export(Always(), tmp_path / "m.onnx", [X])


def test_a_model_whose_first_input_is_one_number(tmp_path: Path) -> None:
    class Scaled(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.gru = layers.GRU(4)

        def call(self, scale: Any, x: Any) -> Any:
            return self.gru(x) * scale

    model = Scaled()
    artifact = export(model, tmp_path / "m.onnx", [Input("scale", ()), X])
    feed = {"scale": np.array(2, np.float32), **FEED}
    expected = model(tf.constant(feed["scale"]), FEED["x"]).numpy()
    np.testing.assert_allclose(run_file(artifact.path, feed)["output"], expected, atol=1e-5)


@pytest.mark.parametrize(("test", "other", "stays"), [((), (), False), ((4, 1), (), True), ((1, 3), (1,), False)])
def test_a_choice_that_gives_its_input_another_shape_stays(
    test: tuple[int, ...], other: tuple[int, ...], stays: bool
) -> None:
    constants = [ir.tensor(np.ones(test, bool), name="test"), ir.tensor(np.zeros(other, np.float32), name="other")]
    c, o = (
        ir.Value(name=t.name, const_value=t, shape=ir.Shape([*t.shape.numpy()]), type=ir.TensorType(t.dtype))
        for t in constants
    )
    x = ir.Value(name="x", shape=ir.Shape([1, 3]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node("", "Where", [c, x, o], outputs=[ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT))])
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[c, o], opset_imports={"": 18})
    take_branches(ir.Model(graph, ir_version=9))
    assert any(node.op_type == "Where" for node in graph) == stays

"""Branches on sizes that Keras layers and functions of TensorFlow take in Python, where a trace sees no size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers, ops

from seqport.exporters import ExportError, Input, export

FEATURES = 6
X = Input("x", ("batch", "seq", FEATURES))
LIMIT = 1000

# How a user's code asks for the number of steps, or rows, and from which it is another model.
BRANCHES: dict[str, Callable[[Any], bool]] = {
    "a size": lambda x: x.shape[1] is not None and x.shape[1] > 400,
    "a limit of the file": lambda x: (x.shape[1] or 1) > LIMIT,
    "seconds": lambda x: _known(x) * 0.02 > 11,
    "as a list": lambda x: (x.shape.as_list()[1] or 1) >= 600,
    "unpacked": lambda x: _unpacked(x) > 700,
    "rows": lambda x: (x.shape[0] or 1) >= 150,
    "a product": lambda x: (x.get_shape()[0] or 1) * (x.shape[1] or 1) > 3000,
    "a remainder": lambda x: bool(x.shape[1]) and x.shape[1] % 13 == 0,
}


def _known(x: Any) -> int:
    """The number of steps, 0 while it is a tensor."""
    shape: Any = ops.shape(x)
    return shape[1] if isinstance(shape[1], int) else 0


def _unpacked(x: Any) -> int:
    _, steps, _ = x.shape
    return steps or 1


class Branch(layers.Layer):
    """Doubles long inputs; `limit` is a number that the layer keeps."""

    def __init__(self, turns: Callable[[Any], bool] | None, limit: int = 0) -> None:
        super().__init__()
        self.turns, self.limit = turns, limit

    def call(self, x: Any) -> Any:
        if self.turns is not None:
            return x * 2 if self.turns(x) else x
        return x * 2 if (x.shape[1] or 1) > self.limit else x


def _model(layer: layers.Layer) -> keras.Model:
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, layers.GRU(4, return_sequences=True)(layer(x)))


@pytest.mark.parametrize("turns", BRANCHES.values(), ids=BRANCHES)
def test_a_layer_that_turns_at_a_size(turns: Callable[[Any], bool], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="differs from the model's own"):
        export(_model(Branch(turns)), tmp_path / "m.onnx")


def test_a_layer_that_keeps_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"seq=451.*test_noted_sizes_tensorflow.py:\d+ \(return x \* 2"):
        export(_model(Branch(None, limit=450)), tmp_path / "m.onnx")


def test_a_branch_that_never_turns(tmp_path: Path) -> None:
    export(_model(Branch(lambda x: (x.shape[1] or 1) < 0)), tmp_path / "m.onnx")


@pytest.mark.parametrize("turns", [BRANCHES["a size"], BRANCHES["rows"]], ids=["steps", "rows"])
@pytest.mark.parametrize("wrap", [lambda function: function, tf.function], ids=["called", "tf.function"])
def test_a_function_that_turns_at_a_size(turns: Any, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    weights = tf.random.normal((FEATURES, 4))
    inner = wrap(lambda x: tf.tanh((x * 2 if turns(x) else x) @ weights))

    class Module(tf.Module):
        def __call__(self, x: Any) -> Any:
            return inner(x)

    with pytest.raises(ExportError, match=r"next to where test_noted_sizes_tensorflow\.py"):
        export(Module(), tmp_path / "m.onnx", inputs=[X])


def test_a_function_whose_signature_hides_its_sizes(tmp_path: Path) -> None:
    """It sees None whatever it is called with, so that nothing ever turns."""
    weights = tf.random.normal((FEATURES, 4))

    @tf.function(input_signature=[tf.TensorSpec([None, None, FEATURES])])
    def function(x: Any) -> Any:
        return tf.tanh((x * 2 if x.shape[1] is not None and x.shape[1] > 400 else x) @ weights)

    export(function, tmp_path / "m.onnx", inputs=[X])

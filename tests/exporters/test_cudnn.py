"""A machine with a GPU exports what one without does: Keras's choice of cuDNN does not reach the artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from support.keras_models import FEATURES, HIDDEN, IDS, VOCABULARY

from seqport.exporters import export

pytestmark = pytest.mark.filterwarnings("ignore:.*will therefore destroy the mask information")
ATTEMPTS: list[str] = []


@pytest.fixture
def believes_in_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow tells of a GPU, which all of Keras's own choices ask it for; calls of cuDNN's kernel are counted."""
    real, kernel = tf.config.list_logical_devices, tf.raw_ops.CudnnRNNV3
    gpu = tf.config.LogicalDevice(name="/device:GPU:0", device_type="GPU")
    ATTEMPTS.clear()

    def listed(device_type: str | None = None) -> list[Any]:
        return [gpu] if device_type == "GPU" else real(device_type)

    def counted(**arguments: Any) -> Any:
        ATTEMPTS.append(arguments["rnn_mode"])
        return kernel(**arguments)

    monkeypatch.setattr(tf.config, "list_logical_devices", listed)
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", counted)


def _keras(use_cudnn: Any) -> keras.Model:
    layers = keras.layers
    ids = keras.Input((None,), dtype="int64", name="ids")
    x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    x = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, use_cudnn="auto"))(x)
    x = layers.Conv1D(FEATURES, 1)(x)  # loses the mask, so that both directions may run at once
    x = layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True, use_cudnn="auto"))(x)
    model = keras.Model(ids, layers.LSTM(HIDDEN, name="last")(x))
    model.get_layer("last").use_cudnn = use_cudnn
    return model


def _tf_keras(_: Any) -> Any:
    import tf_keras

    layers = tf_keras.layers
    ids = tf_keras.Input((None,), dtype="int64", name="ids")
    x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    return tf_keras.Model(ids, layers.GRU(HIDDEN)(layers.LSTM(HIDDEN, return_sequences=True)(x)))


@pytest.mark.parametrize(
    ("make", "use_cudnn"), [(_keras, "auto"), (_keras, True), (_tf_keras, None)], ids=["auto", "demanded", "tf_keras"]
)
def test_the_same_bytes_with_a_gpu(
    make: Callable[[Any], Any], use_cudnn: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keras.utils.set_random_seed(0)
    model = make(use_cudnn)
    without = export(model, tmp_path / "cpu.onnx").path.read_bytes()
    request.getfixturevalue("believes_in_a_gpu")
    assert export(model, tmp_path / "gpu.onnx").path.read_bytes() == without
    assert not ATTEMPTS, "cuDNN's kernel was asked for"


@pytest.mark.usefixtures("believes_in_a_gpu")
def test_keras_itself_would_ask_for_cudnn() -> None:
    layer = keras.layers.LSTM(HIDDEN)
    layer(tf.ones((1, 2, FEATURES)))  # falls back, as there is no such device
    assert ATTEMPTS == ["lstm"]


def test_a_layer_that_demands_cudnn_exports_without_it(tmp_path: Path) -> None:
    artifact = export(_keras(True), tmp_path / "m.onnx", [IDS])
    assert [layer.op for layer in artifact.description.recurrent] == ["LSTM", "LSTM", "GRU", "GRU", "LSTM"]

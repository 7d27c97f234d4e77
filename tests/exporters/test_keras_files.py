"""Keras's own files, exported by their path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.checks import run_file
from support.keras_models import FEATURES, HIDDEN, Flip, X, functional

from seqport.exporters import ExportError, export

# Keras's own, while it saves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def _model() -> keras.Model:
    return functional(lambda x: layers.Bidirectional(layers.LSTM(HIDDEN))(x), X)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_of_keras_3(name: str, tmp_path: Path) -> None:
    model = _model()
    model.save(tmp_path / name)
    artifact = export(str(tmp_path / name), tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((2, 5, FEATURES)).astype(np.float32)
    np.testing.assert_allclose(run_file(artifact.path, {"x": x})["output"], np.asarray(model([x])), atol=1e-5)
    assert artifact.description.source["framework"] == "keras"


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_of_keras_2_keeps_its_hard_sigmoid(name: str, tmp_path: Path) -> None:
    import tf_keras

    x = tf_keras.Input((None, FEATURES), name="x")
    model = tf_keras.Model(x, tf_keras.layers.LSTM(HIDDEN, recurrent_activation="hard_sigmoid")(x))
    model.save(tmp_path / name)
    artifact = export(tmp_path / name, tmp_path / "m.onnx")
    data = np.random.default_rng(0).standard_normal((2, 5, FEATURES)).astype(np.float32)
    np.testing.assert_allclose(run_file(artifact.path, {"x": data})["output"], np.asarray(model(data)), atol=1e-5)
    assert artifact.description.source["framework"] == "tf_keras"


def _unregistered(path: Path) -> None:
    functional(lambda x: layers.GRU(HIDDEN)(Flip()(x)), X).save(path)


def _lambda(path: Path) -> None:
    functional(lambda x: layers.GRU(HIDDEN)(layers.Lambda(lambda y: y * 2)(x)), X).save(path)


REFUSALS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a class of the user's": (
        "m.keras",
        _unregistered,
        r"m.keras cannot be loaded by keras .*Could not locate class 'Flip'.*custom_objects=.*and pass the model",
    ),
    "a lambda": ("m.keras", _lambda, r"m.keras cannot be loaded .*If you trust it, load it with .*safe_mode=False"),
    "weights alone": (
        "m.weights.h5",
        lambda path: _model().save_weights(path),
        r"m.weights.h5 cannot be loaded .*It holds weights alone: build the model, call its load_weights",
    ),
    "no such file": ("m.keras", lambda _: None, r"m.keras does not exist: expected a Keras model file"),
    "another file": ("m.keras", lambda path: path.write_text("no model"), r"m.keras cannot be loaded by keras"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_file_that_cannot_be_loaded_says_what_to_do(name: str, tmp_path: Path) -> None:
    file, write, message = REFUSALS[name]
    write(tmp_path / file)
    with pytest.raises(ExportError, match=f"(?s){message}"):
        export(tmp_path / file, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()

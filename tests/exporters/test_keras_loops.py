"""The model that an artifact is compared with: Keras's own loops as graphs, which answer as the model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from seqport.exporters import Input, export
from seqport.exporters.arrangement import Arrangement
from seqport.exporters.frontends.keras import trace

FEATURES, HIDDEN = 6, 5
MODELS: dict[str, Callable[[Any], Any]] = {
    "gru": lambda x: layers.GRU(HIDDEN, return_sequences=True)(x),
    "lstm, last step": lambda x: layers.LSTM(HIDDEN)(x),
    "masked": lambda x: layers.LSTM(HIDDEN, return_sequences=True)(layers.Masking()(x)),
    "zeros where masked": lambda x: layers.GRU(HIDDEN, return_sequences=True, zero_output_for_mask=True)(
        layers.Masking()(x)
    ),
    "backwards": lambda x: layers.SimpleRNN(HIDDEN, return_sequences=True, go_backwards=True)(x),
    "both ways": lambda x: layers.Bidirectional(layers.GRU(HIDDEN))(layers.Masking()(x)),
    "stacked cells": lambda x: layers.RNN([layers.GRUCell(HIDDEN), layers.LSTMCell(3)], return_sequences=True)(x),
}


def _model(build: Callable[[Any], Any]) -> keras.Model:
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, build(x))


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_graphs_answer_as_the_model(build: Callable[[Any], Any]) -> None:
    model = _model(build)
    arrangement = Arrangement([Input("x", ("batch", "seq", FEATURES))])
    reference = trace(model, arrangement, None, 17).reference
    random = np.random.default_rng(0)
    for batch, steps in ((3, 7), (1, 4), (5, 19)):
        x = random.standard_normal((batch, steps, FEATURES), np.float32)
        x[0, steps // 2 :] = 0
        np.testing.assert_allclose(reference({"x": x})["output"], np.asarray(model(x)), atol=1e-6)


def test_a_loop_shared_with_and_without_a_mask() -> None:
    layer = layers.GRU(HIDDEN)
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, [layer(x), layer(layers.Masking()(x))])
    reference = trace(model, Arrangement([Input("x", ("batch", "seq", FEATURES))]), None, 17).reference
    x = np.random.default_rng(0).standard_normal((3, 7, FEATURES), np.float32)
    x[0, 3:] = 0
    for found, expected in zip(reference({"x": x}).values(), model(x), strict=True):
        np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)


def test_weights_that_change_between_answers() -> None:
    model = _model(MODELS["gru"])
    reference = trace(model, Arrangement([Input("x", ("batch", "seq", FEATURES))]), None, 17).reference
    x = np.ones((2, 3, FEATURES), np.float32)
    reference({"x": x})
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(reference({"x": x})["output"], np.asarray(model(x)), atol=1e-6)


def test_keras_runs_no_step_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    call = layers.GRUCell.call
    monkeypatch.setattr(layers.GRUCell, "call", lambda *args, **kwargs: (calls.append(None), call(*args, **kwargs))[1])
    export(_model(MODELS["gru"]), tmp_path / "m.onnx")
    assert len(calls) <= 2


def test_a_cell_of_the_users_runs_step_by_step() -> None:
    steps: list[None] = []

    class Counted(layers.GRUCell):
        def call(self, *args: Any, **kwargs: Any) -> Any:
            steps.append(None)
            return super().call(*args, **kwargs)

    model = _model(lambda x: ops.relu(layers.RNN(Counted(HIDDEN))(x)))
    capture = trace(model, Arrangement([Input("x", ("batch", "seq", FEATURES))]), None, 17)
    steps.clear()
    capture.reference({"x": np.ones((2, 9, FEATURES), np.float32)})
    assert len(steps) >= 9  # Keras asks for the shape of a step besides

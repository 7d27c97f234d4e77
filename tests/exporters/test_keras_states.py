"""States of stateful layers: named apart, only of layers that run, and beside inputs of a fixed size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.checks import run_file

from seqport.exporters import Input, InputsError, export


def _part(name: str) -> keras.Model:
    x = keras.Input(batch_shape=(3, 10, 4))
    return keras.Model(x, layers.LSTM(4, stateful=True, return_sequences=True, name="lstm")(x), name=name)


def test_two_stateful_layers_of_one_name(tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(3, 10, 4), name="x")
    model = keras.Model(x, _part("upper")(_part("lower")(x)))
    description = export(model, tmp_path / "m.onnx").description
    assert [tuple(item.axes) for item in description.inputs] == [(3, 10, 4), *[(3, 4)] * 4]
    names = [item.name for item in description.inputs]
    assert names == ["x", *(f"{part}_lstm_{state}_0" for part in ("lower", "upper") for state in "hc")]


def test_a_stateful_layer_that_does_not_run(tmp_path: Path) -> None:
    class Half(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.idle = layers.LSTM(4, stateful=True, name="idle")
            self.used = layers.GRU(4, stateful=True, name="used")

        def call(self, x: Any) -> Any:
            return self.used(x)

    model, x = Half(), np.random.default_rng(0).standard_normal((3, 10, 4)).astype(np.float32)
    model.idle(x)
    expected = model(x).numpy()
    path = export(model, tmp_path / "m.onnx", [Input("x", (3, "seq", 4))]).path
    found = run_file(path, {"x": x, "used_h_0": np.zeros((3, 4), np.float32)})
    assert list(found) == ["output", "used_h_T"]
    np.testing.assert_allclose(found["output"], expected, atol=1e-5)


def test_a_sequential_model_of_fixed_size(tmp_path: Path) -> None:
    model = keras.Sequential([layers.GRU(4)])
    model(np.zeros((3, 10, 4), np.float32))
    with pytest.raises(
        InputsError, match=r"fixes every axis of .* \(it was built by a call, or with a batch size\): pass"
    ):
        export(model, tmp_path / "m.onnx")

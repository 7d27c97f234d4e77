"""TensorFlow's own formats end at 2 GB, which is said in place of an error from within."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tf2onnx

from seqport.exporters import ExportError, Input, export
from seqport.exporters.frontends.tensorflow import convert


def test_what_tensorflow_cannot_freeze_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ids = keras.Input((None,), dtype="int64", name="ids")
    x = keras.layers.LSTM(4)(keras.layers.Embedding(10, 6)(ids))

    def fails(*_args: Any, **_options: Any) -> None:
        raise ValueError("Cannot create a tensor proto whose content is larger than 2GB.")

    monkeypatch.setattr(tf2onnx.convert, "from_function", fails)
    monkeypatch.setattr(convert, "_LARGEST", 100)
    with pytest.raises(
        ExportError, match=r"has 0\.00 GB of weights, and TensorFlow freezes no graph above 2 GB\. Remedy"
    ):
        export(keras.Model(ids, x), tmp_path / "m.onnx", [Input("ids", ("batch", "seq"), "int64")])
    assert not list(tmp_path.iterdir())

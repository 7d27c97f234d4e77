"""TensorFlow without live Keras 3 layers: loops are lifted, and the answers are TensorFlow's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqport.exporters import ExportError, export

TAGGER = [["LSTM", "forward", "mask"], ["LSTM", "reverse", "mask"], ["GRU", "forward", "mask"]]
CASES = {
    "tf_keras": TAGGER,
    "saved_model": TAGGER,
    "function": TAGGER,
    "concrete_function": TAGGER,
    "rnn/v1": [["RNN", "forward", "lengths"]],
    "gru/v1": [["GRU", "forward", "lengths"]],
    "lstm/v1": [["LSTM", "forward", "lengths"]],
    "peepholes/v1": [["LSTM", "forward", "lengths"]],
    "stacked/v1": [["GRU", "forward", "lengths"], ["LSTM", "forward", "lengths"]],
    "lstm/v2": [["LSTM", "forward", "lengths"]],
    "gru/v2": [["GRU", "forward", "lengths"]],
}


@pytest.mark.parametrize("name", CASES)
def test_exported_model_gives_tensorflows_answers(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "tensorflow_cases.py"), str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == CASES[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.pb", r"none.pb does not exist: expected a SavedModel folder or a frozen GraphDef"),
        ("text.pb", r"text.pb cannot be read as a frozen GraphDef"),
        ("weights.pt", r"weights.pt is no model that can be exported: .* load a .pt file first"),
    ],
)
def test_a_path_that_is_no_model_is_named(name: str, message: str, tmp_path: Path) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_text("not a model")
    with pytest.raises(ExportError, match=message):
        export(tmp_path / name, tmp_path / "m.onnx")

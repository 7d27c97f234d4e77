"""Inputs and outputs are what their names say: matched by name, renamed in order, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers
from support.checks import run_file

from seqport.exporters import Input, InputsError, export

X = Input("x", ("batch", "seq", 3))
FEED = {"x": np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)}


class Both(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": x.relu(), "b": x.tanh()}


class Module(tf.Module):
    def __call__(self, x: Any) -> Any:
        return {"a": tf.nn.relu(x), "b": tf.tanh(x)}


def _keras() -> keras.Model:
    x = keras.Input((None, 3), name="x")
    return keras.Model(x, {"a": layers.ReLU()(x), "b": layers.Activation("tanh")(x)})


def _saved(folder: Path) -> Path:
    module = Module()
    function = tf.function(module.__call__, input_signature=[tf.TensorSpec((None, None, 3), name="x")])
    tf.saved_model.save(module, str(folder / "saved"), signatures=function.get_concrete_function())
    return folder / "saved"


def frozen(folder: Path, make: Callable[[Any], Any]) -> Path:
    """A graph of the placeholder x [batch, seq, 3]."""
    graph = tf.Graph()
    with graph.as_default():
        make(tf.compat.v1.placeholder(tf.float32, [None, None, 3], name="x"))
    path = folder / "frozen.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def _frozen(folder: Path) -> Path:
    return frozen(folder, lambda x: (tf.nn.relu(x, name="a"), tf.tanh(x, name="b")))


MODELS: dict[str, Callable[[Path], Any]] = {
    "PyTorch": lambda _: Both(),
    "Keras": lambda _: _keras(),
    "tf.Module": lambda _: Module(),
    "SavedModel": _saved,
    "GraphDef": _frozen,
}


@pytest.mark.parametrize("name", MODELS)
def test_own_names_in_another_order_keep_their_values(name: str, tmp_path: Path) -> None:
    artifact = export(MODELS[name](tmp_path), tmp_path / "m.onnx", [X], outputs=["b", "a"])
    found = run_file(artifact.path, FEED)
    assert list(found) == ["b", "a"] == [output.name for output in artifact.description.outputs]
    np.testing.assert_allclose(found["b"], np.tanh(FEED["x"]), atol=1e-6)
    np.testing.assert_allclose(found["a"], np.maximum(FEED["x"], 0), atol=1e-6)


@pytest.mark.parametrize("name", ["PyTorch", "Keras", "SavedModel"])
def test_an_own_name_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    message = (
        r"names 'b' at position 0, where the model gives 'a', .*'b' stands at position 1: its outputs are a, b\. Give"
    )
    with pytest.raises(InputsError, match=message):
        export(MODELS[name](tmp_path), tmp_path / "m.onnx", [X], outputs=["b", "c"])


def test_new_names_go_by_position(tmp_path: Path) -> None:
    found = run_file(export(Both(), tmp_path / "m.onnx", [X], outputs=["p", "b"]).path, FEED)
    np.testing.assert_allclose(found["p"], np.maximum(FEED["x"], 0), atol=1e-6)


def test_outputs_of_a_graph_that_share_the_last_part_of_their_name(tmp_path: Path) -> None:
    path = frozen(tmp_path, lambda x: (tf.nn.relu(x, name="fw/out"), tf.tanh(x, name="bw/out"), tf.abs(x, name="in/y")))
    found = run_file(export(path, tmp_path / "m.onnx").path, FEED)
    assert sorted(found) == ["bw/out", "fw/out", "y"]
    np.testing.assert_allclose(found["bw/out"], np.tanh(FEED["x"]), atol=1e-6)


def test_every_output_of_the_operation_that_ends_a_graph(tmp_path: Path) -> None:
    path = frozen(tmp_path, lambda x: tf.math.top_k(x, 2, name="best"))
    found = run_file(export(path, tmp_path / "m.onnx").path, FEED)
    assert list(found) == ["best", "best:1"]
    np.testing.assert_array_equal(found["best:1"], np.argsort(-FEED["x"], -1)[..., :2])


@pytest.mark.parametrize("outputs", [["b", "a_typo"], ["a_typo", "b"]])
def test_a_misspelled_output_of_a_graph(outputs: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"the graph has no a_typo: its outputs are a, b\. Name operations"):
        export(_frozen(tmp_path), tmp_path / "m.onnx", outputs=outputs)

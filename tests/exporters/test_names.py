"""Inputs and outputs are what their names say: matched by name, renamed in order, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

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


def test_a_functional_models_outputs_by_the_names_of_its_layers(tmp_path: Path) -> None:
    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, [layers.ReLU(name="a")(x), layers.Activation("tanh", name="b")(x)])
    found = run_file(export(model, tmp_path / "m.onnx", outputs=["b", "a"]).path, FEED)
    np.testing.assert_allclose(found["b"], np.tanh(FEED["x"]), atol=1e-6)
    with pytest.raises(InputsError, match="its outputs are a, b"):
        export(model, tmp_path / "m.onnx", outputs=["b", "c"])


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


def _two_inputs(y: Any, x: Any) -> Any:
    return tf.nn.relu(y) - tf.tanh(x)


def _spec(name: str) -> tf.TensorSpec:
    return tf.TensorSpec((None, None, 3), name=name)


def _saved_two(folder: Path) -> Path:
    module = tf.Module()
    function = tf.function(lambda y, x: {"z": _two_inputs(y, x)}, input_signature=[_spec("y"), _spec("x")])
    tf.saved_model.save(module, str(folder / "two"), signatures=function.get_concrete_function())
    return folder / "two"


def _keras_two(_: Path) -> keras.Model:
    x, y = (keras.Input((None, 3), name=name) for name in ("y", "x"))
    return keras.Model([x, y], layers.Subtract()([layers.ReLU()(x), layers.Activation("tanh")(y)]))


def _function_two(_: Path) -> Any:
    return tf.function(_two_inputs).get_concrete_function(_spec("y"), _spec("x"))


def _named(*names: str) -> list[Input]:
    return [Input(name, ("batch", "seq", 3)) for name in names]


@pytest.mark.parametrize("make", [_saved_two, _keras_two, _function_two])
def test_inputs_are_matched_by_name(make: Callable[[Path], Any], tmp_path: Path) -> None:
    model = make(tmp_path)
    feed = {"x": FEED["x"], "y": FEED["x"][::-1].copy()}
    # The argument that is rectified is the one called "y".
    found = run_file(export(model, tmp_path / "m.onnx", _named("x", "y")).path, feed)
    np.testing.assert_allclose(next(iter(found.values())), np.maximum(feed["y"], 0) - np.tanh(feed["x"]), atol=1e-6)
    with pytest.raises(InputsError, match=r"inputs names x, z; the model takes .*, and no z: call every input by"):
        export(model, tmp_path / "m.onnx", _named("x", "z"))


def test_new_names_for_what_has_no_order(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"inputs names p, q; the model takes x, y, and no p, q"):
        export(_saved_two(tmp_path), tmp_path / "m.onnx", _named("p", "q"))


def test_new_names_for_a_functional_models_inputs_go_by_position(tmp_path: Path) -> None:
    feed = {"p": FEED["x"], "q": FEED["x"][::-1].copy()}
    found = run_file(export(_keras_two(tmp_path), tmp_path / "m.onnx", _named("p", "q")).path, feed)
    np.testing.assert_allclose(next(iter(found.values())), np.maximum(feed["p"], 0) - np.tanh(feed["q"]), atol=1e-6)


def test_a_value_of_pythons_is_no_input(tmp_path: Path) -> None:
    function = tf.function(lambda x, rectify: tf.nn.relu(x) if rectify else tf.tanh(x))
    artifact = export(function.get_concrete_function(_spec("x"), True), tmp_path / "m.onnx")
    assert [item.name for item in artifact.description.inputs] == ["x"]
    found = run_file(artifact.path, FEED)
    np.testing.assert_allclose(next(iter(found.values())), np.maximum(FEED["x"], 0), atol=1e-6)


def test_a_value_of_pythons_beside_a_dict(tmp_path: Path) -> None:
    function = tf.function(lambda xs, scale: xs["a"] * scale - xs["b"])
    concrete = function.get_concrete_function({"a": _spec("a"), "b": _spec("b")}, 2.0)
    a, b = _named("a", "b")
    feed = {"a": FEED["x"], "b": FEED["x"][::-1].copy()}
    found = run_file(export(concrete, tmp_path / "m.onnx", [{"a": a, "b": b}]).path, feed)
    np.testing.assert_allclose(found["output"], 2 * feed["a"] - feed["b"], atol=1e-6)


@pytest.mark.parametrize("spec", [tf.TensorSpec(cast(Any, None), name="x"), tf.RaggedTensorSpec([None, None, 3])])
def test_inputs_without_a_shape_are_to_be_declared(spec: Any, tmp_path: Path) -> None:
    function = tf.function(lambda x: tf.nn.relu(x), input_signature=[spec])
    for model in (function, function.get_concrete_function()):
        with pytest.raises(
            InputsError, match=r"inputs is missing, .* not their shapes \(a tensor of any rank, a ragged"
        ):
            export(model, tmp_path / "m.onnx")


def test_a_tensor_of_any_rank_takes_the_declared_axes(tmp_path: Path) -> None:
    function = tf.function(lambda x: tf.nn.relu(x), input_signature=[tf.TensorSpec(cast(Any, None), name="x")])
    for model in (function, function.get_concrete_function()):
        found = run_file(export(model, tmp_path / "m.onnx", [X]).path, FEED)
        np.testing.assert_allclose(next(iter(found.values())), np.maximum(FEED["x"], 0), atol=1e-6)


def test_a_spec_without_a_name(tmp_path: Path) -> None:
    function = tf.function(lambda x: tf.nn.relu(x), input_signature=[tf.TensorSpec((None, None, 3))])
    for model in (function, function.get_concrete_function()):
        found = run_file(export(model, tmp_path / "m.onnx", [X]).path, FEED)
        np.testing.assert_allclose(next(iter(found.values())), np.maximum(FEED["x"], 0), atol=1e-6)

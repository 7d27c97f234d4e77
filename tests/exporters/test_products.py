"""A product that a graph flattens and gives its axes back is one MatMul, and only such a product."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model
from onnx_ir.passes.common import RemoveUnusedNodesPass

from seqport.exporters import Input, export
from seqport.exporters.passes.products import join_products

F, V = 6, 4
WEIGHTS = np.random.default_rng(0).standard_normal((F, V), np.float32)


def graph_of(x: str, body: str) -> onnx.ModelProto:
    """A graph from x, of these axes, to y."""
    model = parse_model(f'<ir_version: 9, opset_import: ["" : 18]> graph (float[{x}] x) => (float y) {{ {body} }}')
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "W"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def joined(model: onnx.ModelProto) -> onnx.ModelProto:
    other = ir.serde.deserialize_model(model)
    join_products(SimpleNamespace(model=other))  # type: ignore[arg-type]
    other = RemoveUnusedNodesPass()(other).model
    return ir.serde.serialize_model(other)


def answer(model: onnx.ModelProto, *shape: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    return session.run(None, {"x": x})[0]  # type: ignore[return-value]


def products_of(model: onnx.ModelProto) -> list[list[str]]:
    return [list(node.input) for node in model.graph.node if node.op_type == "MatMul"]


TENSORDOT = """
    s = Shape(x)
    lead = Constant <value_ints = [0, 1]> ()
    feature = Constant <value_ints = [2]> ()
    axis = Constant <value_ints = [0]> ()
    columns = Constant <value_ints = [4]> ()
    leading = Gather <axis = 0> (s, lead)
    rows = ReduceProd <keepdims = 0> (leading, axis)
    row = Unsqueeze (rows, axis)
    last = Gather <axis = 0> (s, feature)
    flat_shape = Concat <axis = 0> (row, last)
    flat = Reshape (x, flat_shape)
    product = MatMul (flat, W)
    shape = Concat <axis = 0> (leading, columns)
    y = Reshape (product, shape)
"""
BY_SLICES = """
    two = Constant <value_ints = [-1, 6]> ()
    flat = Reshape (x, two)
    product = MatMul (flat, W)
    s = Shape <start = 0, end = 2> (x)
    columns = Constant <value_ints = [4]> ()
    shape = Concat <axis = 0> (s, columns)
    y = Reshape (product, shape)
"""


@pytest.mark.parametrize("body", [TENSORDOT, BY_SLICES], ids=["tensordot", "slices"])
def test_a_flattened_product_is_one(body: str) -> None:
    model = graph_of("B, T, 6", body)
    other = joined(model)
    assert products_of(other) == [["x", "W"]]
    for shape in ((2, 3, F), (1, 1, F), (5, 2, F)):
        np.testing.assert_array_equal(answer(other, *shape), answer(model, *shape))


def test_axes_that_were_swapped_before_are_followed() -> None:
    body = "t = Transpose <perm = [1, 0, 2]> (x)" + TENSORDOT.replace("Reshape (x,", "Reshape (t,").replace(
        "Constant <value_ints = [0, 1]>", "Constant <value_ints = [1, 0]>"
    )
    model = graph_of("T, B, 6", body)
    other = joined(model)
    assert products_of(other) == [["t", "W"]]
    np.testing.assert_array_equal(answer(other, 2, 3, F), answer(model, 2, 3, F))


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        # Two steps become one row of the matrix, or one step two of them.
        (("x, two", "x, two"), (2, 4, 3)),
        (("s = Shape <start = 0, end = 2> (x)", "s = Constant <value_ints = [-1, 2]> ()"), (3, 2, F)),
        (("s = Shape <start = 0, end = 2> (x)", "s = Constant <value_ints = [1, -1]> ()"), (3, 2, F)),
    ],
    ids=["other features", "axes of another size", "one row"],
)
def test_another_product_stays(change: tuple[str, str], shape: tuple[int, ...]) -> None:
    body = BY_SLICES.replace(*change)
    if shape[-1] != F:
        body = body.replace("end = 2> (x)", "end = 1> (x)").replace("[4]", "[-1, 4]")
    model = graph_of(f"B, T, {shape[-1]}", body)
    other = joined(model)
    assert products_of(other) == [["flat", "W"]]
    np.testing.assert_array_equal(answer(other, *shape), answer(model, *shape))


def test_more_axes_than_are_tried_are_left_alone() -> None:
    body = TENSORDOT.replace("[0, 1]", "[0, 1, 2, 3]").replace("[2]", "[4]")
    model = graph_of("A, B, T, C, 6", body)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert products_of(joined(model)) == [["flat", "W"]]


def test_a_product_that_someone_else_reads_stays() -> None:
    model = graph_of("B, T, 6", BY_SLICES)
    model.graph.output.append(onnx.helper.make_tensor_value_info("product", 1, None))
    assert products_of(joined(model)) == [["flat", "W"]]


def test_a_dense_layer_on_sequences_is_one_product(tmp_path: Path) -> None:
    x, lengths = keras.Input((None, F)), keras.Input((), dtype="int32")

    def valid(both):
        ops: Any = keras.ops  # whose stubs say that it gives None
        return ops.arange(ops.shape(both[0])[1])[None, :] < both[1][:, None]

    mask = keras.layers.Lambda(valid, output_shape=(None,), dtype="bool")([x, lengths])
    y = keras.layers.LSTM(5, return_sequences=True)(keras.layers.Dense(8)(x), mask=mask)
    model = keras.Model([x, lengths], keras.layers.Dense(7, activation="softmax")(y))
    path = tmp_path / "m.onnx"
    inputs = [Input("x", ("batch", "seq", F)), Input("lengths", ("batch",), "int32")]
    export(model, path, inputs)
    graph = onnx.load(path).graph
    assert not [node.name for node in graph.node if node.op_type in ("Reshape", "ReduceProd")]
    assert len([node for node in graph.node if node.op_type == "MatMul"]) == 2


def test_a_product_that_is_an_output_survives_another_opset(tmp_path: Path) -> None:
    x = keras.Input((None, F))
    y = keras.layers.Dense(7)(keras.layers.LSTM(5, return_sequences=True)(x))
    export(keras.Model(x, y), tmp_path / "m.onnx", [Input("x", ("batch", "seq", F))], opset=21)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert "MatMul" in [node.op_type for node in graph.node]
    assert "ReduceProd" not in [node.op_type for node in graph.node]

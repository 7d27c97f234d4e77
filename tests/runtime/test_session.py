"""Sessions over real files: what runs, what they say of themselves, and what they refuse to open."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seqport.runtime import (
    ArtifactError,
    InputNameError,
    InputRankError,
    InputValueError,
    NoMetadataError,
    NotOnnxError,
    Session,
    read_description,
)

RANDOM = np.random.default_rng(0)


def _batch(rows: int, steps: int) -> dict[str, np.ndarray]:
    x = RANDOM.normal(size=(rows, steps, 3)).astype(np.float32)
    return {"x": x, "lengths": RANDOM.integers(1, steps + 1, rows)}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 2)])
def test_run_gives_what_onnxruntime_gives(artifact, cell, shape) -> None:
    import onnxruntime

    path = artifact(cell, directions=2)
    inputs = _batch(*shape)
    direct = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    for kernels in ("onnxruntime", "auto"):
        ours = Session(path, "cpu", kernels=kernels).run(inputs)
        assert list(ours) == [info.name for info in read_description(path).outputs]
        for value, expected in zip(ours.values(), map(np.asarray, direct), strict=True):
            if kernels == "auto" and cell == "rnn":  # its node sums in an order that depends on the batch
                np.testing.assert_allclose(value, expected, rtol=1e-6, atol=2e-6)
            else:
                np.testing.assert_array_equal(value, expected)


def test_what_a_session_says_of_itself(artifact) -> None:
    path = artifact("gru")
    session = Session(str(path), "cpu")
    assert session.description == session.signature == read_description(path)
    assert (session.provider, session.provider_note) == ("cpu", "")
    assert session.placement == {"recurrent": "cpu"}
    assert "gru0.onnx', provider='cpu', inputs=(x: float32['batch', 'seq', 3]" in repr(session)


def test_lists_run(artifact) -> None:
    session = Session(artifact(), "cpu")
    x = [[[1, 2, 3], [4, 5, 6]]]
    as_arrays = session.run({"x": np.array(x, np.float32), "lengths": np.array([2])})
    as_lists = session.run({"x": x, "lengths": [2]})
    np.testing.assert_array_equal(as_lists["output"], as_arrays["output"])


def test_threads_share_a_session(artifact) -> None:
    session = Session(artifact(), "cpu", threads=1)
    batches = [_batch(1 + n % 5, 1 + n % 7) for n in range(40)]
    alone = [session.run(batch)["output"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: session.run(batch)["output"], batches))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_plain_file_runs_but_does_not_predict(artifact) -> None:
    described, plain = artifact("lstm"), artifact("lstm", metadata="")
    inputs = _batch(3, 4)
    session = Session(plain, "cpu")
    np.testing.assert_array_equal(session.run(inputs)["output"], Session(described, "cpu").run(inputs)["output"])
    assert [(i.name, i.dtype, i.axes) for i in session.signature.inputs] == [
        ("x", "float32", ("batch", "seq", 3)),
        ("lengths", "int64", ("batch",)),
    ]
    assert session.placement == {"recurrent": "cpu"}
    with pytest.raises(InputNameError, match="'lengths' missing"):
        session.run({"x": inputs["x"]})
    with pytest.raises(NoMetadataError, match=r"lstm1\.onnx is an ONNX model without seqport's metadata"):
        session.predict([inputs["x"][0]])
    with pytest.raises(NoMetadataError, match=r"Session\.run works without"):
        _ = session.description


def test_a_plain_file_of_any_form_runs(tmp_path) -> None:
    """Scalars, unnamed and empty axes, strings, initializers that may be overridden: run() judges none of them."""
    nodes = [
        helper.make_node("Mul", ["a", "scale"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "bias"], ["product"]),
        helper.make_node("Identity", ["text"], ["same"]),
        helper.make_node("Shape", ["free"], ["shape"]),
    ]
    inputs = [
        helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, "n"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("text", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("free", TensorProto.FLOAT, None),  # even its rank is open
    ]
    outputs = [
        helper.make_tensor_value_info("product", TensorProto.FLOAT, [None, "n"]),
        helper.make_tensor_value_info("same", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, ["rank"]),
    ]
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [10.0])
    model = helper.make_model(
        helper.make_graph(nodes, "any", inputs, outputs, [bias]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "any.onnx")
    session = Session(tmp_path / "any.onnx", "cpu")
    assert session.signature.inputs[0].axes == ("a.0", "n")
    given = {
        "a": np.ones((2, 1), np.float32),
        "scale": 3,
        "text": np.array(["é"], object),
        "free": np.ones((2, 3), "f"),
    }
    out = session.run(given)
    assert out["product"].tolist() == [[30.0], [30.0]]
    assert out["same"].tolist() == ["é"]
    assert out["shape"].tolist() == [2, 3]
    assert session.run(given | {"bias": np.ones(1, np.float32)})["product"].tolist() == [[3.0], [3.0]]
    empty = session.run(given | {"a": np.ones((0, 1), np.float32)})
    assert empty["product"].shape == (0, 1)
    with pytest.raises(InputRankError, match=r"'a' has 1 axes, \[2\], expected 2, \[a\.0, n\]"):
        session.run(given | {"a": np.ones(2, np.float32)})


def test_no_file(tmp_path) -> None:
    with pytest.raises(NotOnnxError, match="does not exist"):
        Session(tmp_path / "none.onnx", "cpu")


def test_a_file_that_only_looks_like_onnx(tmp_path) -> None:
    """Its fields are there, but the graph inside is none: only ONNX Runtime finds out."""
    path = tmp_path / "looks.onnx"
    path.write_bytes(b"\x08\x09" + b"\x3a\x04abcd")  # ir_version 9, a graph of four letters
    with pytest.raises(NotOnnxError, match=r"looks\.onnx cannot be opened by ONNX Runtime .*: .*[Pp]rotobuf"):
        Session(path, "cpu")


def test_a_model_that_onnxruntime_has_no_kernel_for(tmp_path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Missing", ["x"], ["y"], domain="nowhere")], "g", [value], [other])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(ArtifactError, match=r"m\.onnx cannot be opened by ONNX Runtime") as caught:
        Session(tmp_path / "m.onnx", "cpu")
    assert not isinstance(caught.value, NotOnnxError)


@pytest.mark.parametrize(("old", "new", "what"), [("lengths", "sizes", "inputs"), ("output", "logits", "outputs")])
def test_a_graph_edited_behind_its_metadata(artifact, old, new, what) -> None:
    path = artifact()
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=rf"the metadata names the {what} .*'{old}'.* the graph has .*'{new}'"):
        Session(path, "cpu")


def test_a_value_that_the_model_does_not_take_is_an_input_error(tmp_path):
    table = helper.make_tensor("table", TensorProto.FLOAT, [3, 2], [0.0] * 6)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [table],
    )
    path = tmp_path / "gather.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(InputValueError, match=r"the model does not take these values: .*idx=9 .*Expected ids within"):
        Session(path, provider="cpu").run({"ids": np.array([9])})

"""The proof that chunks give what one run gives: it sees a lost state, and takes a rounding for what it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seqport.runtime import CannotStreamError, Session, stream_proof
from seqport.runtime.rewriting import reading
from seqport.runtime.rewriting.reach import reach


def with_state(path, *nodes: onnx.NodeProto) -> None:
    """An artifact whose own state output is computed by some nodes from the layer's, "kept"."""
    model = onnx.load(path)
    next(node for node in model.graph.node if node.op_type == "GRU").output[1] = "kept"
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 + 2e-5, np.float32), "factor"))
    onnx.save(model, path)


def test_a_state_that_comes_back_as_another_is_seen(artifact) -> None:
    path = artifact("gru", states=True)
    with_state(path, helper.make_node("Neg", ["kept"], ["h_T"]))
    with pytest.raises(CannotStreamError, match=r"output 'output' differs by .*, more than 1e-06, after 2 of 6 steps"):
        Session(path, "cpu").stream()


def test_a_state_that_is_slightly_off_is_no_rounding(artifact) -> None:
    path = artifact("gru", states=True)
    with_state(path, helper.make_node("Mul", ["kept", "factor"], ["h_T"]))
    with pytest.raises(CannotStreamError, match=r"differs by .*e-0[56], more than 1e-06"):
        Session(path, "cpu").stream()


def test_an_rnn_of_onnxruntime_may_round_as_it_does_between_batches(artifact, monkeypatch) -> None:
    """Its own answers to one whole row, alone and beside another, differ by as much."""
    path = artifact("rnn", scale=1.5, seed=32)
    Session(path, "cpu", kernels="onnxruntime").stream()
    monkeypatch.setattr(stream_proof, "_ROUNDINGS", 0)
    with pytest.raises(CannotStreamError, match=r"differs by .*e-06, more than 1e-06"):
        Session(path, "cpu", kernels="onnxruntime").stream()
    Session(path, "cpu").stream()  # seqport's operators round a row alike in every batch


@pytest.mark.parametrize(
    ("found", "expected", "gap"),
    [
        ([1.0, 200.0], [1.0, 100.0], 1.0),
        ([0.5, 0.25], [0.0, 0.25], 0.5),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf, -np.inf], [np.inf, -np.inf], 0.0),
        ([np.inf], [-np.inf], np.inf),
        ([np.inf], [1.0], np.inf),
        ([np.nan], [1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([1], [2], np.inf),
        ([1], [1], 0.0),
        ([1], [1.0], np.inf),
        ([], [], 0.0),
        (2.0, 1.0, 1.0),
    ],
)
def test_the_difference(found, expected, gap) -> None:
    assert stream_proof.difference(np.array(found), np.array(expected)) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Conv", ["xt", "k"], {"dilations": [16]})], 64),
        ([("Conv", ["xt", "k"], {}), ("MaxPool", ["xt"], {"kernel_shape": [7]})], 4 + 6),
        ([("Slice", ["x", "far", "end", "axis"], {})], 300),
        ([("Slice", ["h", "far", "end", "axis"], {})], 0),
        ([("Trilu", ["scores", "far"], {})], 300),
        ([("Conv", ["image", "k2"], {})], 0),
    ],
)
def test_a_proof_is_longer_than_what_layers_reach_over(nodes, expected) -> None:
    """A dilation of 16 shows nothing before step 17; a window over an image's axes is none over the steps."""
    shapes = {"x": ("b", "seq", 3), "xt": ("b", 3, "seq"), "h": ("b", 900), "scores": ("b", "seq", "seq")}
    shapes["image"] = ("b", 3, 8, 8)
    weights = {"k": np.zeros((4, 3, 5), np.float32), "k2": np.zeros((4, 3, 5, 5), np.float32)}
    weights |= {"far": np.array([300]), "end": np.array([2**63 - 1]), "axis": np.array([1])}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [f"y{place}"], **more) for place, (op, inputs, more) in enumerate(nodes)],
        "reaching",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert reach(model, reading.known_dims(model), "seq") == expected


def test_ids_are_drawn_from_their_table(artifact) -> None:
    model = onnx.load(artifact("gru", vocab_size=7))
    assert reading.Reading(model).table_size("ids") == 7
    assert reading.Reading(model).table_size("lengths") is None

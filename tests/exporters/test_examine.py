"""Any ONNX file examined: what it has, what breaks the contract, what cuDNN cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seqport.exporters.examine import Findings, examine
from seqport.runtime import NotOnnxError


def _file(path: Path, op: str = "GRU", batch: Any = "batch", **options: Any) -> Findings:
    """One recurrent node of 2 units over x [seq, batch, 3]."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    lengths, state = options.pop("lengths", True), options.pop("state", None)
    weights = {"W": (1, gates * 2, 3), "R": (1, gates * 2, 2), **options.pop("weights", {})}
    constants: dict[str, np.ndarray] = {name: np.ones(shape, np.float32) for name, shape in weights.items()}
    if state is not None:
        constants["h"] = np.ones((1, state, 2), np.float32)
    names = ["x", "W", "R", "", "lengths" if lengths else "", "h" if state else "", "", "P" if "P" in weights else ""]
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, ["y"], name="layer/cell", hidden_size=2, **options)
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["seq", batch, 3] if batch != 1 else [5, 1, 3]),
            *([helper.make_tensor_value_info("lengths", TensorProto.INT32, [batch])] if lengths else []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["seq", 1, batch, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path / "m.onnx")
    return examine(path / "m.onnx")


def test_a_file_that_keeps_the_contract(tmp_path: Path) -> None:
    found = _file(tmp_path, linear_before_reset=1)
    assert not found.breaks
    assert not found.cuda
    assert found.description is None
    (node,) = found.recurrent
    assert (node.op, node.lengths, node.num_hidden_units) == ("GRU", "lengths", 2)


@pytest.mark.parametrize(
    ("op", "options", "reason"),
    [
        ("GRU", {}, "the reset gate before the product"),
        ("RNN", {"activations": ["Relu"]}, "the activations Relu"),
        ("RNN", {"activation_alpha": [0.5]}, "activation_alpha or activation_beta"),
        ("LSTM", {"clip": 1.0}, "clip"),
        ("RNN", {"clip": 0.0}, "clip"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("LSTM", {"weights": {"P": (1, 6)}}, "peepholes"),
    ],
)
def test_what_cudnn_does_not_know(op: str, options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (found,) = _file(tmp_path, op, **options).cuda
    assert reason in found.reason
    assert found.layer == "layer/cell"


def test_default_activations_written_out_are_default(tmp_path: Path) -> None:
    assert not _file(tmp_path, "LSTM", activations=["Sigmoid", "tanh", "Tanh"]).cuda


def test_a_baked_state_and_fixed_axes_break_the_contract(tmp_path: Path) -> None:
    (baked,) = _file(tmp_path, "RNN", state=4).breaks
    assert "initial state of the fixed batch size 4" in baked.reason
    (fixed,) = _file(tmp_path, "RNN", batch=1).breaks
    assert "have no dynamic axis" in fixed.reason


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotOnnxError, match="does not exist"):
        examine(tmp_path / "none.onnx")

"""TF 1's dynamic_rnn in frozen graphs, with either control flow: native nodes, and TensorFlow's own answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from seqport.exporters.lift import lift, lift_model
from seqport.exporters.lift.lower import lower

CELLS = {"rnn": "rnn", "relu": "rnn", "gru": "gru", "basic_lstm": "lstm", "lstm": "lstm", "peepholes": "lstm"}
NAMES = [f"v1-{cell}-{option}" for cell in CELLS for option in ("lengths+initial", "lengths+bidirectional")]
NAMES += [f"v1-{cell}-{option}" for cell in ("gru", "lstm") for option in ("plain", "lengths", "lengths+time_major")]
NAMES += [f"v1-multi-{option}" for option in ("lengths", "plain", "lengths+bidirectional")]
NAMES += [f"v2-{cell}-lengths" for cell in CELLS] + ["v2-multi-lengths+bidirectional", "v2-gru-plain"]
LEFT = ["v1-clipped-lengths"]


@pytest.fixture(scope="module")
def folder(written: Callable[[str, list[str]], Path]) -> Path:
    return written("tf1_graphs", NAMES + LEFT)


@pytest.mark.parametrize("name", NAMES)
def test_lifted_graph_gives_the_answers_of_the_loop(
    name: str, folder: Path, tmp_path: Path, compare: Callable[[Path, Path], None], operators_of: Callable
) -> None:
    source, target = folder / f"{name}.onnx", tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    cell = name.split("-")[1]
    kinds = {"lstm", "gru"} if cell == "multi" else {CELLS[cell]}
    assert {item.cell for item in report.lifted} == kinds
    assert {item.gate for item in report.lifted} == ({"lengths"} if "lengths" in name else {""})
    assert not {"Loop", "Scan", "If"} & set(operators_of(target))
    compare(source, target)


@pytest.mark.parametrize("name", NAMES)
def test_lifted_graph_gives_tensorflow_s_answers(name: str, folder: Path) -> None:
    model = ir.load(folder / f"{name}.onnx")
    lift_model(model, whole_length=True)
    lower(model)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    arrays = dict(np.load(folder / f"{name}.npz"))
    feeds = {item.name: arrays[item.name] for item in session.get_inputs()}
    for item, found in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(np.asarray(found), arrays[item.name], atol=1e-5, err_msg=f"{name} {item.name}")


def test_a_clipped_cell_state_is_left_alone_and_named(folder: Path, tmp_path: Path, operators_of: Callable) -> None:
    report = lift(folder / f"{LEFT[0]}.onnx", tmp_path / "out.onnx")
    assert not report.lifted
    assert report.left[0].node == "rnn/lstm_cell"
    assert "its new states are" in report.left[0].reason
    assert "Scan" in operators_of(tmp_path / "out.onnx")


def test_a_bidirectional_graph_has_one_backward_layer(folder: Path, tmp_path: Path, operators_of: Callable) -> None:
    report = lift(folder / "v1-gru-lengths+bidirectional.onnx", tmp_path / "out.onnx")
    assert {item.direction for item in report.lifted} == {"forward", "reverse"}
    assert "GRU" in operators_of(tmp_path / "out.onnx")


def test_a_loop_that_stops_early_keeps_its_shorter_outputs(folder: Path, tmp_path: Path) -> None:
    """What tf2onnx made of the file stays, unless the caller knows that it was TensorFlow's."""
    source, target = folder / "v2-lstm-lengths.onnx", tmp_path / "out.onnx"
    lift(source, target)
    feeds = {"x:0": np.ones((2, 6, 3), np.float32), "lengths:0": np.array([1, 4], np.int32)}
    outputs = [ort.InferenceSession(str(path)).run(None, feeds) for path in (source, target)]
    assert [np.asarray(item).shape for item in outputs[0]] == [np.asarray(item).shape for item in outputs[1]]
    assert np.asarray(outputs[1][0]).shape == (2, 4, 4)

"""What torch.onnx makes of cells in loops: Loops of scripted ones, and steps written out by both exporters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from seqport.exporters.lift import lift

SCRIPTED = {
    "scripted-lstm": ("lstm", "forward", "lengths"),
    "scripted-gru+time_major": ("gru", "forward", "mask"),
    "scripted-backward": ("rnn", "reverse", ""),
}
UNROLLED = {
    "dynamo-gru": ["gru forward"],
    "dynamo-lstm": ["lstm forward"],
    "dynamo-layers": ["rnn forward", "rnn reverse"] * 2,
    "traced-rnn": ["rnn forward"],
    "traced-gru": ["gru reverse"],
    "traced-lstm": ["lstm forward"],
}
STEPS = 5


@pytest.fixture(scope="module")
def folder(written: Callable[[str, list[str]], Path]) -> Path:
    return written("torch_modules", [])


@pytest.mark.parametrize("name", SCRIPTED)
def test_scripted_loop_is_lifted(
    name: str, folder: Path, tmp_path: Path, compare: Callable, operators_of: Callable
) -> None:
    source, target = folder / f"{name}.onnx", tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    (item,) = report.lifted
    assert (item.cell, item.direction, item.gate) == SCRIPTED[name]
    assert not {"Loop", "SequenceInsert"} & set(operators_of(target))
    compare(source, target)


@pytest.mark.parametrize("name", UNROLLED)
def test_unrolled_steps_are_lifted(
    name: str, folder: Path, tmp_path: Path, compare: Callable, operators_of: Callable
) -> None:
    source, target = folder / f"{name}.onnx", tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    assert [f"{item.cell} {item.direction}" for item in report.lifted] == UNROLLED[name]
    found = operators_of(target)
    assert sum(op in ("RNN", "GRU", "LSTM") for op in found) == len(UNROLLED[name])
    assert not {"Tanh", "Sigmoid", "Gemm"} & set(found), found
    compare(source, target, [(1, STEPS), (7, STEPS)])


def test_the_report_says_that_the_number_of_steps_is_fixed(folder: Path, tmp_path: Path) -> None:
    """The axis is dynamic in the traced file, but only its first steps were ever read."""
    source, target = folder / "traced-lstm.onnx", tmp_path / "lifted.onnx"
    (item,) = lift(source, target).lifted
    assert item.steps == STEPS
    assert str(item).startswith("/cell: 5 unrolled steps lifted to LSTM")


def test_weights_beside_the_source_are_taken_along(folder: Path, tmp_path: Path) -> None:
    assert (folder / "dynamo-lstm.onnx.data").exists()
    lift(folder / "dynamo-lstm.onnx", tmp_path / "lifted.onnx")
    assert not any(tensor.external_data for tensor in onnx.load(tmp_path / "lifted.onnx").graph.initializer)

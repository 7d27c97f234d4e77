"""Loops that tf2onnx makes of Keras layers, of Keras 3 and of tf_keras: masked or not, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqport.exporters.lift import lift

LAYERS = {"rnn": "rnn", "gru": "gru", "gru_before": "gru", "lstm": "lstm", "hard": "lstm"}
KERAS = [f"keras-{layer}-mask" for layer in LAYERS] + [f"keras-{cell}-mask+bidirectional" for cell in ("gru", "lstm")]
KERAS += [f"keras-{layer}-plain" for layer in ("gru_before", "hard")]
KERAS += ["keras-gru-mask+zero", "keras-lstm-mask+backwards", "keras-lstm-mask+last", "keras-rnn-bidirectional"]
LEGACY = [f"tf_keras-{layer}-mask" for layer in ("rnn", "gru", "gru_before", "hard")]
LEGACY += ["tf_keras-rnn-backwards", "tf_keras-lstm-mask+bidirectional"]
LEFT = "keras-swish-mask"


@pytest.fixture(scope="module")
def folders(written: Callable[[str, list[str]], Path]) -> dict[str, Path]:
    three, legacy = written("keras_graphs", [*KERAS, LEFT]), written("keras_graphs", LEGACY)
    return {**dict.fromkeys([*KERAS, LEFT], three), **dict.fromkeys(LEGACY, legacy)}


@pytest.mark.parametrize("name", [*KERAS, *LEGACY])
def test_lifted_layer_gives_the_answers_of_the_loop(
    name: str, folders: dict[str, Path], tmp_path: Path, compare: Callable[[Path, Path], None], operators_of: Callable
) -> None:
    source, target = folders[name] / f"{name}.onnx", tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    assert {item.cell for item in report.lifted} == {LAYERS[name.split("-")[1]]}
    assert {item.gate for item in report.lifted} == ({"mask"} if "mask" in name else {""})
    assert "Loop" not in operators_of(target)
    compare(source, target)


def test_an_activation_that_onnx_lacks_is_left_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    report = lift(folders[LEFT] / f"{LEFT}.onnx", tmp_path / "out.onnx")
    assert not report.lifted
    assert "which is no LSTM" in report.left[0].reason

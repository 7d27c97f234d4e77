"""Weights beside the file: written whole or not at all, found again by everything that reads the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.checks import assert_contract, assert_same, draw
from support.torch_models import IDS, LENGTHS, VOCABULARY, Tagger

from seqport.exporters import ExportError, export
from seqport.exporters import write as writing
from seqport.exporters.examine import examine
from seqport.exporters.lift import lift
from seqport.runtime import ArtifactError, Session


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return Tagger(torch.nn.LSTM, bidirectional=True).eval()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.onnx"


@pytest.fixture
def data(path: Path) -> Path:
    return path.with_name("m.onnx.data")


def _answers(path: Path) -> list[np.ndarray]:
    arrays = draw([IDS, LENGTHS], (5, 8), vocabulary=VOCABULARY)
    return list(Session(path, provider="cpu").run(arrays).values())


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("opset", [17, 18, 22])
def test_the_pair_answers_as_one_file_does(model: torch.nn.Module, path: Path, data: Path, opset: int) -> None:
    one = export(model, path, [IDS, LENGTHS], opset=opset)
    expected = _answers(path)
    pair = export(model, path, [IDS, LENGTHS], opset=opset, external_data=True)
    assert pair.description == one.description
    assert data.stat().st_size > 2000
    assert_contract(path, [IDS, LENGTHS])
    assert {
        entry.value
        for t in onnx.load(path, load_external_data=False).graph.initializer
        for entry in t.external_data[:1]
    } == {"m.onnx.data"}
    assert_same(_answers(path), expected, "beside the file")


def test_the_pair_has_the_same_bytes_each_time_and_a_new_files_permissions(
    model: torch.nn.Module, path: Path, data: Path
) -> None:
    export(model, path, [IDS, LENGTHS], external_data=True)
    first = _files(path.parent)
    export(model, path, [IDS, LENGTHS], external_data=True)
    assert _files(path.parent) == first
    (plain := path.with_name("plain")).touch()
    assert data.stat().st_mode == path.stat().st_mode == plain.stat().st_mode


def test_above_the_threshold_weights_go_beside_the_file(
    model: torch.nn.Module, path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "EXTERNAL_ABOVE", 1000)
    export(model, path, [IDS, LENGTHS], external_data=False)
    assert not data.exists()
    export(model, path, [IDS, LENGTHS])
    assert data.exists()


def test_weights_of_an_earlier_export_go_with_it(model: torch.nn.Module, path: Path, data: Path) -> None:
    export(model, path, [IDS, LENGTHS], external_data=True)
    export(model, path, [IDS, LENGTHS])
    assert not data.exists()
    data.write_bytes(b"somebody else's")
    export(model, path, [IDS, LENGTHS])
    assert data.read_bytes() == b"somebody else's", "the file before did not refer to it"


@pytest.mark.parametrize("before", ["nothing", "one", "pair"])
@pytest.mark.parametrize("move", [1, 2, 3, 4])
def test_a_write_that_fails_leaves_everything_as_it_was(
    model: torch.nn.Module, path: Path, before: str, move: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before != "nothing":
        export(model, path, [IDS, LENGTHS], external_data=before == "pair")
    found = _files(path.parent)
    real, moves = Path.replace, []

    def failing(self: Path, target: Any) -> Path:
        moves.append(target)
        if len(moves) == move:
            raise OSError("disk full")
        return real(self, target)

    with torch.no_grad():
        model.head.bias += 1  # type: ignore[operator, union-attr]
    monkeypatch.setattr(Path, "replace", failing)
    wanted = {"nothing": 2, "one": 3, "pair": 4}[before]
    if move > wanted:
        pytest.skip(f"over {before} there are {wanted} moves")
    with pytest.raises(OSError, match="disk full"):
        export(model, path, [IDS, LENGTHS], external_data=True)
    monkeypatch.undo()
    assert _files(path.parent) == found


def test_no_graph_ever_stands_beside_the_weights_of_another(
    model: torch.nn.Module, path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(model, path, [IDS, LENGTHS], external_data=True)
    first, seen = _files(path.parent), []
    with torch.no_grad():
        model.recurrent.weight_ih_l0 += 1  # type: ignore[operator, union-attr]
    real = Path.replace

    def watched(self: Path, target: Any) -> Path:
        done = real(self, target)
        seen.append((path.exists() and path.read_bytes(), data.exists() and data.read_bytes()))
        return done

    monkeypatch.setattr(Path, "replace", watched)
    export(model, path, [IDS, LENGTHS], external_data=True)
    monkeypatch.undo()
    last = _files(path.parent)
    assert last != first
    whole = [(files["m.onnx"], files["m.onnx.data"]) for files in (first, last)]
    assert all(pair in whole for pair in seen if pair[0]), "a graph with another's weights"


def test_a_folder_in_the_place_of_the_weights_is_named(model: torch.nn.Module, path: Path, data: Path) -> None:
    data.mkdir()
    with pytest.raises(ExportError, match=r"m\.onnx\.data is a folder, and the weights go to a file of that name"):
        export(model, path, [IDS, LENGTHS], external_data=True)
    assert not path.exists()


@pytest.mark.parametrize("read", [lambda path: Session(path, provider="cpu"), examine], ids=["Session", "examine"])
def test_missing_or_truncated_weights_are_one_error_that_names_them(
    model: torch.nn.Module, path: Path, data: Path, read: Callable[[Path], Any]
) -> None:
    export(model, path, [IDS, LENGTHS], external_data=True)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"bytes of weights in .*m\.onnx\.data, which has \d+: .* cut short"):
        read(path)
    data.unlink()
    with pytest.raises(ArtifactError, match=r"keeps its weights in .*m\.onnx\.data, which does not exist: copy both"):
        read(path)


@pytest.mark.parametrize("external", [False, True])
def test_changed_weights_are_found_out(model: torch.nn.Module, path: Path, data: Path, external: bool) -> None:
    export(model, path, [IDS, LENGTHS], external_data=external)
    assert not examine(path).breaks
    assert bool(examine(path).beside) == external
    file = data if external else path
    stored = model.recurrent.weight_ih_l0.detach().numpy()[:5].tobytes()  # type: ignore[union-attr]
    content = file.read_bytes()
    assert stored in content
    file.write_bytes(content.replace(stored, stored[:-1] + bytes([stored[-1] ^ 1])))
    (broken,) = examine(path).breaks
    assert broken.layer == "the weights"
    assert "and the file's own description says" in broken.reason


def test_a_lift_takes_the_weights_along_and_may_write_over_its_source(
    model: torch.nn.Module, path: Path, data: Path, tmp_path: Path
) -> None:
    export(model, path, [IDS, LENGTHS], external_data=True)
    expected, weights = _answers(path), data.read_bytes()
    lift(path, tmp_path / "other.onnx")
    data.unlink()
    assert_same(_answers(tmp_path / "other.onnx"), expected, "lifted")
    data.write_bytes(weights)
    lift(path, path)
    assert not data.exists()
    assert_same(_answers(path), expected, "lifted in place")
    assert not examine(path).breaks

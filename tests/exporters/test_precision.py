"""Other precisions than the model's own: their size, their cost in the file, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from support.checks import assert_contract, draw
from support.torch_models import IDS, LENGTHS
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Artifact, ExportError, Input, InputsError, Precision, export
from seqport.exporters.examine import examine
from seqport.exporters.passes.invariance import CHECKS, Batch, faults, moved
from seqport.exporters.precision import PRECISIONS
from seqport.runtime import Session, read_description

VOCABULARY, FEATURES, HIDDEN = 50, 32, 48
X = Input("x", ("batch", "seq", FEATURES))
# The most that the file may have of the bytes of the weights in float32.
SIZES = {"float16": 0.55, "bfloat16": 0.55, "int8-weights": 0.37, "int8-dynamic": 0.37}


class Tagger(nn.Module):
    """Two layers in both directions, and a head."""

    def __init__(self, cell: Callable[..., nn.RNNBase], *, ids: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, FEATURES) if ids else nn.Identity()
        self.recurrent = cell(FEATURES, HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * HIDDEN, 20)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(self.embedding(x), lengths, batch_first=True, enforce_sorted=False)
        y, state = self.recurrent(packed)
        logits = self.head(pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0])
        return logits, logits.argmax(-1), state[0] if isinstance(state, tuple) else state


def _export(path: Path, cell: Callable[..., nn.RNNBase], *, ids: bool = True, **options: Any) -> Artifact:
    torch.manual_seed(0)
    model = Tagger(cell, ids=ids).eval()
    return export(model, path, [IDS if ids else X, LENGTHS], ["logits", "tags", "h_T"], **options)


@pytest.mark.parametrize("opset", [17, 18, 22])
@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("precision", [*SIZES])
def test_a_smaller_artifact_whose_cost_is_in_the_file(
    precision: str, cell: Callable[..., nn.RNNBase], opset: int, tmp_path: Path
) -> None:
    if precision == "int8-dynamic" and cell is nn.LSTM:
        pytest.skip("refused: test_dynamic_int8_of_an_lstm_is_refused")
    path = tmp_path / "m.onnx"
    artifact = _export(path, cell, precision=precision, opset=opset)
    inputs = [IDS, LENGTHS]
    assert_contract(path, inputs)
    assert [node.op for node in artifact.description.recurrent] == [cell.__name__] * 2
    weights = 4 * sum(p.numel() for p in Tagger(cell).parameters())
    assert path.stat().st_size < SIZES[precision] * weights
    stamped = read_description(path).precision
    assert stamped is not None
    assert (stamped.name, stamped.faults) == (precision, ())
    assert [error.output for error in stamped.errors] == ["logits", "tags", "h_T"]
    torch.manual_seed(0)
    model, arrays = Tagger(cell).eval(), draw(inputs, (7, 12), vocabulary=VOCABULARY)
    with torch.no_grad():
        expected = model(*(torch.from_numpy(a) for a in arrays.values()))
    found = Session(path, provider="cpu").run(arrays)
    assert [str(array.dtype) for array in found.values()] == ["float32", "int64", "float32"]
    for error, one, other in zip(stamped.errors, found.values(), expected, strict=True):
        gap = np.abs(one.astype(np.float64) - other.numpy())
        if error.output == "tags":
            assert np.mean(gap > 0) <= 0.1
            continue
        assert 0 < error.mean < error.largest < stamped.bound
        assert gap.max() < 2 * error.largest, "what is stamped is no more than half of what is true at another shape"
        assert gap.max() > error.largest / 20, "what is stamped is far more than what is true"


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8-weights"])
def test_onnx_runtime_widens_the_weights_once(precision: str, tmp_path: Path) -> None:
    """Nothing is left to widen at run time but the rows of the table."""
    path = _export(tmp_path / "m.onnx", nn.LSTM, precision=precision).path
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    weights = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    for node in graph.node:
        if node.op_type == "LSTM":
            assert set(node.input[1:3]) <= weights, "widened at each run"
    assert [node.op_type for node in graph.node if node.op_type == "Cast"] == ["Cast"] * 2  # the rows, the lengths
    table = next(t for t in graph.initializer if list(t.dims) == [VOCABULARY, FEATURES])
    assert table.data_type != onnx.TensorProto.FLOAT, "the whole table was widened"


def test_the_model_s_own_precision_stays_without_being_asked(tmp_path: Path) -> None:
    assert _export(tmp_path / "m.onnx", nn.GRU).description.precision is None


def test_dynamic_int8_of_an_lstm_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ExportError) as raised:
        _export(path, nn.LSTM, ids=False, precision="int8-dynamic")
    message = str(raised.value)
    assert "because ONNX Runtime's DynamicQuantizeLSTM (recurrent.0, recurrent.1) has one scale" in message
    for line in ("with garbage in the padding", "with other values in the other rows", "when it runs alone"):
        assert f" {line}" in message
    assert 'Remedy: precision="int8-weights"' in message
    assert 'precision="int8-dynamic-unproven" writes the artifact all the same' in message
    assert path.read_bytes() == b"before"


def test_dynamic_int8_of_an_lstm_is_written_when_asked_for_by_name(tmp_path: Path) -> None:
    artifact = _export(tmp_path / "m.onnx", nn.LSTM, ids=False, precision="int8-dynamic-unproven")
    assert [node.op for node in artifact.description.recurrent] == ["DynamicQuantizeLSTM"] * 2
    assert [node.lengths for node in artifact.description.recurrent] == ["lengths"] * 2
    stamped = artifact.description.precision
    assert stamped is not None
    assert any("with garbage in the padding" in fault for fault in stamped.faults)
    assert [sequence.padded for sequence in artifact.description.sequences] == [False]
    found = examine(artifact.path)
    assert [node.op for node in found.recurrent] == ["DynamicQuantizeLSTM"] * 2
    assert not found.breaks
    assert [reason.reason for reason in found.cuda] == ["has int8 arithmetic, which cuDNN does not"] * 2
    session = Session(artifact.path, provider="cpu")
    assert set(session.placement.values()) == {"cpu"}
    size = _export(tmp_path / "whole.onnx", nn.LSTM, ids=False).path.stat().st_size
    assert artifact.path.stat().st_size < 0.33 * size


def test_what_onnx_runtime_does_not_quantise_is_said(tmp_path: Path) -> None:
    notes = _export(tmp_path / "m.onnx", nn.GRU, precision="int8-dynamic").description.notes
    assert "recurrent.1: computed in float32 from int8 weights; ONNX Runtime quantises no GRU" in notes
    ops = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert ops.count("MatMulInteger") == 1


def test_a_cost_above_the_bound_is_refused(tmp_path: Path) -> None:
    class Cancelled(nn.Module):
        """The difference of large weights that are nearly the same."""

        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 8, batch_first=True)
            self.first, self.second = nn.Linear(8, 16, bias=False), nn.Linear(8, 16, bias=False)
            with torch.no_grad():
                self.first.weight.fill_(100.03)
                self.second.weight.fill_(100.0)

        def forward(self, x: Tensor) -> Tensor:
            y = self.gru(x)[0]
            return self.first(y) - self.second(y)

    model, path = Cancelled().eval(), tmp_path / "m.onnx"
    inputs = [Input("x", ("batch", "seq", 6))]
    with pytest.raises(ExportError, match=r"float16 costs more than it may: of output 'y', the largest difference is"):
        export(model, path, inputs, ["y"], precision="float16")
    assert not path.exists()
    artifact = export(model, path, inputs, ["y"], precision=Precision("float16", bound=10.0))
    assert artifact.description.precision is not None
    assert 0.01 < artifact.description.precision.errors[0].largest < artifact.description.precision.bound == 10.0


def test_weights_beyond_float16_stay(tmp_path: Path) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 8, batch_first=True)
            self.register_buffer("penalty", torch.full((8, 8), -1e9))

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(x)[1][0].unsqueeze(2) + self.penalty

    description = export(Large().eval(), tmp_path / "m.onnx", [Input("x", ("batch", "seq", 6))], precision="float16")
    (note,) = description.description.notes
    assert note.endswith("beyond the range of float16, and left as it was")


def test_nothing_to_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nothing to store in float16: the model has no matrix of weights with at le"):
        export(
            nn.GRU(2, 2, batch_first=True), tmp_path / "m.onnx", [Input("x", ("batch", "seq", 2))], precision="float16"
        )


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("int4", f"precision is 'int4': expected one of {', '.join(PRECISIONS)}, or None"),
        (lambda: Precision("float16", bound=0.0), r"the precision's bound is 0\.0: expected a number above 0"),
    ],
)
def test_a_wrong_precision_is_named(precision: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=message):
        _export(tmp_path / "m.onnx", nn.GRU, precision=precision() if callable(precision) else precision)


def _batch(artifact: Artifact, rows: int = 5, steps: int = 9) -> Batch:
    inputs = [X, LENGTHS]
    feed = draw(inputs, (rows, steps), vocabulary=VOCABULARY)
    description = artifact.description
    return Batch(feed, inputs, description.outputs[:1], "batch", description.sequences)


def _session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_checks_hold_for_a_good_artifact(tmp_path: Path) -> None:
    artifact = _export(tmp_path / "m.onnx", nn.LSTM, ids=False)
    found = moved(_session(artifact.path), _batch(artifact))
    assert list(found) == list(CHECKS)
    assert not faults({}, found)


def test_the_checks_catch_onnx_runtimes_own_quantiser(tmp_path: Path) -> None:
    """In a process of its own, because the quantiser of ONNX Runtime prints and warns."""
    artifact = _export(tmp_path / "m.onnx", nn.LSTM, ids=False)
    code = "import sys; from onnxruntime.quantization import quantize_dynamic; quantize_dynamic(*sys.argv[1:])"
    quantised = tmp_path / "quantised.onnx"
    subprocess.run([sys.executable, "-c", code, str(artifact.path), str(quantised)], check=True, capture_output=True)
    assert "DynamicQuantizeLSTM" in [node.op_type for node in onnx.load(quantised).graph.node]
    exact, found = (moved(_session(path), _batch(artifact)) for path in (artifact.path, quantised))
    said = faults(exact, found)
    for what in ("with garbage in the padding", "with a longer padding", "with other values in the other rows"):
        assert any(what in fault for fault in said), said


class Leaky(nn.Module):
    """One fault for each check."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.gru, self.fault = nn.GRU(FEATURES, 8, batch_first=True), fault

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.size(1))[0]
        if self.fault == "garbage":
            return y + x.mean((1, 2), keepdim=True)
        if self.fault == "longer":
            return y + torch.ones_like(y).cumsum(1)[:, -1:]
        if self.fault == "neighbours":
            return y + x.abs().amax((0, 1, 2), keepdim=True)
        if self.fault == "alone":
            return y + torch.ones_like(y).cumsum(0)[-1:]
        return y + torch.ones_like(y).cumsum(0)  # permuted


@pytest.mark.parametrize("fault", [*CHECKS])
def test_each_check_catches_the_fault_that_it_is_for(fault: str, tmp_path: Path) -> None:
    artifact = export(Leaky(fault).eval(), tmp_path / "m.onnx", [X, LENGTHS], ["y"])
    said = faults({}, moved(_session(artifact.path), _batch(artifact)))
    assert any(CHECKS[fault].what in one for one in said), said


def test_a_fault_of_the_model_itself_is_none_of_the_precisions(tmp_path: Path) -> None:
    artifact = export(Leaky("garbage").eval(), tmp_path / "m.onnx", [X, LENGTHS], ["y"], precision="float16")
    assert artifact.description.precision is not None
    assert not artifact.description.precision.faults


def test_without_rows_dynamic_int8_proves_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    with pytest.raises(ExportError, match="has no dynamic batch axis, so nothing could be proven"):
        export(model, tmp_path / "m.onnx", [Input("x", (1, "seq", FEATURES))], precision="int8-dynamic")

"""`seqport optimize`: the same answers, in a file that any ONNX Runtime opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from seqport.exporters import Input, export
from seqport.pipeline.cli import app
from seqport.runtime import Session


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(4, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.head(y)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optimize") / "tagger.onnx"
    torch.manual_seed(0)
    inputs = [Input("x", ("batch", "seq", 4)), Input("lengths", ("batch",), "int64")]
    export(Tagger().eval(), path, inputs, outputs=["logits"])
    return path


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def test_the_file_answers_as_the_artifact(artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "fast.onnx"
    code, said = invoke("optimize", artifact, target)
    assert code == 0, said
    assert said.count("leaves the padding out") == 2
    random = np.random.default_rng(0)
    plain = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    fast = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for lengths, steps in (([5, 2, 9, 1], 9), ([3], 3), ([4, 4], 6)):
        feed = {"x": random.standard_normal((len(lengths), steps, 4), np.float32), "lengths": np.array(lengths)}
        np.testing.assert_array_equal(fast.run(["logits"], feed)[0], plain.run(["logits"], feed)[0])


def test_a_session_serves_it_with_its_description(artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "fast.onnx"
    assert invoke("optimize", artifact, target)[0] == 0
    rows = [np.ones((steps, 4), np.float32) for steps in (3, 7, 1)]
    for one, other in zip(Session(target, "cpu").predict(rows), Session(artifact, "cpu").predict(rows), strict=True):
        np.testing.assert_array_equal(one["logits"], other["logits"])
    assert Session(target, "cpu").description == Session(artifact, "cpu").description


def test_what_cannot_be_optimized_leaves_nothing(artifact: Path, tmp_path: Path) -> None:
    fast, again = tmp_path / "fast.onnx", tmp_path / "again.onnx"
    assert invoke("optimize", artifact, fast)[0] == 0
    code, said = invoke("optimize", fast, again)  # its layers stand in Scans already
    assert code != 0
    assert "nothing to optimize: no recurrent layer takes lengths" in said
    code, said = invoke("optimize", tmp_path / "none.onnx", again)
    assert code != 0
    assert "none.onnx does not exist" in said
    assert not again.exists()

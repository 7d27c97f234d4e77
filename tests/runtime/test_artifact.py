"""The description of a file: what is written comes back, and what is no artifact says why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from seqport.errors import SeqportError
from seqport.runtime import ArtifactError, NoMetadataError, NotOnnxError, errors, read_description
from seqport.runtime.artifact import (
    FORMAT,
    METADATA_KEY,
    Description,
    RecurrentInfo,
    SequenceInfo,
    StateInfo,
    TensorInfo,
    read_metadata,
)
from seqport.runtime.packing import batch_axis_of

FULL = Description(
    inputs=(TensorInfo("x", "float32", ("batch", "seq", 3)), TensorInfo("lengths", "int64", ("batch",))),
    outputs=(TensorInfo("output", "float32", ("batch", "seq", 5)),),
    sequences=(SequenceInfo("seq", "batch", "lengths", {"x": 1}, {"output": 1}, padding_value=-1.5),),
    states=(StateInfo("h_0", "h_T"),),
    recurrent=(RecurrentInfo("/lstm/LSTM", "LSTM", "lstm", "bidirectional", 4, "lengths", "value:-1.5"),),
    convention="pytorch",
    opset=18,
    source={"framework": "torch 2.13", "café": "ünïcode"},
    weights_sha256="ab" * 32,
    breaks=("a Loop was kept",),
    batch_axis="batch",
    steps_axis="seq",
)


def test_what_is_written_comes_back() -> None:
    assert Description.from_json(FULL.to_json()) == FULL
    assert Description.from_json(FULL.to_json()).to_json() == FULL.to_json()


def test_a_file_of_before_knows_its_rows_by_its_lengths_alone() -> None:
    raw = json.loads(FULL.to_json())
    del raw["batch_axis"], raw["steps_axis"]
    assert batch_axis_of(Description.from_json(json.dumps(raw))) == "batch"
    raw["sequences"] = []
    with pytest.raises(
        ArtifactError, match=r"no axis of 'x' \[batch, seq, 3\], 'lengths' \[batch\] was proven to hold"
    ):
        batch_axis_of(Description.from_json(json.dumps(raw)))


def test_one_content_has_one_text() -> None:
    assert replace(FULL, source=dict(reversed(FULL.source.items()))).to_json() == FULL.to_json()


def test_reads_the_description_of_a_file(artifact) -> None:
    path = artifact("gru", padding_value=2.0)
    assert read_description(path).sequences[0].padding_value == 2.0
    assert read_description(str(path)).inputs[0].axes == ("batch", "seq", 3)


def test_metadata_equals_what_onnx_reads(artifact) -> None:
    """Beside large weights, before and after them in the file, with names that are no ASCII."""
    path = artifact()
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(300_000, np.float32), "large"))
    helper.set_model_props(model, {METADATA_KEY: FULL.to_json(), "café": "ü" * 200, "empty": ""})
    expected = {entry.key: entry.value for entry in model.metadata_props}
    props = onnx.ModelProto(metadata_props=model.metadata_props).SerializeToString()
    del model.metadata_props[:]
    rest = model.SerializeToString()
    for data in (rest + props, props + rest):  # protobuf allows any order
        path.write_bytes(data)
        assert read_metadata(path) == expected


def test_the_weights_are_not_read(artifact, monkeypatch) -> None:
    path = artifact()
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1_000_000, np.float32), "large"))
    onnx.save(model, path)
    taken = []
    monkeypatch.setattr(
        "seqport.runtime.artifact.take", lambda file, count, _size: taken.append(count) or file.read(count)
    )
    read_metadata(path)
    assert sum(taken) < 10_000


def _refused(path: Path, match: str) -> None:
    with pytest.raises(NotOnnxError, match=match):
        read_description(path)


def test_no_such_file(tmp_path) -> None:
    _refused(tmp_path / "none.onnx", r"none\.onnx does not exist: expected an ONNX file")


def test_a_folder(tmp_path) -> None:
    _refused(tmp_path, "is a folder: expected an ONNX file")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"hello, this is no model", b"PK\x03\x04" + bytes(99), b"\xff" * 40, bytes(range(256))],
    ids=["empty", "zero", "text", "zip", "ff", "bytes"],
)
def test_a_file_that_is_no_model(tmp_path, data) -> None:
    (tmp_path / "bad.onnx").write_bytes(data)
    _refused(tmp_path / "bad.onnx", rf"bad\.onnx \({len(data)} bytes\) is no ONNX model")


def test_a_model_cut_short(artifact) -> None:
    path = artifact()
    data = path.read_bytes()
    for size in range(1, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises((NotOnnxError, NoMetadataError)):  # cut at the end of a field, only fields lack
            read_description(path)
    path.write_bytes(data[: len(data) // 2])
    _refused(path, "was the download or copy cut short")


def test_a_plain_onnx_file(artifact) -> None:
    with pytest.raises(NoMetadataError, match=r"without seqport's metadata.*seqport\.exporters\.export"):
        read_description(artifact(metadata=""))


def test_a_newer_format(artifact) -> None:
    newer = json.loads(FULL.to_json()) | {"format": FORMAT + 1}
    with pytest.raises(ArtifactError, match=rf"format {FORMAT + 1}, and this seqport reads up to {FORMAT}: upgrade"):
        read_description(artifact(metadata=json.dumps(newer)))


@pytest.mark.parametrize("text", ["{", "[]", "null", "{}", '{"format": "one"}', FULL.to_json()[:-30]])
def test_damaged_metadata(artifact, text) -> None:
    with pytest.raises(ArtifactError, match=r"'seqport' is damaged .*: export the model again"):
        read_description(artifact(metadata=text))


def test_every_error_has_the_one_root_and_stands_in_the_tree() -> None:
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    assert all(issubclass(error, SeqportError) for error in found.values())
    assert set(re.findall(r"\w+Error\b", errors.__doc__ or "")) == set(found)

"""Streams as bytes: another process goes on where one stopped, and nothing else is let in."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from seqport.errors import SeqportError
from seqport.runtime import SavedStreamError, Session, StreamError, read_description

ROW = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)


@pytest.fixture
def path(artifact) -> Path:
    return artifact("lstm", scale=0.5)


def saved(path: Path, steps: int = 8) -> bytes:
    stream = Session(path, "cpu").stream()
    stream.push(ROW[:steps])
    return stream.save()


def resealed(data: bytes, **changes: object) -> bytes:
    """The same stream with a changed header, under a checksum that fits."""
    magic, version, size = struct.unpack_from("<8sII", data)
    header = {**json.loads(data[16 : 16 + size]), **changes}
    header = {key: value for key, value in header.items() if value is not None}
    text = json.dumps(header).encode()
    body = struct.pack("<8sII", magic, version, len(text)) + text + data[16 + size : -32]
    return body + hashlib.sha256(body).digest()


def test_a_saved_stream_goes_on_in_another_session(path) -> None:
    unbroken = Session(path, "cpu").stream()
    first, second = unbroken.push(ROW[:8]), unbroken.push(ROW[8:])
    data = saved(path)
    stream, streams = Session(path, "cpu").stream(), Session(path, "cpu").streams()
    stream.restore(data)
    streams.push({"other": ROW[:5]})
    streams.restore("new", data)
    assert stream.steps == streams.steps("new") == 8
    assert stream.save() == streams.save("new") == data, "saving is the same bytes again"
    np.testing.assert_array_equal(stream.push(ROW[:0])["h_T"], first["h_T"])
    np.testing.assert_array_equal(stream.push(ROW[8:])["output"], second["output"])
    np.testing.assert_array_equal(streams.push({"new": ROW[8:]})["new"]["output"], second["output"])


def test_a_stream_before_its_first_step(path) -> None:
    session = Session(path, "cpu")
    stream = session.stream()
    expected = stream.push(ROW)
    stream.restore(session.stream().save())
    assert stream.steps == 0
    np.testing.assert_array_equal(stream.push(ROW)["output"], expected["output"])


def test_every_damaged_byte_is_seen(path) -> None:
    data, stream = saved(path), Session(path, "cpu").stream()
    stream.push(ROW)
    before = stream.save()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(SavedStreamError):
            stream.restore(bytes(damaged))
    for end in range(len(data)):
        with pytest.raises(SavedStreamError):
            stream.restore(data[:end])
    assert stream.save() == before


def test_each_fault_is_said(path, artifact) -> None:
    data, stream = saved(path), Session(path, "cpu").stream()
    flipped = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    faults = {
        "the saved stream of .* bytes is damaged, its checksum does not fit: was it cut short": [flipped, data[:-1]],
        "bytes that are no saved stream came, expected what save": [b"", b"PK\3\4" * 30, data[1:]],
        "the saved stream has version 2, and this seqport reads 1": [data[:8] + b"\2" + data[9:]],
        "a saved stream came as str, expected the bytes": ["SQPSTRM"],
        "the saved stream's header is damaged": [resealed(data, steps=None), resealed(data, states=3)],
        "holds the states 'recurrent.h' float32.1, 4., and the model has .*'recurrent.c'": [
            resealed(data, states=[["recurrent.h", "float32", [1, 4]]])
        ],
        "holds the states 'recurrent.h' float64": [
            resealed(data, states=[["recurrent.h", "float64", [1, 4]], ["recurrent.c", "float32", [1, 4]]])
        ],
        "holds the answers -, and the model has 'h_T'": [resealed(data, answers=[])],
        "is of the artifact [0-9a-f]{12}…, and this one is": [saved(artifact("lstm", scale=0.5, seed=1))],
    }
    for said, values in faults.items():
        for value in values:
            with pytest.raises(SavedStreamError, match=said):
                stream.restore(value)  # type: ignore[arg-type]
    assert issubclass(SavedStreamError, StreamError) and issubclass(StreamError, SeqportError)


def test_elements_that_are_missing_are_seen(path) -> None:
    data = saved(path)
    _, _, size = struct.unpack_from("<8sII", data)
    body = data[: 16 + size] + data[16 + size : -36]
    with pytest.raises(SavedStreamError, match="the saved stream ends within 'c_T'"):
        Session(path, "cpu").stream().restore(body + hashlib.sha256(body).digest())


def test_the_hash_covers_weights_outside_the_file(path, tmp_path) -> None:
    model = onnx.load(path)
    outside = tmp_path / "outside.onnx"
    onnx.save(model, outside, save_as_external_data=True, location="weights.bin", size_threshold=100)
    data = saved(outside)
    Session(outside, "cpu").stream().restore(data)
    weights = tmp_path / "weights.bin"
    values = np.frombuffer(weights.read_bytes(), np.float32) * np.float32(0.9)
    weights.write_bytes(values.tobytes())
    with pytest.raises(SavedStreamError, match="is of the artifact"):
        Session(outside, "cpu").stream().restore(data)


def test_the_weights_hash_of_the_description_is_the_artifacts(path, tmp_path) -> None:
    """Files that differ in what they say, and not in their weights, go on with each other's streams."""
    copies = []
    for name, digest, notes in (("one", "a" * 64, ()), ("two", "a" * 64, ("a note",)), ("three", "b" * 64, ())):
        model = onnx.load(path)
        description = replace(read_description(path), weights_sha256=digest, notes=notes)
        model.metadata_props[0].value = description.to_json()
        copies.append(tmp_path / f"{name}.onnx")
        onnx.save(model, copies[-1])
    data = saved(copies[0])
    stream = Session(copies[1], "cpu").stream()
    stream.restore(data)
    assert stream.steps == 8
    with pytest.raises(SavedStreamError, match="is of the artifact aaaaaaaaaaaa…, and this one is bbbbbbbbbbbb…"):
        Session(copies[2], "cpu").stream().restore(data)

"""When a session runs on seqport's operators, and what it does where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seqport.runtime import InputValueError, KernelsError, Session, kernels
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.rewriting import measure, own_form, proof
from seqport.runtime.rewriting.own_layers import CELLS, Machine
from seqport.runtime.threads import Threads

FEED = {"x": np.ones((2, 4, 3), np.float32), "lengths": np.array([4, 2])}


def test_the_operators_were_built() -> None:
    """Installing goes on without them where they do not compile, so here it is said."""
    assert kernels.library() is not None, kernels.NOT_BUILT


def test_without_the_library_everything_works(artifact, monkeypatch) -> None:
    expected = Session(artifact(), "cpu").run(FEED)
    monkeypatch.setattr(kernels, "library", lambda: None)
    session = Session(artifact(), "cpu")
    assert session.kernels_note == kernels.NOT_BUILT
    for name, value in session.run(FEED).items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(KernelsError, match="cannot run on seqport's operators: seqport's operators were not built"):
        Session(artifact(), "cpu", kernels="seqport")


def test_whatever_goes_wrong_leaves_the_file(artifact, monkeypatch) -> None:
    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("no room")

    monkeypatch.setattr(own_form, "open_session", fails)
    session = Session(artifact(), "cpu")
    assert session.kernels_note == "RuntimeError: no room"
    assert session.run(FEED)["output"].shape == (2, 4, 5)


def test_the_file_as_it_is(artifact) -> None:
    assert Session(artifact(), "cpu", packing="off").kernels_note == 'packing="off": the file as it is'
    assert Session(artifact(), "cpu", packing="off", kernels="seqport").kernels_note == ""
    assert Session(artifact(), "cpu", packing="on").kernels_note == ""


@pytest.mark.parametrize("vectors", [0, 8])
def test_every_cell_is_proven_here(vectors) -> None:
    assert proof.why_not(Machine(1, vectors=vectors), proof._open) == dict.fromkeys(CELLS, "")


class _Off:
    """A session whose last answers are off by a little."""

    def __init__(self, session, amount: float) -> None:
        self._session, self._amount = session, amount

    def get_outputs(self):
        return self._session.get_outputs()

    def run(self, names, feed):
        return [value + np.float32(self._amount) for value in self._session.run(names, feed)]


def test_cells_that_differ_are_left_alone() -> None:
    """LSTM and GRU by a bit, RNN by what sums in another order cannot make."""

    def off_by(amount: float):
        def open_model(model, library) -> Any:
            session = open_session(model.SerializeToString(), Host(Threads(1)), CPU_PROVIDER, operators=library)
            return _Off(session, amount) if library else session

        return proof.why_not(Machine(1), open_model)

    a_bit = off_by(1e-7)
    assert {cell for cell, reason in a_bit.items() if reason} == {"GRU reset after", "GRU reset before", "LSTM"}
    assert a_bit["LSTM"].startswith("LSTM differs from ONNX Runtime's by 1.")
    assert all(off_by(1e-5).values())


def test_one_unproven_cell_is_named(artifact, monkeypatch) -> None:
    reasons = dict.fromkeys(CELLS, "") | {"LSTM": "LSTM differs from ONNX Runtime's by 6.0e-08"}
    monkeypatch.setattr(own_form, "proven", lambda: reasons)
    assert Session(artifact("lstm"), "cpu").kernels_note == reasons["LSTM"]
    assert Session(artifact("gru"), "cpu").kernels_note == ""


_HELD = """
import gc, sys
from pathlib import Path
from seqport.runtime import Session

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

small, large = sys.argv[1:]
first = Session(small, "cpu", kernels="seqport")
gc.collect()
before = resident()
session = Session(large, "cpu", kernels="seqport")
gc.collect()
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_weights_are_held_once(tmp_path) -> None:
    for name, hidden in (("small", 8), ("large", 1500)):
        onnx.save(measure._layer("LSTM", 8, hidden, 0), tmp_path / f"{name}.onnx")
    size = (tmp_path / "large.onnx").stat().st_size
    assert size > 30 << 20
    paths = [tmp_path / "small.onnx", tmp_path / "large.onnx"]
    done = subprocess.run([sys.executable, "-c", _HELD, *paths], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.7 * size


_SHARED = """
import sys
from seqport.runtime import Session, share_threads

share_threads(2)
print(repr(Session(sys.argv[1], "cpu").kernels_note))
"""


def test_sessions_that_share_a_pool_run_on_the_operators(artifact) -> None:
    done = subprocess.run([sys.executable, "-c", _SHARED, artifact()], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "''"


def test_a_proof_that_failed_is_tried_again(artifact, monkeypatch) -> None:
    monkeypatch.setattr(proof, "_proven", {})
    monkeypatch.setattr(proof, "_open", lambda *_: 1 / 0)
    assert Session(artifact(), "cpu").kernels_note.startswith("seqport's operators cannot run here: ")
    monkeypatch.undo()
    assert Session(artifact(), "cpu").kernels_note == ""


def test_an_old_opset_is_named(tmp_path) -> None:
    model = measure._layer("LSTM", 3, 4, 0)
    model.opset_import[0].version = 14
    onnx.save(model, tmp_path / "old.onnx")
    assert Session(tmp_path / "old.onnx", "cpu").kernels_note.startswith("the model has opset 14, expected 15 or later")


def test_several_lengths_for_one_row_are_refused(tmp_path) -> None:
    """Lists are for models that were proven to take them, not for a caller's mistake."""
    model = measure._layer("LSTM", 3, 4, 0)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "others"  # nothing says that it is the batch
    onnx.save(model, tmp_path / "plain.onnx")
    feed = {"x": np.zeros((6, 1, 3), np.float32), "lengths": np.array([4, 2], np.int32)}
    with pytest.raises(InputValueError, match="sequence_lens is expected to have one number for each of 1 rows"):
        Session(tmp_path / "plain.onnx", "cpu", kernels="seqport").run(feed)


def test_onnxruntime_copies_the_weights() -> None:
    """They are arrays that nobody holds afterwards."""
    model = measure._layer("LSTM", 3, 200, 0)
    feed = {"x": np.ones((2, 1, 3), np.float32), "lengths": np.array([2], np.int32)}
    weights = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer if t.name == "R"}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            place = tensor.external_data.add()
            place.key, place.value = "location", "memory"
    session = open_session(model.SerializeToString(), Host(), CPU_PROVIDER, weights=weights)
    before = np.asarray(session.run(None, feed)[0])
    weights["R"][...] = 0
    np.testing.assert_array_equal(np.asarray(session.run(None, feed)[0]), before)


def test_streams_that_fall_back_say_so(artifact, monkeypatch) -> None:
    session = Session(artifact(), "cpu")
    strict = Session(artifact(), "cpu", kernels="seqport")
    opened = own_form.open_own_form
    monkeypatch.setattr(
        own_form, "open_own_form", lambda *given, **how: "no" if len(given) == 4 else opened(*given, **how)
    )
    session.stream()
    assert session.kernels_note == "streams cannot run on seqport's operators: no"
    assert session.run(FEED)["output"].shape == (2, 4, 5)
    with pytest.raises(Exception, match="cannot run as streams on seqport's operators: no"):
        strict.stream()

"""The check before traffic: fit sessions pass, and each way to be unfit is told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seqport.runtime import InputDtypeError, InputSizeError, InputValueError, ProviderError, Session, readiness
from seqport.runtime.artifact import METADATA_KEY


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("form", [{}, {"vocab_size": 2, "states": True}, {"metadata": ""}, {"seq": 4, "directions": 2}])
def test_a_fit_session(artifact, cell, form) -> None:
    assert Session(artifact(cell, **form), "cpu", kernels="onnxruntime").check_ready() == 0.0
    worst = Session(artifact(cell, **form), "cpu").check_ready()
    assert worst < 2e-6 if cell == "rnn" else worst == 0.0


def test_inputs_fit_limits_and_vary(artifact) -> None:
    signature = Session(artifact(states=True), "cpu").description
    feed = readiness.trial_inputs(replace(signature, limits={"seq": (7, None), "batch": (1, 1)}))
    assert {name: array.shape for name, array in feed.items()} == {
        "x": (1, 7, 3),
        "lengths": (1,),
        "h_0": (1, 1, 4),
        "c_0": (1, 1, 4),
    }
    feed = readiness.trial_inputs(signature)
    assert feed["lengths"].tolist() == [5, 2], "a padded row is part of the trial"
    assert all(np.ptp(array) > 0 for array in feed.values())
    assert not np.array_equal(feed["x"], readiness.trial_inputs(signature, seed=1)["x"])


class Broken:
    """ONNX Runtime's session, with something wrong."""

    def __init__(self, session, change) -> None:
        self._session, self._change = session, change

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, names, feed):
        return self._change([np.array(value) for value in self._session.run(names, feed)])


def _add(amount: float):
    def change(values):
        values[1][0, 0, 0] += amount
        return values

    return change


def _fail(_values):
    raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_add(0.01), r"differs from the CPU's answer by 0\.01 in output 'h_T', expected at most 0\.0001"),
        (_add(np.nan), "differs from the CPU's answer by nan in output 'h_T'"),
        (lambda values: [values[0][:1], *values[1:]], "differs from the CPU's answer by inf in output 'output'"),
        (_fail, "a trial inference failed, which the CPU runs: .*CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_an_unfit_session(artifact, change, said) -> None:
    session = Session(artifact(), "cpu", packing="off")
    session._model.session = Broken(session._model.session, change)  # type: ignore[assignment]
    with pytest.raises(ProviderError, match=said):
        session.check_ready()


def test_a_small_difference_is_measured_and_passes(artifact) -> None:
    session = Session(artifact(), "cpu", packing="off")
    session._model.session = Broken(session._model.session, _add(5e-5))  # type: ignore[assignment]
    assert session.check_ready() == pytest.approx(5e-5, rel=0.01)


def test_own_inputs(artifact) -> None:
    session = Session(artifact(vocab_size=1), "cpu")
    with pytest.raises(InputValueError, match="made-up inputs do not fit: give check_ready some that the model takes"):
        session.check_ready()
    assert session.check_ready({"ids": np.zeros((1, 2), np.int64), "lengths": [2]}) == 0.0
    with pytest.raises(InputSizeError, match=r"^input 'lengths' has the shape"):
        session.check_ready({"ids": np.zeros((1, 2), np.int64), "lengths": [2, 1]})


def test_what_cannot_be_made_up(tmp_path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["text"], ["same"])],
        "text",
        [info("text", TensorProto.STRING, ["n"])],
        [info("same", TensorProto.STRING, ["n"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", "cpu")
    with pytest.raises(InputDtypeError, match="input 'text' is string, which cannot be made up"):
        session.check_ready()
    assert session.check_ready({"text": np.array(["a"], object)}) == 0.0


def test_the_file_itself_is_the_reference(artifact) -> None:
    """Not the session's own model: here the file was replaced after the session opened."""
    path = artifact()
    session = Session(path, "cpu")
    other = onnx.load(path)
    other.graph.initializer[0].raw_data = onnx.numpy_helper.from_array(np.ones((1, 16, 3), np.float32)).raw_data
    assert any(prop.key == METADATA_KEY for prop in other.metadata_props)
    onnx.save(other, path)
    with pytest.raises(ProviderError, match="differs from the CPU's answer"):
        session.check_ready()

"""The trial's model, which is kept as bytes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from seqport.runtime import trial


def test_the_bytes_are_an_lstm_with_lengths() -> None:
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    gates, states = 4 * trial.HIDDEN, [1, trial.ROWS, trial.HIDDEN]
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "", "lengths"], ["Y", "Y_h", "Y_c"], name="trial", hidden_size=trial.HIDDEN
    )
    graph = helper.make_graph(
        [node],
        "trial",
        [
            value("X", kind, [trial.STEPS, trial.ROWS, trial.INPUT_DIM]),
            value("W", kind, [1, gates, trial.INPUT_DIM]),
            value("R", kind, [1, gates, trial.HIDDEN]),
            value("lengths", TensorProto.INT32, [trial.ROWS]),
        ],
        [value("Y", kind, [trial.STEPS, *states]), value("Y_h", kind, states), value("Y_c", kind, states)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7, producer_name="seqport")
    assert onnx.load_from_string(trial.MODEL) == model


def test_its_answer_depends_on_every_input() -> None:
    from seqport.runtime.host import Host
    from seqport.runtime.opening import CPU_PROVIDER, open_session

    session = open_session(trial.MODEL, Host(), CPU_PROVIDER)
    first = [np.asarray(value) for value in session.run(None, trial.inputs())]
    for name, array in trial.inputs().items():
        changed = array + 1 if name != "lengths" else array[::-1]
        other = session.run(None, {**trial.inputs(), name: changed})
        for a, b in zip(first, other, strict=True):
            assert np.abs(a - np.asarray(b)).max() > 100 * trial.TOLERANCE, name

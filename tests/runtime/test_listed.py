"""Batches as lists: which models take them, and that they answer what padded batches do."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from seqport.runtime import InputValueError, Session
from seqport.runtime.artifact import METADATA_KEY, Description, TensorInfo, read_description
from seqport.runtime.listed import Listed

LENGTHS = [4, 1, 7, 2, 7, 3]


def items_of(session: Session, lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    info = session.signature.inputs[0]
    if info.dtype == "int64":
        return [random.integers(0, 6, steps) for steps in lengths]
    return [random.standard_normal((steps, 3), np.float32) for steps in lengths]


def forms_run(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The kind of batch of each run from now on."""
    kinds: list[type] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: kinds.append(type(inputs)) or run(inputs))
    return kinds


def require_alone(session: Session, items: list[np.ndarray], answers: list[dict[str, np.ndarray]]) -> None:
    (name, *_), lengths = [info.name for info in session.signature.inputs], "lengths"
    for item, answer in zip(items, answers, strict=True):
        alone = session.run({name: item[None], lengths: np.array([len(item)])})
        for output, value in answer.items():
            expected = alone[output][0] if output == "output" else alone[output][:, 0]
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
            assert value.base is None, "an answer does not keep its batch"


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("form", [{}, {"directions": 2}, {"vocab_size": 6}, {"head": False}], ids=str)
def test_rows_go_as_lists(artifact, cell, form, monkeypatch) -> None:
    session = Session(artifact(cell, **form), "cpu", kernels="seqport")
    items = items_of(session, LENGTHS)
    kinds = forms_run(session, monkeypatch)
    answers = session.predict(items)
    assert kinds == [Listed]
    monkeypatch.undo()
    require_alone(session, items, answers)


def test_a_single_row_and_other_kernels_get_batches(artifact, monkeypatch) -> None:
    for kernels, lengths, kind in (("seqport", [3], dict), ("onnxruntime", LENGTHS, dict), ("seqport", [3, 3], Listed)):
        session = Session(artifact(), "cpu", kernels=kernels)
        kinds = forms_run(session, monkeypatch)
        session.predict(items_of(session, lengths))
        assert set(kinds) == {kind}, (kernels, lengths)
        monkeypatch.undo()


def described_anew(path: Path, change) -> None:
    model = onnx.load(path)
    description = change(model, read_description(path))
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, path)


def pooled(model: onnx.ModelProto, description: Description) -> Description:
    """The largest answer of each row over all steps, which needs the padded batch."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "along_steps"))
    model.graph.node.append(helper.make_node("ReduceMax", ["output", "along_steps"], ["best"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("best", onnx.TensorProto.FLOAT, ["batch", 5]))
    return replace(description, outputs=(*description.outputs, TensorInfo("best", "float32", ("batch", 5))))


def counted(model: onnx.ModelProto, description: Description) -> Description:
    """Each answer and the number of steps that the batch is padded to."""
    model.graph.node[-1].output[0] = "before"
    nodes = [
        helper.make_node("Shape", ["x"], ["padded_to"], start=1, end=2),
        helper.make_node("Cast", ["padded_to"], ["number"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["before", "number"], ["output"]),
    ]
    model.graph.node.extend(nodes)
    return description


def far_sighted(model: onnx.ModelProto, description: Description) -> Description:
    """Each step sees those 16 steps away, which a short trial would not show."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(kernel, "kernel"))
    (turn,) = [node for node in model.graph.node if "x" in node.input]
    turn.input[0] = "seen"
    place = list(model.graph.node).index(turn)
    nodes = [
        helper.make_node("Transpose", ["x"], ["features_first"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["features_first", "kernel"], ["far"], dilations=[16], pads=[16, 16]),
        helper.make_node("Transpose", ["far"], ["seen"], perm=[0, 2, 1]),
    ]
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)
    return description


@pytest.mark.parametrize("change", [pooled, counted, far_sighted])
def test_a_model_that_looks_at_the_padded_batch_gets_it(artifact, change, monkeypatch) -> None:
    path = artifact()
    described_anew(path, change)
    session = Session(path, "cpu", kernels="seqport")
    items = items_of(session, [40, 3, 22])
    kinds = forms_run(session, monkeypatch)
    answers = session.predict(items)
    assert set(kinds) == {dict}
    monkeypatch.undo()
    if change is far_sighted:
        require_alone(session, items, answers)


def clipped(model: onnx.ModelProto, description: Description) -> Description:
    """Lengths bounded by the steps that there are, as exporters write them."""
    (cast,) = [node for node in model.graph.node if node.op_type == "Cast"]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "along_steps"))
    nodes = [
        helper.make_node("Shape", ["x"], ["extents"]),
        helper.make_node("Gather", ["extents", "along_steps"], ["padded_to"]),
        helper.make_node("Min", ["lengths", "padded_to"], ["bounded"]),
    ]
    cast.input[0] = "bounded"
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    return description


def labelled(model: onnx.ModelProto, description: Description) -> Description:
    """The most likely class of each step beside the logits."""
    model.graph.node.append(helper.make_node("ArgMax", ["output"], ["label"], axis=-1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["batch", "seq"]))
    (sequence,) = description.sequences
    sequence = replace(sequence, outputs={**sequence.outputs, "label": 1})
    outputs = (*description.outputs, TensorInfo("label", "int64", ("batch", "seq")))
    return replace(description, outputs=outputs, sequences=(sequence,))


@pytest.mark.parametrize("change", [clipped, labelled])
def test_what_looks_at_no_other_step_goes_as_a_list(artifact, change, monkeypatch) -> None:
    path = artifact()
    described_anew(path, change)
    session = Session(path, "cpu", kernels="seqport")
    items = items_of(session, LENGTHS)
    kinds = forms_run(session, monkeypatch)
    answers = session.predict(items)
    assert kinds == [Listed]
    for answer in answers:
        if "label" in answer:
            np.testing.assert_array_equal(answer["label"], answer["output"].argmax(-1))


@pytest.mark.parametrize(
    "change",
    [
        lambda _, d: replace(d, limits={"seq": (1, 9)}),
        lambda _, d: replace(d, sequences=(replace(d.sequences[0], padding_value=-1.0),)),
    ],
    ids=["limits", "a padding value"],
)
def test_what_is_checked_on_padded_batches_keeps_them(artifact, change, monkeypatch) -> None:
    path = artifact()
    described_anew(path, change)
    session = Session(path, "cpu", kernels="seqport")
    kinds = forms_run(session, monkeypatch)
    session.predict(items_of(session, LENGTHS))
    assert set(kinds) == {dict}


def test_a_row_that_the_model_refuses_spoils_no_other(artifact) -> None:
    session = Session(artifact("gru", vocab_size=6), "cpu", kernels="seqport")
    items = [[1, 2, 3], [4, 999], [5]]
    first, wrong, last = session.predict(items, on_error="return")
    assert isinstance(wrong, InputValueError) and "item 1" in str(wrong)
    assert isinstance(first, dict) and isinstance(last, dict)
    whole = session.predict([items[0], items[2]])
    np.testing.assert_array_equal(first["output"], whole[0]["output"])
    np.testing.assert_array_equal(last["output"], whole[1]["output"])


def test_a_session_that_streams_is_tried_anew(artifact, monkeypatch) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="seqport")
    items = items_of(session, LENGTHS)
    before = session.predict(items)
    session.stream()
    kinds = forms_run(session, monkeypatch)
    after = session.predict(items)
    assert kinds
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one["output"], other["output"], rtol=0, atol=1e-6)


def test_a_session_that_streams_lets_the_first_form_go(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="seqport")
    session.predict(items_of(session, LENGTHS))
    before = weakref.ref(session._model.session)
    session.stream()
    gc.collect()
    assert before() is None


def beside(model: onnx.ModelProto, description: Description) -> Description:
    """An initial state that follows from another input, whose second axis has nothing to do with the steps."""
    model.graph.input.append(helper.make_tensor_value_info("context", onnx.TensorProto.FLOAT, ["batch", "k", 4]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "along_k"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "in_front"))
    (layer,) = [node for node in model.graph.node if node.op_type == "GRU"]
    layer.input.append("h_0")
    nodes = [
        helper.make_node("ReduceMean", ["context", "along_k"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "in_front"], ["h_0"]),
    ]
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    inputs = (*description.inputs, TensorInfo("context", "float32", ("batch", "k", 4)))
    return replace(description, inputs=inputs)


def test_another_dynamic_axis_does_not_disturb(artifact) -> None:
    path = artifact("gru")
    described_anew(path, beside)
    random = np.random.default_rng(0)
    session, other = (Session(path, "cpu", kernels=kernels) for kernels in ("seqport", "onnxruntime"))
    rows = items_of(session, LENGTHS)
    items = [{"x": x, "context": random.standard_normal((2, 4), np.float32)} for x in rows]
    for one, expected in zip(session.predict(items), other.predict(items), strict=True):
        np.testing.assert_allclose(one["output"], expected["output"], rtol=0, atol=1e-6)

"""Graphs with seqport's operators answer as before, whatever stands around the layers; what they cannot do stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from seqport.runtime import KernelsError, Session, kernels
from seqport.runtime.rewriting.own_layers import Machine
from seqport.runtime.rewriting.own_operators import use_own_operators

from .own_layers import answers, opened, own, require_same
from .recurrent_graphs import GATES, HIDDEN, INPUT_DIM, Feed, Form, feed_of, model_of, run
from .test_packing_lookups import WAYS, feed_with, model_with
from .test_packing_steps import BETWEEN, BEYOND, CLASSES, Graph, nodes_of

pytestmark = pytest.mark.skipif(kernels.library() is None, reason=kernels.NOT_BUILT)

FLOAT = TensorProto.FLOAT
LENGTHS = [([3, 9, 1, 9, 4, 2, 7], 9), ([2, 5, 3], 8), ([4, 4], 4), ([6], 6), ([1] * 9 + [12], 12)]
RAGGED = LENGTHS[0]


def require_alike(model: ModelProto, form: Form, feeds: list[Feed] | None = None, atol: float = 0.0) -> ModelProto:
    """The model on the operators, which answers as it did, for one thread and for two."""
    sessions = [opened(model, threads) for threads in (1, 2)]
    for feed in feeds or [feed_of(form, *lengths) for lengths in LENGTHS]:
        expected = run(model, feed)
        for session in sessions:
            require_same(answers(session, feed), expected, max(atol, 5e-6 if form.cell == "RNN" else 0.0))
    return own(model)


FORMS = [
    *(Form(cell, layers, direction) for cell in GATES for layers in (1, 2)
      for direction in ("forward", "reverse", "bidirectional")),
    *(Form("LSTM", 2, direction, joined=joined, batch_first=batch_first, given=True)
      for direction in ("forward", "bidirectional") for joined in ("batch", "time", "raw", "")
      for batch_first in (True, False)),
    Form("GRU", 2, "bidirectional", given=True, attributes=(("linear_before_reset", 1),)),
    Form("RNN", 2, "bidirectional", given=True, attributes=(("activations", ["Relu", "Relu"]),)),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_layers_answer_in_every_layout(form: Form) -> None:
    other = require_alike(model_of(form), form)
    assert len(nodes_of(other, "Recurrent")) == form.layers
    assert not nodes_of(other, form.cell)
    assert not nodes_of(other, "Transpose"), "an operator that takes and gives any layout was given another"


def test_between_layers_go_valid_steps_alone() -> None:
    first, second = nodes_of(own(model_of(Form("LSTM", 2, "bidirectional"))), "Recurrent")
    assert first.output[0] == second.input[0]
    layouts = [{a.name: a.i for a in node.attribute if a.name.endswith("layout")} for node in (first, second)]
    assert layouts == [{"x_layout": 1, "y_layout": 2}, {"x_layout": 2, "y_layout": 1}]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_layers_without_lengths_are_replaced_too(direction: str) -> None:
    form = Form("GRU", 2, direction)
    model = model_of(form)
    for node in nodes_of(model, "GRU"):
        node.input[4] = ""
    assert not nodes_of(require_alike(model, form, [feed_of(form, [7] * rows, 7) for rows in (1, 3, 8)]), "GRU")


@pytest.mark.parametrize(
    "outputs", [["joined0"], ["Y0", "joined0"], ["Y0", "Y1", "joined0", "joined0.rows", "joined1"]]
)
def test_several_outputs_of_a_layer_are_read(outputs: list[str]) -> None:
    form = Form("LSTM", 2, "bidirectional")
    model = model_of(form)
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in outputs)
    require_alike(model, form)


def test_only_a_last_state_is_read() -> None:
    form = Form("LSTM", joined="")
    model = model_of(form)
    model.graph.output.remove(next(value for value in model.graph.output if value.name == "c_T.0"))
    (node,) = nodes_of(require_alike(model, form), "Recurrent")
    assert list(node.output) == ["", "h_T.0", ""]


@pytest.mark.parametrize(
    "form", [Form("LSTM", 2, "bidirectional"), Form("GRU", joined="time", batch_first=False)], ids=str
)
def test_a_head_is_computed_for_valid_steps_alone(form: Form) -> None:
    graph = Graph(form)
    logits = graph.linear(graph.y, form.num_directions * HIDDEN, CLASSES)
    graph.give(graph.add("Softmax", logits, axis=-1), FLOAT, CLASSES)
    graph.give(graph.add("ArgMax", logits, axis=-1, keepdims=0), TensorProto.INT64)
    graph.give(graph.add("ArgMax", logits, axis=2), TensorProto.INT64, 1)
    other = require_alike(graph.model, form)
    (product,) = nodes_of(other, "MatMul")
    other.graph.output.append(helper.make_tensor_value_info(product.output[0], FLOAT, None))
    session = onnxruntime_session(other)
    assert answers(session, feed_of(form, *RAGGED))[product.output[0]].shape == (1, sum(RAGGED[0]) + 1, CLASSES)
    for lengths, steps in (([0, 3], 3), ([0, 0], 2)):  # ONNX Runtime's nodes lose the states of such rows
        found = answers(session, feed_of(form, lengths, steps))
        shapes = {value.shape[:2] for name, value in found.items() if name.startswith(("Softmax", "ArgMax"))}
        assert shapes == {(2, steps) if graph.batch_major else (steps, 2)}


def onnxruntime_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """A model that is on the operators already."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(kernels.library()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


@pytest.mark.parametrize("between", [*BETWEEN, *BEYOND], ids=lambda make: make.__name__)
def test_anything_may_stand_between_layers(between) -> None:
    form = Form("LSTM")
    graph = Graph(form)
    time_major = graph.add("Transpose", between(graph, graph.y), perm=[1, 0, 2])
    shapes = {"W": (2, 4 * HIDDEN, HIDDEN), "R": (2, 4 * HIDDEN, HIDDEN), "B": (2, 8 * HIDDEN)}
    names = [graph.weights(f"{name}.second", *shape) for name, shape in shapes.items()]
    graph.add("LSTM", time_major, *names, "lengths_32", hidden_size=HIDDEN, direction="bidirectional")
    graph.model.graph.output.append(helper.make_tensor_value_info(graph.model.graph.node[-1].output[0], FLOAT, None))
    # ONNX Runtime sums up means in an order that depends on how many there are.
    require_alike(graph.model, form, [feed_of(form, *RAGGED)], 1e-6)


@pytest.mark.parametrize("front", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_words_are_looked_up_for_valid_steps_alone(direction: str, batch_first: bool, front: list[NodeProto]) -> None:
    form = Form("LSTM", 2, direction, batch_first=batch_first)
    model = model_with(front, form)
    other = require_alike(model, form, [feed_with(form, *lengths) for lengths in LENGTHS])
    (lookup,) = [node for node in nodes_of(other, "Gather") if "table" in node.input]
    other.graph.output.append(helper.make_tensor_value_info(lookup.output[0], FLOAT, None))
    found = answers(onnxruntime_session(other), feed_with(form, *RAGGED))[lookup.output[0]]
    assert found.shape == (1, sum(RAGGED[0]), INPUT_DIM)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [[3, 10], [3, -1], [3, -10], [2**31 - 1, 1]], ids=str)
def test_words_of_lengths_that_do_not_fit_are_refused(lengths: list[int], batch_first: bool) -> None:
    form = Form("LSTM", batch_first=batch_first)
    session = opened(model_with(WAYS["a lookup"], form), 2)
    right = feed_with(form, [3, 2], 9)
    expected = answers(session, right)
    with pytest.raises(InvalidArgument, match=r"sequence_lens is -?\d+ for row"):
        session.run(None, {**right, "lengths": np.array(lengths)})
    require_same(answers(session, right), expected)


def test_two_batches_of_the_same_lengths_have_steps_of_their_own() -> None:
    one, other = (model_of(Form("LSTM", 2), seed) for seed in (0, 1))
    for value in (*other.graph.input, *other.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "T":
                dim.dim_param = "U"
    one.graph.MergeFrom(onnx.compose.add_prefix(other, "other.").graph)
    next(node for node in one.graph.node if list(node.input) == ["other.lengths"]).input[0] = "lengths"
    one.graph.input.remove(next(value for value in one.graph.input if value.name == "other.lengths"))
    feed = feed_of(Form("LSTM", 2), [6, 2, 4, 1], 9)
    feed["other.x"] = feed_of(Form("LSTM", 2), [6, 2, 4, 1], 6, seed=1)["x"]
    require_alike(one, Form("LSTM", 2), [feed])


def _with(form: Form, change) -> ModelProto:
    model = model_of(form)
    change(model)
    return model


def _computed(model: ModelProto) -> None:
    weight = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))


def _doubled(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _batch_first(model: ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("layout", 1))


HARD = ["HardSigmoid", "Tanh", "Tanh"]
LEFT = {
    "a clip": model_of(Form("LSTM", attributes=(("clip", 0.3),))),
    "peepholes": model_of(Form("LSTM", peepholes=True, given=True)),
    "coupled gates": model_of(Form("LSTM", attributes=(("input_forget", 1),))),
    "another activation": model_of(Form("LSTM", attributes=(("activations", HARD),))),
    "two activations": model_of(Form("RNN", 1, "bidirectional", attributes=(("activations", ["Relu", "Tanh"]),))),
    "computed weights": _with(Form("GRU", 2), _computed),
    "weights of float64": _with(Form("LSTM", batch_first=False), _doubled),
    "batches first": _with(Form("GRU", batch_first=False, joined="raw"), _batch_first),
}


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_what_the_operators_do_not_know_stays(model: ModelProto) -> None:
    before = model.SerializeToString()
    assert use_own_operators(model, Path(), Machine(2)) == []
    assert model.SerializeToString() == before


def test_cells_that_were_not_proven_stay() -> None:
    model = model_of(Form("GRU"))
    assert use_own_operators(model, Path(), Machine(2, cells=["LSTM", "GRU reset after"])) == []
    assert use_own_operators(model, Path(), Machine(2, cells=["GRU reset before"])) == ["layer0"]


def test_one_that_stays_keeps_all_that_take_lengths() -> None:
    clipped = (("clip", 0.3),)
    model = model_of(Form("LSTM", 2))
    model.graph.node[-3].attribute.append(helper.make_attribute(*clipped[0]))
    assert use_own_operators(model, Path(), Machine(2)) == []
    model.graph.node[-3].input[4] = ""
    assert use_own_operators(model, Path(), Machine(2)) == ["layer0"]


def test_a_session_says_what_computes_its_layers(tmp_path: Path) -> None:
    onnx.save(model_of(Form("LSTM")), tmp_path / "plain.onnx")
    onnx.save(LEFT["a clip"], tmp_path / "clip.onnx")
    feed = feed_of(Form("LSTM"), *RAGGED)
    assert Session(tmp_path / "plain.onnx", "cpu", kernels="seqport").kernels_note == ""
    assert "has a clip, peepholes or others" in Session(tmp_path / "clip.onnx", "cpu").kernels_note
    for kernels_ in ("auto", "onnxruntime"):
        require_same(Session(tmp_path / "clip.onnx", "cpu", kernels=kernels_).run(feed), run(LEFT["a clip"], feed))
    with pytest.raises(KernelsError, match=r"clip\.onnx cannot run on seqport's operators: .* has a clip, peepholes"):
        Session(tmp_path / "clip.onnx", "cpu", kernels="seqport")
    with pytest.raises(KernelsError, match='kernels is \'own\', expected "auto", "seqport" or "onnxruntime"'):
        Session(tmp_path / "plain.onnx", "cpu", kernels="own")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8], ids=str)
@pytest.mark.parametrize("form", [Form("LSTM", 2), Form("GRU", direction="bidirectional")], ids=str)
def test_weights_may_be_stored_narrow(form: Form, kind: int) -> None:
    model = model_of(form)
    fed = {name for node in model.graph.node if node.op_type in GATES for name in node.input[1:4]}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in fed]:
        wide, scale = tensor.name, np.float32(1 / 64)
        array = numpy_helper.to_array(tensor) / scale
        narrow = array.round().clip(-127, 127) if kind == TensorProto.INT8 else array
        stored = narrow.astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(numpy_helper.from_array(stored, f"{wide}.stored"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{wide}.scale"))
        model.graph.node.insert(0, helper.make_node("Mul", [f"{wide}.cast", f"{wide}.scale"], [wide]))
        model.graph.node.insert(0, helper.make_node("Cast", [f"{wide}.stored"], [f"{wide}.cast"], to=FLOAT))
    other = require_alike(model, form)
    assert not nodes_of(other, "Mul"), "what is widened already"
    assert len(nodes_of(other, "Recurrent")) == form.layers

"""The proof is itself tested: each known fault, planted in a real artifact, turns that artifact's row red."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seqport.pipeline.build import artifact_path
from seqport.pipeline.judge import Row, Subject
from seqport.pipeline.runners import ARTIFACTS, open_runners
from seqport.runtime.artifact import METADATA_KEY, Description

RECURRENT = {"RNN", "GRU", "LSTM"}
SEQUENCE_LENS, INITIAL_H = 4, 5
Plant = Callable[[onnx.ModelProto], None]


def recurrent(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in RECURRENT]


def attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(helper.get_attribute_value(item) for item in node.attribute if item.name == name)


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
    place = list(model.graph.node).index(before)
    for node in reversed(nodes):
        model.graph.node.insert(place, node)


def constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def swap_gates(model: onnx.ModelProto) -> None:
    """The first two gates of the weights change places, as when their order is mistaken."""
    node = recurrent(model)[0]
    hidden = attribute(node, "hidden_size")
    for tensor in model.graph.initializer:
        if tensor.name in list(node.input)[1:3]:  # W and R, [directions, gates * hidden, ...]
            array = numpy_helper.to_array(tensor).copy()
            array[:, : 2 * hidden] = np.roll(array[:, : 2 * hidden], hidden, axis=1)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def forget_lengths(model: onnx.ModelProto) -> None:
    for node in recurrent(model):
        node.input[SEQUENCE_LENS] = ""


def reverse_without_lengths(model: onnx.ModelProto) -> None:
    """The backward direction begins at the end of the padding; the forward one keeps its lengths."""
    for node in recurrent(model):
        direction = next(item for item in node.attribute if item.name == "direction")
        if direction.s == b"reverse":
            node.input[SEQUENCE_LENS] = ""
        elif direction.s == b"bidirectional":
            split_directions(model, node)


def split_directions(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ways = []
    for index, way in enumerate(("forward", "reverse")):
        weights = [constant(model, f"{way} {name}", arrays[name][index : index + 1]) for name in node.input[1:4]]
        lengths = node.input[SEQUENCE_LENS] if way == "forward" else ""
        outputs = [f"{way} {name}" for name in node.output]
        inputs = [node.input[0], *weights, lengths]
        hidden = attribute(node, "hidden_size")
        ways.append(helper.make_node(node.op_type, inputs, outputs, hidden_size=hidden, direction=way))
    joins = [
        helper.make_node(
            "Concat", [f"forward {name}", f"reverse {name}"], [name], axis=1 if name == node.output[0] else 0
        )
        for name in node.output
    ]
    insert(model, node, *ways, *joins)
    model.graph.node.remove(node)


def flip_linear_before_reset(model: onnx.ModelProto) -> None:
    for node in recurrent(model):
        flag = next(item for item in node.attribute if item.name == "linear_before_reset")
        flag.i = 1 - flag.i


def forget_the_mask(model: onnx.ModelProto) -> None:
    """The head's bias shows at padded steps."""
    (head,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    (masked,) = [node for node in model.graph.node if "output" in node.output]
    masked.CopyFrom(helper.make_node("Identity", [head.output[0]], ["output"]))


def leak_padding(model: onnx.ModelProto) -> None:
    """Every step sees the sum of the padding, which is nothing as long as the padding is zero."""
    first = next(node for node in model.graph.node if "x" in node.input)
    zero, one, axis = (constant(model, f"leak {v}", np.array(v, np.int64)) for v in (0, 1, 2))
    axes = constant(model, "leak axes", np.array([1], np.int64))
    nothing = constant(model, "leak nothing", np.array(0, np.float32))
    nodes = [
        helper.make_node("Shape", ["x"], ["leak seq"], start=1, end=2),
        helper.make_node("Squeeze", ["leak seq"], ["leak end"]),
        helper.make_node("Range", [zero, "leak end", one], ["leak steps"]),
        helper.make_node("Unsqueeze", ["lengths", axes], ["leak column"]),
        helper.make_node("Less", ["leak steps", "leak column"], ["leak valid"]),
        helper.make_node("Unsqueeze", ["leak valid", axis], ["leak mask"]),
        helper.make_node("Where", ["leak mask", nothing, "x"], ["leak padding"]),
        helper.make_node("ReduceSum", ["leak padding", axes], ["leak sum"]),
        helper.make_node("Add", ["x", "leak sum"], ["leak x"]),
    ]
    insert(model, first, *nodes)
    first.input[list(first.input).index("x")] = "leak x"


def bake_batch(model: onnx.ModelProto) -> None:
    """The initial state has the three rows that the trace had."""
    node = recurrent(model)[0]
    node.input.append(constant(model, "baked", np.zeros((1, 3, attribute(node, "hidden_size")), np.float32)))


def freeze_lengths(model: onnx.ModelProto) -> None:
    """Every row has the length that the example had, as when a list was made of the lengths."""
    node = recurrent(model)[0]
    shape = helper.make_node("Shape", ["lengths"], ["frozen shape"])
    one = helper.make_tensor("value", TensorProto.INT32, [1], [1])
    insert(model, node, shape, helper.make_node("ConstantOfShape", ["frozen shape"], ["frozen"], value=one))
    node.input[SEQUENCE_LENS] = "frozen"


def misstate_lengths(model: onnx.ModelProto) -> None:
    """The metadata does not say which input holds the lengths; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    description = Description.from_json(entry.value)
    (sequence,) = description.sequences
    entry.value = replace(description, sequences=(replace(sequence, lengths=None),)).to_json()


def misstate_rows(model: onnx.ModelProto) -> None:
    """The metadata takes the steps for the rows; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    description = Description.from_json(entry.value)
    entry.value = replace(description, batch_axis=description.steps_axis).to_json()


def misstate_states(model: onnx.ModelProto) -> None:
    """The metadata says of no input that it is a state; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    entry.value = replace(Description.from_json(entry.value), states=()).to_json()


@pytest.fixture
def judge(subject: Callable[[str], Subject], folder: Path, tmp_path: Path) -> Callable[..., Row]:
    """The row of a model's artifact of one part, after a fault was planted in a copy of it."""

    def run(name: str, framework: str, plant: Plant | None = None) -> Row:
        model = subject(name)
        path = artifact_path(tmp_path, name, model.cases[-1].part, framework)
        for case in model.cases:
            shutil.copy(artifact_path(folder, name, case.part, framework), tmp_path)
        if plant:
            proto = onnx.load(path)
            before = proto.SerializeToString()
            plant(proto)
            assert proto.SerializeToString() != before
            onnx.save(proto, path)
        runner = next(name for name, source in ARTIFACTS.items() if source == framework)
        return model.judge(runner, open_runners(runner, name, model.weights, tmp_path))[-1]

    return run


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("name", ["language", "hyphenation", "forecast", "generator", "numbers", "rescale"])
def test_an_untouched_artifact_is_green(name, framework, judge):
    row = judge(name, framework)
    assert row.ok, row.faults
    assert row.score is not None


# The model, the fault, and what its row must say.
FAULTS = [
    ("language", swap_gates, "against oracle: valid steps differ by"),
    ("hyphenation", swap_gates, "against pytorch: valid steps differ by"),
    ("language", forget_lengths, "against oracle: final states differ by"),
    ("hyphenation", reverse_without_lengths, "against oracle: valid steps differ by"),
    ("language", flip_linear_before_reset, "against oracle: valid steps differ by"),
    ("forecast", flip_linear_before_reset, "against oracle: final states differ by"),
    ("hyphenation", forget_the_mask, "against oracle: padded steps differ by"),
    ("forecast", leak_padding, "padding, garbage: valid steps differ by"),
    ("language", bake_batch, "valid steps, .*differ by inf, .*batch 1 × 1: .*initial_h must have shape"),
    ("language", freeze_lengths, "against oracle: valid steps differ by"),
    ("forecast", misstate_lengths, "signature: the artifact says sequences = .*lengths=None"),
    ("language", misstate_rows, "signature: the artifact says batch_axis = seq, expected batch"),
    ("numbers", misstate_states, r"signature: the artifact says states = \(\), expected"),
]


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize(
    ("name", "plant", "said"), FAULTS, ids=[f"{name}-{plant.__name__}" for name, plant, _ in FAULTS]
)
def test_a_planted_fault_turns_the_row_red(name, plant, said, framework, judge):
    row = judge(name, framework, plant)
    assert not row.ok
    assert re.search(said, "\n".join(row.faults))


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_padding_that_leaks_shows_in_no_other_column(framework, judge):
    row = judge("forecast", framework, leak_padding)
    assert {fault.partition(":")[0] for fault in row.faults} == {"padding, garbage", "padding, longer"}


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_an_unmasked_head_shows_in_the_padded_steps_alone(framework, judge):
    row = judge("hyphenation", framework, forget_the_mask)
    assert all("padded steps" in fault for fault in row.faults), row.faults


@pytest.mark.parametrize(("name", "said"), [("language", "rows differ"), ("generator", "generated rows differ")])
def test_another_answer_turns_the_row_red(name, said, judge):
    row = judge(name, "pytorch", swap_gates)
    assert any(said in fault for fault in row.faults), row.faults


def test_a_red_row_ends_the_command_with_1(seqport, strict_json, folder, tmp_path):
    for path in folder.glob("forecast.*"):
        shutil.copy(path, tmp_path)
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path)
    assert code == 0 and "RED" not in out
    path = tmp_path / "forecast.keras.onnx"
    proto = onnx.load(path)
    leak_padding(proto)
    onnx.save(proto, path)
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path)
    assert code == 1
    assert "RED forecast onnx-from-keras on cpu: padding, garbage: valid steps differ by" in out
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path, "--json", "-")
    rows = {row["runner"]: row for row in strict_json(out)["rows"]}
    assert code == 1
    assert [name for name, row in rows.items() if not row["ok"]] == ["onnx-from-keras"]
    assert rows["onnx-from-keras"]["padding"]["garbage"]["valid"] > 0.1

"""Faults that an artifact could have: each takes one that is right, and makes it wrong in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


def stored(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
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
        weights = [stored(model, f"{way} {name}", arrays[name][index : index + 1]) for name in node.input[1:4]]
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
    zero, one, axis = (stored(model, f"leak {v}", np.array(v, np.int64)) for v in (0, 1, 2))
    axes = stored(model, "leak axes", np.array([1], np.int64))
    nothing = stored(model, "leak nothing", np.array(0, np.float32))
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
    node.input.append(stored(model, "baked", np.zeros((1, 3, attribute(node, "hidden_size")), np.float32)))


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


def mix_rows(model: onnx.ModelProto) -> None:
    """Every row sees a little of the others' first numbers, as behind a normalisation over the batch."""
    first = next(node for node in model.graph.node if "x" in node.input)
    rows, little = stored(model, "mix rows", np.array([0], np.int64)), stored(model, "mix", np.array(1e-2, np.float32))
    nodes = [
        helper.make_node("ReduceMean", ["x", rows], ["mixed"]),
        helper.make_node("Mul", ["mixed", little], ["mixed little"]),
        helper.make_node("Add", ["x", "mixed little"], ["mixed x"]),
    ]
    insert(model, first, *nodes)
    first.input[list(first.input).index("x")] = "mixed x"

"""What follows from packed layers step by step is computed for valid steps alone, and answers as when padded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .recurrent_graphs import HIDDEN, Form, feed_of, model_of, packed, run

RAGGED, STEPS = [3, 9, 1, 9, 4, 2, 7], 9
CLASSES = 400  # enough that leaving out its padding pays
FLOAT = TensorProto.FLOAT


class Graph:
    """A recurrent model whose outputs something is computed from.

    Args:
        form: of the layers; what they give is named "y".
    """

    def __init__(self, form: Form) -> None:
        self.form, self.model = form, model_of(form)
        self.batch_major = form.joined == "batch"
        joined = next(output for output in self.model.graph.output if output.name in ("y", f"joined{form.layers - 1}"))
        self.y = joined.name
        self.model.graph.output.remove(joined)

    def constant(self, array: np.ndarray, name: str) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, name: str, *shape: int) -> str:
        random = np.random.default_rng(len(name))
        return self.constant(random.normal(0, 0.4, shape).astype(np.float32), name)

    def add(self, op_type: str, *inputs: str, **attributes) -> str:
        name = f"{op_type}_{len(self.model.graph.node)}"
        self.model.graph.node.append(helper.make_node(op_type, list(inputs), [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def give(self, name: str, kind: int = FLOAT, *features: int | str) -> None:
        axes = ["B", "T"] if self.batch_major else ["T", "B"]
        self.model.graph.output.append(helper.make_tensor_value_info(name, kind, [*axes, *features]))

    def linear(self, x: str, width: int, columns: int, name: str = "linear") -> str:
        product = self.add("MatMul", x, self.weights(f"{name}.W", width, columns))
        return self.add("Add", product, self.weights(f"{name}.b", columns))


def require_alike(graph: Graph, lengths: list[int] = RAGGED, steps: int = STEPS, atol: float = 0.0) -> ModelProto:
    other, feed = packed(graph.model, 1.0), feed_of(graph.form, lengths, steps)
    theirs = run(other, feed)
    for name, value in run(graph.model, feed).items():
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=atol, err_msg=name)
    return other


def nodes_of(model: ModelProto, op_type: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == op_type]


def steps_computed(graph: Graph, model: ModelProto, op_type: str) -> list[int]:
    """How many entries each node of a kind computes, where these are numbers with a fraction."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {value.name for value in (*inferred.value_info, *inferred.output) if value.type.tensor_type.elem_type == 1}
    found = [node for node in nodes_of(model, op_type) if node.output[0] in floats]
    probe = ModelProto()
    probe.CopyFrom(model)
    known = {output.name for output in probe.graph.output}
    for node in found:
        if node.output[0] not in known:
            probe.graph.output.append(helper.make_tensor_value_info(node.output[0], FLOAT, None))
    answer = run(probe, feed_of(graph.form, RAGGED, STEPS))
    return [int(np.prod(answer[node.output[0]].shape[:2])) for node in found]


FORMS = [
    Form("LSTM", 2, "bidirectional"),
    Form("GRU", 1),
    Form("LSTM", 1, "reverse", joined="time", batch_first=False),
    Form("LSTM", 1, "bidirectional", joined="time", batch_first=False),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_head_is_computed_for_valid_steps_alone(form: Form) -> None:
    graph = Graph(form)
    logits = graph.linear(graph.y, form.num_directions * HIDDEN, CLASSES)
    graph.give(graph.add("LogSoftmax", logits, axis=2), FLOAT, CLASSES)
    graph.give(graph.add("ArgMax", logits, axis=-1, keepdims=0), TensorProto.INT64)
    graph.give(graph.add("ArgMax", logits, axis=2), TensorProto.INT64, 1)
    other = require_alike(graph)
    for op_type in ("MatMul", "Add", "LogSoftmax"):
        assert sum(RAGGED) + 1 in steps_computed(graph, other, op_type), op_type
    for lengths, steps in (([4], 4), ([1, 1, 1], 1), ([2, 5], 8), ([0, 3], 3), ([0, 0], 2)):
        if min(lengths):
            require_alike(graph, lengths, steps)
        assert run(other, feed_of(form, lengths, steps))


def test_what_stands_at_padded_steps_is_what_the_head_makes_of_zeros() -> None:
    graph = Graph(Form("LSTM"))
    logits = graph.linear(graph.y, HIDDEN, CLASSES)
    graph.give(logits, FLOAT, CLASSES)
    answer = run(packed(graph.model, 1.0), feed_of(graph.form, [2, 5], 5))[logits]
    (b,) = [numpy_helper.to_array(t) for t in graph.model.graph.initializer if t.name == "linear.b"]
    np.testing.assert_array_equal(answer[0, 2:], np.broadcast_to(b, (3, CLASSES)))


def _residual(graph: Graph, y: str) -> str:
    return graph.add("Add", y, graph.linear(graph.add("Tanh", y), HIDDEN, HIDDEN))


def _normalised(graph: Graph, y: str) -> str:
    return graph.add("LayerNormalization", y, graph.weights("scale", HIDDEN), graph.weights("shift", HIDDEN), axis=2)


def _normalised_by_hand(graph: Graph, y: str) -> str:
    centred = graph.add("Sub", y, graph.add("ReduceMean", y, graph.constant(np.array([2]), "axis"), keepdims=1))
    squares = graph.add("ReduceMean", graph.add("Mul", centred, centred), "axis", keepdims=1)
    epsilon = graph.constant(np.array([[[1e-5]]], np.float32), "epsilon")
    return graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", squares, epsilon)))


def _scored(graph: Graph, y: str) -> str:
    axis = graph.constant(np.array([-1]), "axis")
    score = graph.add("Squeeze", graph.linear(y, HIDDEN, 1), axis)
    return graph.add("Mul", y, graph.add("Unsqueeze", graph.add("Sigmoid", score), axis))


def _turned(graph: Graph, y: str) -> str:
    once = graph.add("Relu", graph.add("Transpose", y, perm=[1, 0, 2]))
    return graph.add("Transpose", once, perm=[1, 0, 2])


BETWEEN = [_residual, _normalised, _normalised_by_hand, _scored, _turned]


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("between", BETWEEN, ids=lambda make: make.__name__)
def test_nothing_is_padded_between_layers(between: Callable[[Graph, str], str], direction: str) -> None:
    graph = Graph(Form("LSTM"))
    middle = between(graph, graph.y)
    time_major = graph.add("Transpose", middle, perm=[1, 0, 2])
    shapes = {"W": (1, 4 * HIDDEN, HIDDEN), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    names = [graph.weights(f"{name}.second", *shape) for name, shape in shapes.items()]
    second = graph.add("LSTM", time_major, *names, "lengths_32", hidden_size=HIDDEN, direction=direction)
    joined = graph.add("Squeeze", second, graph.constant(np.array([1]), "direction"))
    graph.give(graph.add("Transpose", joined, perm=[1, 0, 2]), FLOAT, HIDDEN)
    # ONNX Runtime sums up means in an order that depends on how many there are.
    other = require_alike(graph, atol=1e-6)
    one_piece, feed = packed(graph.model, 1e9), feed_of(graph.form, RAGGED, STEPS)
    for name, value in run(one_piece, feed).items():
        np.testing.assert_array_equal(value, run(other, feed)[name], err_msg=name)
    assert len(nodes_of(other, "TopK")) == 1
    assert len(nodes_of(other, "Scan")) == 2
    assert not nodes_of(other, "Transpose"), "the second layer took a padded batch"


def _clipped(value: str, name: str) -> list[NodeProto]:
    """Lengths that end where a value, [T, B, F], does."""
    return [
        helper.make_node("Shape", [value], [f"{name}.T"], start=0, end=1),
        helper.make_node("Min", ["lengths", f"{name}.T"], [f"{name}.min"]),
        helper.make_node("Cast", [f"{name}.min"], [f"{name}.lengths"], to=TensorProto.INT32),
    ]


def test_layers_that_clip_their_lengths_anew_share_a_plan() -> None:
    graph = Graph(Form("LSTM", joined="time", batch_first=False))
    nodes = graph.model.graph.node
    cast = next(node for node in nodes if node.op_type == "Cast")
    nodes.remove(cast)

    for place, node in enumerate(_clipped("x", "first")):
        nodes.insert(place, node)
    first = next(node for node in nodes if node.op_type == "LSTM")
    first.input[4] = "first.lengths"
    backward = NodeProto()
    backward.CopyFrom(first)
    backward.name, backward.output[:] = "backward", ["Y_back"]
    backward.attribute.append(helper.make_attribute("direction", "reverse"))
    backward.attribute.remove(next(a for a in backward.attribute if a.name == "direction" and a.s == b"forward"))
    nodes.append(backward)
    back = graph.add("Squeeze", "Y_back", graph.constant(np.array([1]), "direction"))
    both = graph.add("Concat", graph.y, back, axis=2)
    nodes.extend(_clipped(both, "second"))
    shapes = {"W": (1, 4 * HIDDEN, 2 * HIDDEN), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    names = [graph.weights(f"{name}.second", *shape) for name, shape in shapes.items()]
    last = graph.add("LSTM", both, *names, "second.lengths", hidden_size=HIDDEN)
    graph.give(graph.add("Squeeze", last, "direction"), FLOAT, HIDDEN)
    other = require_alike(graph)
    assert len(nodes_of(other, "TopK")) == 1
    assert sum(RAGGED) + 1 in steps_computed(graph, other, "Concat")


def test_lengths_that_are_clipped_to_other_steps_are_others() -> None:
    graph = Graph(Form("LSTM", joined="time", batch_first=False))
    nodes = graph.model.graph.node
    nodes.remove(next(node for node in nodes if node.op_type == "Cast"))
    for place, node in enumerate(_clipped("x", "first")):
        nodes.insert(place, node)
    next(node for node in nodes if node.op_type == "LSTM").input[4] = "first.lengths"
    ends = [graph.constant(np.array([end]), f"end{end}") for end in (0, 4)]
    begun = graph.add("Slice", graph.y, *ends, "end0")
    nodes.extend(_clipped(begun, "second"))
    shapes = {"W": (1, 4 * HIDDEN, HIDDEN), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    names = [graph.weights(f"{name}.second", *shape) for name, shape in shapes.items()]
    last = graph.add("LSTM", begun, *names, "second.lengths", hidden_size=HIDDEN)
    joined = graph.add("Squeeze", last, graph.constant(np.array([1]), "direction"))
    graph.model.graph.output.append(helper.make_tensor_value_info(joined, FLOAT, ["begun", "B", HIDDEN]))
    require_alike(graph)


def _over_time(graph: Graph, y: str) -> str:
    return graph.add("Softmax", y, axis=1)


def _by_step(graph: Graph, y: str) -> str:
    return graph.add("Add", y, graph.weights("positions", STEPS, HIDDEN))


def _by_row(graph: Graph, y: str) -> str:
    return graph.add("Add", y, graph.weights("rows", len(RAGGED), 1, 1))


def _masked(graph: Graph, y: str) -> str:
    longest = graph.add("ReduceMax", "lengths", keepdims=1)
    return graph.add("Mul", y, graph.add("Cast", longest, to=FLOAT))


def _summed(graph: Graph, y: str) -> str:
    return graph.add("Sub", y, graph.add("ReduceMean", y, graph.constant(np.array([1]), "time"), keepdims=1))


def _with_itself(graph: Graph, y: str) -> str:
    scores = graph.add("Softmax", graph.add("MatMul", y, graph.add("Transpose", y, perm=[0, 2, 1])), axis=-1)
    return graph.add("MatMul", scores, y)


BEYOND = [_over_time, _by_step, _by_row, _masked, _summed, _with_itself]


@pytest.mark.parametrize("beyond", BEYOND, ids=lambda make: make.__name__)
def test_what_looks_beyond_its_step_stays_padded(beyond: Callable[[Graph, str], str]) -> None:
    graph = Graph(Form("LSTM"))
    middle = beyond(graph, graph.add("Tanh", graph.y))
    graph.give(graph.linear(middle, HIDDEN, CLASSES), FLOAT, CLASSES)
    other = require_alike(graph)
    assert steps_computed(graph, other, "MatMul")[-1] == len(RAGGED) * STEPS


def test_a_small_head_stays_where_it_is() -> None:
    graph = Graph(Form("LSTM"))
    graph.give(graph.linear(graph.y, HIDDEN, 3), FLOAT, 3)
    assert steps_computed(graph, require_alike(graph), "MatMul") == [len(RAGGED) * STEPS]

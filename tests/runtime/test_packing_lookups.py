"""Words in front of packed layers are looked up piece by piece, where nobody else wants their vectors."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .recurrent_graphs import INPUT_DIM, Form, feed_of, model_of, packed, run

RAGGED, STEPS, WORDS = [3, 9, 1, 9, 4, 2, 7], 9, 11
LOOKUP = [helper.make_node("Gather", ["table", "ids"], ["x"])]
FROM_THE_END = [
    helper.make_node("Less", ["ids", "nothing"], ["negative"]),
    helper.make_node("Add", ["ids", "words"], ["wrapped"]),
    helper.make_node("Where", ["negative", "wrapped", "ids"], ["word"]),
    helper.make_node("Gather", ["table", "word"], ["vector"], axis=0),
    helper.make_node("Mul", ["vector", "scale"], ["x"]),
]
WAYS = {"a lookup": LOOKUP, "with work around it": FROM_THE_END}


def model_with(front: list[NodeProto], form: Form) -> ModelProto:
    """The layers, taking what the front makes of ids."""
    model = model_of(form)
    random = np.random.default_rng(3)
    arrays = {
        "table": random.standard_normal((WORDS, INPUT_DIM), np.float32),
        "scale": random.standard_normal(INPUT_DIM, np.float32),
        "places": random.standard_normal((STEPS, INPUT_DIM), np.float32),
        "nothing": np.array(0),
        "words": np.array(WORDS),
    }
    used = {name for node in front for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in arrays if name in used)
    axes = ["B", "T"] if form.batch_first else ["T", "B"]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("ids", TensorProto.INT64, axes))
    for place, node in enumerate(front):
        model.graph.node.insert(place, node)
    return model


def feed_with(form: Form, lengths: list[int], steps: int) -> dict[str, np.ndarray]:
    feed = feed_of(form, lengths, steps)
    ids = np.random.default_rng(4).integers(0, WORDS, feed.pop("x").shape[:2])
    return {**feed, "ids": ids}


def is_laid_out(model: ModelProto) -> bool:
    """Whether vectors are looked up for the whole batch."""
    return any("table" in node.input for node in model.graph.node)


def require_alike(model: ModelProto, form: Form) -> ModelProto:
    other = packed(model, 1.0)
    for lengths, steps in ((RAGGED, STEPS), ([STEPS], STEPS), ([1, STEPS], STEPS)):
        feed = feed_with(form, lengths, steps)
        theirs = run(other, feed)
        for name, value in run(model, feed).items():
            np.testing.assert_array_equal(theirs[name], value, err_msg=name)
    return other


@pytest.mark.parametrize("front", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_words_are_looked_up_in_pieces(direction: str, batch_first: bool, front: list[NodeProto]) -> None:
    form = Form("LSTM", 2, direction, batch_first=batch_first)
    assert not is_laid_out(require_alike(model_with(front, form), form))


def test_lengths_that_are_clipped_to_the_steps_of_the_vectors_follow_the_words() -> None:
    form = Form("LSTM")
    model = model_with(LOOKUP, form)
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    cast.input[0] = "clipped"
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Transpose") + 1
    model.graph.node.remove(cast)
    clip = [
        helper.make_node("Shape", ["x_t"], ["T"], start=0, end=1),
        helper.make_node("Min", ["lengths", "T"], ["clipped"]),
        cast,
    ]
    for node in reversed(clip):
        model.graph.node.insert(place - 1, node)
    assert not is_laid_out(require_alike(model, form))


def test_vectors_that_somebody_else_reads_are_laid_out() -> None:
    form = Form("LSTM")
    for reader in (
        helper.make_node("Relu", ["x"], ["also"]),
        helper.make_node("Transpose", ["x"], ["also"], perm=[1, 0, 2]),
    ):
        model = model_with(LOOKUP, form)
        model.graph.node.append(reader)
        model.graph.output.append(helper.make_tensor_value_info("also", 1, ["P", "Q", INPUT_DIM]))
        other = require_alike(model, form)
        assert is_laid_out(other)
        scan = next(node for node in other.graph.node if node.op_type == "Scan")
        body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
        assert not any("table" in node.input for node in body.node), "looked up twice"


def test_what_depends_on_the_place_of_a_step_is_laid_out() -> None:
    form = Form("LSTM")
    front = [
        helper.make_node("Gather", ["table", "ids"], ["vector"]),
        helper.make_node("Add", ["vector", "places"], ["x"]),
    ]
    assert is_laid_out(require_alike(model_with(front, form), form))

"""Packed layers answer as the nodes that they replace, whatever the lengths and however time is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from seqport.runtime.rewriting.by_steps import by_steps
from seqport.runtime.rewriting.forms import native_form
from seqport.runtime.rewriting.packing import pack

from .recurrent_graphs import HIDDEN, Form, feed_of, model_of, run
from .recurrent_graphs import packed as packed_at

LENGTHS = {
    "ragged": ([3, 9, 1, 9, 4, 2, 7], 9),
    "below the padding": ([2, 5, 3], 8),
    "all equal": ([4, 4, 4], 4),
    "one row": ([6], 6),
    "one step": ([1, 1], 1),
    "many of one length": ([1] * 9 + [12], 12),
}
INCREMENTS = {"every end": 1e-6, "few": 3.0, "one piece": 1e9}


def packed(model: ModelProto, increment: float = 1e-6, form=native_form) -> ModelProto:
    """Cut at every end, where nothing else is said."""
    return packed_at(model, increment, form)


def require_equal(model: ModelProto, other: ModelProto, feed: dict[str, np.ndarray], atol: float = 0.0) -> None:
    theirs = run(other, feed)
    for name, value in run(model, feed).items():
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=atol, err_msg=name)


FORMS = [
    *(Form(cell, layers, direction) for cell in ("RNN", "GRU", "LSTM") for layers in (1, 3)
      for direction in ("forward", "reverse", "bidirectional")),
    *(Form(cell, 2, direction, given=True) for cell in ("GRU", "LSTM") for direction in ("forward", "bidirectional")),
    *(Form("LSTM", 2, direction, joined=joined, batch_first=False) for joined in ("", "raw", "time")
      for direction in ("forward", "bidirectional")),
    Form("LSTM", 1, "bidirectional", peepholes=True, given=True),
    Form("LSTM", 1, attributes=(("clip", 0.3),)),
    Form("LSTM", 1, attributes=(("input_forget", 1),)),
    Form("GRU", 1, attributes=(("linear_before_reset", 1),)),
    Form("RNN", 2, "bidirectional", attributes=(("activations", ["Relu", "Tanh"]),)),
    Form("LSTM", attributes=(("activations", ["LeakyRelu", "Tanh", "Tanh"]), ("activation_alpha", [0.1]))),
    Form("LSTM", 1, "bidirectional", attributes=(("activations", ["HardSigmoid", "Tanh", "Tanh"] * 2),
      ("activation_alpha", [0.2, 0.3]), ("activation_beta", [0.5, 0.4]))),
]  # fmt: skip


@pytest.mark.parametrize("increment", INCREMENTS.values(), ids=INCREMENTS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_packed_layers_answer_to_the_last_bit(form: Form, increment: float) -> None:
    model = model_of(form)
    other = packed(model, increment)
    assert not [node for node in other.graph.node if node.op_type in ("RNN", "GRU", "LSTM")]  # all inside the Scans
    for lengths, steps in LENGTHS.values():
        # The RNN node multiplies unpacked weights, and sums in an order that depends on the rows of the batch.
        require_equal(model, other, feed_of(form, lengths, steps), 1e-6 if form.cell == "RNN" else 0.0)


@pytest.mark.parametrize("increment", [1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_batches_of_any_size_are_cut_right(cell: str, increment: float) -> None:
    form = Form(cell, 2, "bidirectional", given=True)
    model = model_of(form)
    other = packed(model, increment)
    random = np.random.default_rng(int(increment))
    for _ in range(12):
        rows, steps = int(random.integers(2, 200)), int(random.integers(2, 60))
        draws = random.integers(1, steps + 1, rows), np.minimum(1 + random.exponential(steps / 4, rows), steps)
        for lengths in draws:
            require_equal(model, other, feed_of(form, lengths.astype(int).tolist(), steps))


@pytest.mark.parametrize("increment", INCREMENTS.values(), ids=INCREMENTS)
@pytest.mark.parametrize("reset", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("cell", ["RNN", "GRU"])
def test_by_steps_answers_alike(cell: str, direction: str, reset: int, increment: float) -> None:
    attributes = (("linear_before_reset", reset),) if cell == "GRU" else ()
    form = Form(cell, 2, direction, given=True, attributes=attributes)
    model = model_of(form)
    other = packed(model, increment, by_steps)
    for lengths, steps in LENGTHS.values():
        require_equal(model, other, feed_of(form, lengths, steps), 2e-6)


def test_by_steps_is_no_form_of_what_it_does_not_know() -> None:
    for form in (
        Form("LSTM"),
        Form("RNN", attributes=(("clip", 1.0),)),
        Form("RNN", attributes=(("activations", ["Softsign"]),)),
    ):
        assert not pack(model_of(form), Path(), lambda _: 1.0, by_steps)


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_a_row_without_steps_keeps_its_state(cell: str) -> None:
    form = Form(cell, 2, given=True)
    other = packed(model_of(form))
    feed = feed_of(form, [3, 0, 5, 0], 6)
    answer = run(other, feed)
    for state in form.states:
        for layer in range(2):
            np.testing.assert_array_equal(
                answer[f"{state}_T.{layer}"][:, [1, 3]], feed[f"{state}_0.{layer}"][:, [1, 3]]
            )
    assert not answer["y"][[1, 3]].any()
    # The other rows answer as without it.
    kept = {name: value[[0, 2]] if value.shape[0] == 4 else value[:, [0, 2]] for name, value in feed.items()}
    np.testing.assert_array_equal(run(other, kept)["y"], answer["y"][[0, 2]])


@pytest.mark.parametrize(
    ("cell", "make"),
    [("RNN", native_form), ("GRU", native_form), ("LSTM", native_form), ("RNN", by_steps), ("GRU", by_steps)],
)
def test_a_batch_of_empty_rows_keeps_its_states(cell: str, make) -> None:
    form = Form(cell, 2, "bidirectional", given=True)
    feed = feed_of(form, [0, 0], 4)
    answer = run(packed(model_of(form), form=make), feed)
    assert answer["y"].shape == (2, 4, 2 * HIDDEN)
    assert not answer["y"].any()
    for state in form.states:
        for layer in range(2):
            np.testing.assert_array_equal(answer[f"{state}_T.{layer}"], feed[f"{state}_0.{layer}"])


@pytest.mark.parametrize("length", [7, 40, -1, -8, -12])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_length_beyond_the_axis_fails_as_in_the_native_node(length: int, batch_first: bool) -> None:
    form = Form("LSTM", batch_first=batch_first)
    feed = feed_of(form, [6, 2, 3], 6)
    feed["lengths"][1] = length
    for model in (model_of(form), packed(model_of(form))):
        with pytest.raises(Exception, match=r"RUNTIME_EXCEPTION|INVALID_ARGUMENT|FAIL"):
            run(model, feed)


@pytest.mark.parametrize("fixed", [{"T": 9}, {"B": 7}, {"T": 9, "B": 7}], ids=str)
def test_fixed_axes_stay(fixed: dict[str, int]) -> None:
    # ONNX Runtime folds what it knows of the sizes, and checks the shapes that follow.
    form = Form("LSTM", 2, "bidirectional", given=True)
    model = model_of(form)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in fixed:
                dim.dim_value = fixed[dim.dim_param]
    require_equal(model, packed(model), feed_of(form, *LENGTHS["ragged"]))


def test_weights_are_held_once() -> None:
    def nbytes(model: ModelProto) -> int:
        arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        return sum(array.nbytes for array in arrays if array.dtype == np.float32)

    for form in (Form("LSTM", 3), Form("GRU", 2, "bidirectional"), Form("RNN", 2)):
        model = model_of(form)
        for make in (native_form, *([by_steps] if form.cell != "LSTM" else [])):
            assert nbytes(packed(model, form=make)) < 1.1 * nbytes(model)


def test_layers_of_one_direction_share_a_scan() -> None:
    def scans(form: Form) -> int:
        return sum(node.op_type == "Scan" for node in packed(model_of(form)).graph.node)

    assert scans(Form("LSTM", 3)) == 1
    assert scans(Form("LSTM", 3, "reverse")) == 1
    assert scans(Form("LSTM", 3, "bidirectional")) == 3


def test_a_state_that_comes_from_a_layer_before_it_is_waited_for() -> None:
    # The second layer begins with the first one's last state: they cannot share a Scan.
    model = model_of(Form("LSTM", 2))
    second = model.graph.node[-3]
    assert second.name == "layer1"
    second.input.extend(["h_T.0", "c_T.0"][: 7 - len(second.input)] if len(second.input) == 5 else [])
    second.input[5], second.input[6] = "h_T.0", "c_T.0"
    other = packed(model)
    assert sum(node.op_type == "Scan" for node in other.graph.node) == 2
    require_equal(model, other, feed_of(Form("LSTM", 2), *LENGTHS["ragged"]))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [(6, 9), (9, 6)])
def test_layers_that_share_lengths_may_be_padded_to_different_steps(batch_first: bool, steps: tuple[int, int]) -> None:
    form = Form("LSTM", 1, "bidirectional", batch_first=batch_first)
    one, other = model_of(form, 0), model_of(form, 1)
    for node in other.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name != "lengths":
                    names[place] = f"other.{name}" if name else ""
        node.name = f"other.{node.name}" if node.name else ""
    for value in (*other.graph.initializer, *other.graph.input, *other.graph.output):
        if value.name != "lengths":
            value.name = f"other.{value.name}"
    for value in (*other.graph.input, *other.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "T":
                dim.dim_param = "U"
    one.graph.node.extend(other.graph.node)
    one.graph.initializer.extend(other.graph.initializer)
    one.graph.input.extend(value for value in other.graph.input if value.name != "lengths")
    one.graph.output.extend(other.graph.output)
    feed = feed_of(form, [6, 2, 4, 1], steps[0])
    feed["other.x"] = feed_of(form, [6, 2, 4, 1], steps[1], seed=1)["x"]
    require_equal(one, packed(one), feed)


def test_encoder_and_decoder_have_lengths_of_their_own() -> None:
    model = model_of(Form("LSTM", 2))
    model.graph.input.append(helper.make_tensor_value_info("others", 7, ["B"]))
    model.graph.node.insert(0, helper.make_node("Cast", ["others"], ["others_32"], to=6))
    next(node for node in model.graph.node if node.name == "layer1").input[4] = "others_32"
    feed = feed_of(Form("LSTM", 2), [9, 9, 9, 9], 9)
    for own, theirs in (([3, 9, 1, 5], [9, 2, 4, 4]), ([9, 2, 2, 2], [1, 1, 9, 9])):
        feed["lengths"], feed["others"] = np.array(own), np.array(theirs)
        require_equal(model, packed(model), feed)


def test_activations_of_two_kinds_with_numbers_stay() -> None:
    mixed = ["LeakyRelu", "LeakyRelu", "Tanh", "Sigmoid", "Tanh", "Tanh"]
    form = Form("LSTM", 1, "bidirectional", attributes=(("activations", mixed), ("activation_alpha", [0.3, 0.05])))
    assert pack(model_of(form), Path(), lambda _: 1.0) == []


def test_an_input_that_nothing_reads_stays_optional() -> None:
    model = model_of(Form("LSTM"))
    model.graph.input.append(helper.make_tensor_value_info("unread", 1, [1]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unread"))
    require_equal(model, packed(model), feed_of(Form("LSTM"), *LENGTHS["ragged"]))


@pytest.mark.parametrize("tracks", [1, 2])
@pytest.mark.parametrize(
    "lengths",
    [[300] * 28 + [300 + 7 * i for i in range(1, 101)], [200 + i for i in range(128)], [1] * 500 + [400], [50] * 64],
    ids=["late", "near", "one long", "equal"],
)
def test_blocks_have_room_for_little_more_than_what_is_computed(lengths: list[int], tracks: int) -> None:
    form = Form("LSTM", 1, "bidirectional" if tracks == 2 else "forward")
    model = packed(model_of(form), 3.0)
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    model.graph.output.append(helper.make_tensor_value_info(scan.output[-1], 1, ["K", "C", HIDDEN]))
    blocks = run(model, feed_of(form, lengths, max(lengths)))[scan.output[-1]]
    assert blocks.shape[0] * blocks.shape[1] < 3.6 * tracks * sum(lengths)


JOINS = {
    "axes in another order": ([0, 3, 2, 1], [0, 0, -1]),
    "rows as features": ([0, 1, 3, 2], [0, 0, -1]),
    "batch first at once": ([2, 0, 1, 3], [0, 0, -1]),
    "one axis for all": ([0, 2, 1, 3], [1, -1, 2 * HIDDEN]),
    "directions apart": ([0, 2, 1, 3], [0, 0, 2, -1]),
    "more of one axis": ([0, 2, 1, 3], [0, -1, HIDDEN]),
}


@pytest.mark.parametrize(("perm", "shape"), JOINS.values(), ids=JOINS)
def test_outputs_that_are_joined_otherwise_are_joined_so(perm: list[int], shape: list[int]) -> None:
    form = Form("LSTM", 1, "bidirectional", joined="time")
    model = model_of(form)
    transpose = next(node for node in model.graph.node if "joined0.rows" in node.output)
    transpose.attribute[0].CopyFrom(helper.make_attribute("perm", perm))
    held = next(tensor for tensor in model.graph.initializer if tensor.name == "joined0.shape")
    held.CopyFrom(numpy_helper.from_array(np.array(shape), "joined0.shape"))
    axes = [f"axis_{place}" for place in range(len(shape))]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("joined0", 1, axes))
    require_equal(model, packed(model), feed_of(form, *LENGTHS["ragged"]))


def test_a_value_inside_a_join_may_be_read_too() -> None:
    form = Form("LSTM", 1, "bidirectional")
    model = model_of(form)
    model.graph.output.append(helper.make_tensor_value_info("joined0.rows", 1, ["T", "B", 2, HIDDEN]))
    require_equal(model, packed(model), feed_of(form, *LENGTHS["ragged"]))


def test_what_cannot_be_packed_stays(tmp_path: Path) -> None:
    model = model_of(Form("LSTM"))
    without_lengths = model_of(Form("LSTM"))
    next(node for node in without_lengths.graph.node if node.op_type == "LSTM").input[4] = ""
    computed = model_of(Form("LSTM"))
    weight = computed.graph.initializer[0]
    computed.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    older = model_of(Form("LSTM"))
    older.opset_import[0].version = 14
    for kept in (without_lengths, computed, older):
        before = kept.SerializeToString()
        assert pack(kept, tmp_path, lambda _: 1.0) == []
        assert kept.SerializeToString() == before
    assert pack(model, tmp_path, lambda _: 1.0)


def test_a_value_that_someone_else_reads_keeps_its_name() -> None:
    # Y, the joined value and the batch-major one are outputs of the graph at once.
    model = model_of(Form("LSTM", 2))
    for layer in (0, 1):
        model.graph.output.append(helper.make_tensor_value_info(f"Y{layer}", 1, ["T", 1, "B", HIDDEN]))
        model.graph.output.append(helper.make_tensor_value_info(f"joined{layer}", 1, ["T", "B", HIDDEN]))
    require_equal(model, packed(model), feed_of(Form("LSTM", 2), *LENGTHS["ragged"]))

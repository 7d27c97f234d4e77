"""Sequences of any lengths: the same answers as each of them alone, in order, and trimmed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seqport.runtime import (
    ArtifactError,
    InputDtypeError,
    InputError,
    InputNameError,
    InputRankError,
    InputSizeError,
    LengthsError,
    Session,
    read_description,
)
from seqport.runtime.artifact import METADATA_KEY, Description, SequenceInfo, TensorInfo

RANDOM = np.random.default_rng(0)
LENGTHS = [3, 1, 7, 5, 7, 2, 1, 4]


def _sequences(lengths=LENGTHS) -> list[np.ndarray]:
    return [RANDOM.normal(size=(steps, 3)).astype(np.float32) for steps in lengths]


def _alone(session: Session, x: np.ndarray, **states: np.ndarray) -> dict[str, np.ndarray]:
    """The model's answer to one unpadded row, without its batch axis."""
    states = {name: value[:, None] for name, value in states.items()}
    out = session.run({"x": x[None], "lengths": np.array([len(x)]), **states})
    return {name: value[0] if name == "output" else value[:, 0] for name, value in out.items()}


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predict_answers_as_each_row_alone(artifact, cell, directions, batch_size) -> None:
    session = Session(artifact(cell, directions=directions), "cpu")
    items = _sequences()
    answers = session.predict(items, batch_size=batch_size)
    assert len(answers) == len(items)
    for answer, item in zip(answers, items, strict=True):
        assert answer["output"].shape == (len(item), 5)
        _assert_same(answer, _alone(session, item))


def test_every_form_of_items(artifact) -> None:
    session = Session(artifact(), "cpu")
    items = _sequences([2, 3])
    expected = [_alone(session, item) for item in items]
    forms: list[Any] = [items, tuple(items), iter(items), [{"x": i} for i in items], [i.tolist() for i in items]]
    for form in forms:
        for answer, value in zip(session.predict(form), expected, strict=True):
            _assert_same(answer, value)
    assert session.predict([]) == []


def test_an_answer_does_not_keep_its_batch(artifact) -> None:
    answer = Session(artifact(), "cpu").predict(_sequences())[0]
    assert all(value.base is None for value in answer.values())


def test_tokens(artifact) -> None:
    session = Session(artifact("gru", vocab_size=6), "cpu")
    first, second = session.predict([[1, 2, 3], np.array([5])])
    out = session.run({"ids": [[1, 2, 3], [5, 0, 0]], "lengths": [3, 1]})
    np.testing.assert_allclose(first["output"], out["output"][0], atol=1e-6)
    np.testing.assert_allclose(second["output"], out["output"][1, :1], atol=1e-6)


def test_states_are_zero_where_an_item_leaves_them_out(artifact) -> None:
    session = Session(artifact("lstm", states=True), "cpu")
    zero, h_0 = np.zeros((1, 4), np.float32), RANDOM.normal(size=(1, 4)).astype(np.float32)
    items = _sequences([3, 5])
    bare, given = session.predict([items[0], {"x": items[1], "h_0": h_0}])
    _assert_same(bare, _alone(session, items[0], h_0=zero, c_0=zero))
    _assert_same(given, _alone(session, items[1], h_0=h_0, c_0=zero))


def test_padding_has_the_value_that_the_model_takes_for_it(artifact, monkeypatch) -> None:
    session = Session(artifact(padding_value=-9.0), "cpu")
    seen: list[np.ndarray] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: seen.append(inputs["x"]) or run(inputs))
    session.predict(_sequences([1, 3]))
    assert (seen[0][0, 1:] == -9.0).all()
    assert (seen[0][0, :1] != -9.0).all()


def test_a_fixed_axis_is_filled_up(artifact) -> None:
    """And the lengths still tell its padding from its data."""
    path = artifact("gru", seq=6)
    _describe(path, lambda d: replace(d, sequences=(replace(d.sequences[0], axis=6),)))
    fixed, free = Session(path, "cpu"), Session(artifact("gru"), "cpu")
    items = _sequences([2, 6])
    for answer, item in zip(fixed.predict(items, batch_size=1), items, strict=True):
        _assert_same(answer, _alone(free, item))
    with pytest.raises(InputSizeError, match=r"item 0: sequence 'x' has 7 steps, expected at most 6: the file fixes"):
        fixed.predict(_sequences([7]))


@pytest.mark.parametrize(
    ("item", "error", "match"),
    [
        (np.ones((0, 3), np.float32), LengthsError, r"sequence 'x' has 0 steps, expected at least 1: leave it out"),
        ([], LengthsError, r"sequence 'x' has 0 steps"),
        (
            np.ones((2, 4), np.float32),
            InputSizeError,
            r"'x' has the shape \[2, 4\], expected \[seq, 3\]",
        ),
        (np.ones(3, np.float32), InputRankError, r"'x' has 1 axes, \[3\], expected 2, \[seq, 3\]$"),
        (np.ones((1, 2, 3), np.float32), InputRankError, r"'x' has 3 axes, \[1, 2, 3\], expected 2, \[seq, 3\]$"),
        (np.ones((2, 3)), InputDtypeError, r"'x' came as float64, expected float32"),
        ({"y": np.ones((2, 3), np.float32)}, InputNameError, r"'x' missing and 'y' unknown"),
        ({"x": np.ones((2, 3), np.float32), "lengths": 2}, InputNameError, r"'lengths' came: leave it out"),
    ],
)
def test_a_wrong_item_is_named(artifact, item: Any, error: type[InputError], match: str) -> None:
    session = Session(artifact(), "cpu")
    good = _sequences([2])[0]
    with pytest.raises(error, match=rf"^item 1: .*{match}") as caught:
        session.predict([good, item, good])
    assert type(caught.value) is error


def test_no_rows_a_batch(artifact) -> None:
    with pytest.raises(InputSizeError, match="batch_size is 0, expected at least 1"):
        Session(artifact(), "cpu").predict(_sequences(), batch_size=0)


def _describe(path, change) -> None:
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: change(read_description(path)).to_json()})
    onnx.save(model, path)


def test_a_model_without_sequences_batches_rows_of_one_shape(tmp_path) -> None:
    """Nothing tells padding from data here, so nothing is padded. Two inputs, each needed."""
    infos = [TensorInfo("a", "float32", ("n", "w")), TensorInfo("b", "float32", ("n",))]
    out = TensorInfo("sum", "float32", ("n",))
    nodes = [
        helper.make_node("ReduceMean", ["a", "last"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "b"], ["sum"]),
    ]
    value = lambda i: helper.make_tensor_value_info(i.name, TensorProto.FLOAT, i.axes)  # noqa: E731
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    model = helper.make_model(
        helper.make_graph(nodes, "mean", [value(i) for i in infos], [value(out)], [last]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    description = Description(tuple(infos), (out,), batch_axis="n")
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, tmp_path / "mean.onnx")
    session = Session(tmp_path / "mean.onnx", "cpu")
    rows = [[1, 2, 3], [4], [5, 6, 7], [8]]
    answers = session.predict([{"a": row, "b": 10} for row in rows])
    assert [float(answer["sum"]) for answer in answers] == [12, 14, 16, 18]
    with pytest.raises(InputNameError, match=r"item 0: a bare value came, and the model has the inputs \['a', 'b'\]"):
        session.predict([[1.0]])


def test_two_sequences_have_their_own_lengths(tmp_path) -> None:
    """An LSTM over one axis beside a GRU over another."""
    infos, outputs, nodes, weights, sequences = [], [], [], [], []
    for name, op, gates in (("s", "LSTM", 4), ("t", "GRU", 3)):
        weights += [
            helper.make_tensor(f"W_{name}", TensorProto.FLOAT, [1, gates * 2, 1], RANDOM.normal(size=gates * 2)),
            helper.make_tensor(f"R_{name}", TensorProto.FLOAT, [1, gates * 2, 2], RANDOM.normal(size=gates * 4)),
        ]
        nodes += [
            helper.make_node("Cast", [f"n_{name}"], [f"l_{name}"], to=TensorProto.INT32),
            helper.make_node(
                op, [f"x_{name}", f"W_{name}", f"R_{name}", "", f"l_{name}"], ["", f"h_{name}"], hidden_size=2
            ),
        ]
        infos += [TensorInfo(f"x_{name}", "float32", (name, "batch", 1)), TensorInfo(f"n_{name}", "int64", ("batch",))]
        outputs.append(TensorInfo(f"h_{name}", "float32", (1, "batch", 2)))
        sequences.append(SequenceInfo(name, "batch", f"n_{name}", {f"x_{name}": 0}, {}))
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    value = lambda i: helper.make_tensor_value_info(i.name, types[i.dtype], i.axes)  # noqa: E731
    graph = helper.make_graph(nodes, "two", [value(i) for i in infos], [value(o) for o in outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    description = Description(tuple(infos), tuple(outputs), tuple(sequences))
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, tmp_path / "two.onnx")
    session = Session(tmp_path / "two.onnx", "cpu")
    sizes = [(3, 1), (1, 4), (2, 2)]
    items = [
        {"x_s": RANDOM.normal(size=(s, 1)).astype("f"), "x_t": RANDOM.normal(size=(t, 1)).astype("f")} for s, t in sizes
    ]
    for item, answer in zip(items, session.predict(items), strict=True):
        lengths = {f"n_{name}": np.array([len(item[f"x_{name}"])]) for name in "st"}
        alone = session.run({**{name: value[:, None] for name, value in item.items()}, **lengths})
        for name, found in answer.items():
            np.testing.assert_allclose(found, alone[name][:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda d: replace(d, outputs=(replace(d.outputs[0], axes=("rows", "seq", 5)), *d.outputs[1:])),
            r"'output' \[rows, seq, 5\] lacks the batch axis 'batch': use run",
        ),
        (
            lambda d: replace(d, sequences=(replace(d.sequences[0], batch_axis=1),)),
            "the file fixes its batch axis to 1: use run, or export with a dynamic batch axis",
        ),
    ],
)
def test_a_model_whose_rows_cannot_be_batched(artifact, change, match) -> None:
    path = artifact()
    _describe(path, change)
    session = Session(path, "cpu")
    with pytest.raises(ArtifactError, match=rf"rows cannot be batched, because .*{match}"):
        session.predict(_sequences())

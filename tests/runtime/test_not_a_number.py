"""NaN in, NaN out: on seqport's operators where ONNX Runtime's nodes or the model itself give it, else refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import InputValueError, KernelsError, Session
from seqport.runtime.rewriting.own_layers import CELLS

from .own_layers import Layer

OPSET = [helper.make_opsetid("", 18)]
X = [Input("x", ("batch", "seq", 4)), Input("lengths", ("batch",), "int64")]


class Tagger(torch.nn.Module):
    def __init__(self, cell: str, *, pools: bool = False, fills: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = getattr(torch.nn, cell)(4, 6, batch_first=True), torch.nn.Linear(6, 2)
        self.pools, self.fills = pools, fills

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = torch.where(torch.isnan(x), torch.zeros_like(x), x) if self.fills else x
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y = self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))[0])
        return y.amax(1) if self.pools else y


def exported(model: Tagger, folder: Path) -> Path:
    return export(model.eval(), folder / "tagger.onnx", inputs=X, outputs=["y"]).path


def batch(place: tuple[int, int, int]) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)
    x[place] = np.nan
    return {"x": x, "lengths": np.array([5, 3])}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_plain_files_answer_as_onnxruntimes_nodes_do(cell: str, bias: bool, tmp_path: Path) -> None:
    for direction, hidden in itertools.product(("forward", "bidirectional"), (5, 20)):
        layer = Layer(cell, direction, hidden=hidden)
        model = layer.model()
        if not bias:
            model.graph.node[0].input[3] = ""
        onnx.save(model, tmp_path / "layer.onnx")
        ours, theirs = (Session(tmp_path / "layer.onnx", "cpu", kernels=k) for k in ("seqport", "onnxruntime"))
        assert ours.nan == theirs.nan == "as-onnxruntime"
        for name, value in itertools.product(("x", *layer.states), (np.nan, np.inf, -np.inf)):
            feed = layer.feed([4, 2, 3], 4)
            feed[name][0, 1, 1] = value
            expected = theirs.run(feed)
            for output, found in ours.run(feed).items():
                np.testing.assert_allclose(found, expected[output], rtol=1e-5, atol=1e-5, err_msg=f"{name} {value}")


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_exported_models_answer_nan_as_pytorch_does(cell: str, tmp_path: Path) -> None:
    model = Tagger(cell)
    session = Session(exported(model, tmp_path), "cpu", kernels="seqport")
    assert session.nan == "propagate"
    for place in ((0, 1, 2), (1, 1, 0), (1, 4, 0)):
        feed = batch(place)
        with torch.no_grad():
            expected = model(*map(torch.from_numpy, feed.values())).numpy()
        np.testing.assert_allclose(session.run(feed)["y"], expected, atol=1e-5)
        rows = [feed["x"][0], feed["x"][1, :3]]
        for answer, want, steps in zip(session.predict(rows), expected, (5, 3), strict=True):
            np.testing.assert_allclose(answer["y"], want[:steps], atol=1e-5)


@pytest.mark.parametrize(("kernels", "pools"), [("onnxruntime", False), ("auto", True)])
def test_nan_is_refused_where_a_node_hides_it_and_never_in_the_padding(
    kernels: str, pools: bool, tmp_path: Path
) -> None:
    model = Tagger("GRU", pools=pools)
    session = Session(exported(model, tmp_path), "cpu", kernels=kernels)
    assert session.nan == "error"
    with pytest.raises(InputValueError, match=r"input 'x' holds NaN at row 1, step 1, index \[1, 1, 0\], and ONNX Run"):
        session.run(batch((1, 1, 0)))
    with pytest.raises(InputValueError, match=r"^item 1: input 'x' holds NaN at row 0, step 2"):
        session.predict([np.zeros((3, 4), np.float32), batch((0, 2, 0))["x"][0]])
    feed = batch((1, 3, 0))
    with torch.no_grad():
        expected = model(*map(torch.from_numpy, feed.values())).numpy()
    np.testing.assert_allclose(session.run(feed)["y"], expected, atol=1e-5)


def test_nan_in_a_chunk_is_refused_where_that_was_asked_for(tmp_path: Path) -> None:
    stream = Session(exported(Tagger("GRU"), tmp_path), "cpu", nan="error").stream()
    stream.push(batch((1, 4, 0))["x"][0])
    with pytest.raises(InputValueError, match=r'input \'x\' holds NaN at step 4, index \[4, 0\], and nan="error"'):
        stream.push(batch((1, 4, 0))["x"][1])
    assert stream.steps == 5


def test_a_model_that_asks_for_nan_itself_gets_it(tmp_path: Path) -> None:
    model = Tagger("GRU", fills=True)
    path = exported(model, tmp_path)
    feed = batch((0, 1, 2))
    with torch.no_grad():
        expected = model(*map(torch.from_numpy, feed.values())).numpy()
    for kernels in ("auto", "onnxruntime"):
        np.testing.assert_allclose(Session(path, "cpu", kernels=kernels).run(feed)["y"], expected, atol=1e-5)


ASKED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "filled": lambda x: torch.where(torch.isnan(x), 0.0, x),
    "kept": lambda x: torch.where(~torch.isnan(x), x, 0.0),
    "compared with itself": lambda x: torch.where(x == x, x, 0.0),
    "filled by rows": lambda x: x.masked_fill(torch.isnan(x).any(-1, keepdim=True), 0.0),
    "filled where all are there": lambda x: torch.where((~torch.isnan(x)).all(-1, keepdim=True), x, 0.0),
    "or large": lambda x: x.masked_fill(torch.isnan(x) | (x > 3), 0.0),
    "scaled, then filled": lambda x: torch.where(torch.isnan(x), 0.0, (x - 0.5) / 2),
    "converted": lambda x: torch.nan_to_num(x),
}
NOT_ASKED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "filled the wrong way": lambda x: torch.where(torch.isnan(x), x, 0.0),
    "another is asked": lambda x: torch.where(torch.isnan(x.roll(1, 1)), 0.0, x),
    "and large": lambda x: x.masked_fill(torch.isnan(x) & (x.roll(1, 1) > 3), 0.0),
    "counted": lambda x: x + torch.isnan(x).sum(1, keepdim=True),
    "a step's mean is filled": lambda x: torch.where(torch.isnan(x), 0.0, x.cumsum(1)),
}


class Two(torch.nn.Module):
    """One input whose NaN the model may replace, and another."""

    def __init__(self, fill: Callable[[torch.Tensor], torch.Tensor], *, other: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = (torch.nn.GRU(4, 6, batch_first=True) for _ in range(2))
        self.fill, self.other = fill, other

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        y = self.one(self.fill(x))[0]
        return y + self.two(z)[0] if self.other else y * z.mean()


def two(fill: Callable[[torch.Tensor], torch.Tensor], folder: Path, *, other: bool = False) -> tuple[Two, Path]:
    model = Two(fill, other=other).eval()
    inputs = [Input(name, ("batch", "seq", 4)) for name in ("x", "z")]
    return model, export(model, folder / "two.onnx", inputs=inputs, outputs=["y"]).path


@pytest.mark.parametrize("kind", ASKED)
def test_what_a_model_replaces_reaches_onnxruntimes_nodes(kind: str, tmp_path: Path) -> None:
    model, path = two(ASKED[kind], tmp_path)
    session = Session(path, "cpu", kernels="onnxruntime", nan="propagate")
    feed = {"x": batch((0, 1, 2))["x"], "z": np.ones((2, 5, 4), np.float32)}
    with torch.no_grad():
        expected = model(*map(torch.from_numpy, feed.values())).numpy()
    np.testing.assert_allclose(session.run(feed)["y"], expected, atol=1e-5)


@pytest.mark.parametrize("kind", NOT_ASKED)
def test_a_question_that_replaces_nothing_exempts_nothing(kind: str, tmp_path: Path) -> None:
    _, path = two(NOT_ASKED[kind], tmp_path)
    with pytest.raises(KernelsError, match="cannot be promised: ONNX Runtime's GRU 'one/GRU' turns NaN into a number"):
        Session(path, "cpu", kernels="onnxruntime", nan="propagate")


def test_nan_that_one_input_may_hold_is_refused_in_another(tmp_path: Path) -> None:
    _, path = two(ASKED["filled"], tmp_path, other=True)
    with pytest.raises(KernelsError, match="ONNX Runtime's GRU 'two/GRU' turns NaN into a number"):
        Session(path, "cpu", kernels="onnxruntime", nan="propagate")
    session = Session(path, "cpu", kernels="onnxruntime")
    assert session.nan == "error"
    with pytest.raises(InputValueError, match=r"input 'z' holds NaN at row 0, "):
        session.run({"x": np.zeros((2, 5, 4), np.float32), "z": batch((0, 1, 2))["x"]})


def test_what_cannot_be_promised_is_refused(tmp_path: Path) -> None:
    path = exported(Tagger("GRU"), tmp_path)
    with pytest.raises(KernelsError, match="cannot be promised: ONNX Runtime's GRU 'rnn/GRU' turns NaN into a number"):
        Session(path, "cpu", kernels="onnxruntime", nan="propagate")
    with pytest.raises(KernelsError, match="nan is 'ignore', expected one of 'error', 'propagate', 'as-onnxruntime'"):
        Session(path, "cpu", nan="ignore")
    assert Session(path, "cpu", nan="as-onnxruntime").run(batch((0, 0, 0)))["y"].shape == (2, 5, 2)


def test_masked_steps_are_padding_too(tmp_path: Path) -> None:
    """A mask of whole steps, time-major: what it leaves out may hold NaN."""
    from seqport.runtime.artifact import METADATA_KEY, Description, SequenceInfo, TensorInfo

    sequence = SequenceInfo("seq", "batch", None, {"x": 0, "keep": 0}, {"y": 0})
    infos = (TensorInfo("x", "float32", ("seq", "batch")), TensorInfo("keep", "bool", ("seq", "batch")))
    description = Description(infos, (TensorInfo("y", "float32", ("seq", "batch")),), (sequence,))
    nodes = [helper.make_node("Where", ["keep", "x", "zero"], ["y"])]
    zero = numpy_helper.from_array(np.zeros((), np.float32), "zero")
    values = [helper.make_tensor_value_info(i.name, t, i.axes) for i, t in zip(infos, (1, 9), strict=True)]
    outputs = [helper.make_tensor_value_info("y", 1, ("seq", "batch"))]
    model = helper.make_model(helper.make_graph(nodes, "g", values, outputs, [zero]), ir_version=9, opset_imports=OPSET)
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", "cpu", nan="error")
    x, keep = np.array([[1, np.nan], [2, 3]], np.float32), np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(session.run({"x": x, "keep": keep})["y"], [[1, 0], [2, 3]])
    with pytest.raises(InputValueError, match="at row 1, step 0"):
        session.run({"x": x, "keep": ~keep})


def test_a_mask_of_steps_hides_nothing(tmp_path: Path) -> None:
    """What brings kept steps to the front sorts whole numbers, which hold no NaN."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    x = keras.Input((None, 4), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.GRU(6, return_sequences=True)(layers.Masking()(x))))
    session = Session(export(model, tmp_path / "k.onnx").path, "cpu", kernels="seqport")
    assert session.nan == "propagate"
    feed = batch((0, 2, 1))["x"]
    feed[1, 3:] = 0
    (found,) = session.run({"x": feed}).values()
    np.testing.assert_allclose(found, np.asarray(model(feed)), atol=1e-5)

"""Recurrent graphs of every form that ONNX allows, with random weights, written with onnx.helper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from seqport.runtime.rewriting.candidates import FormOf
from seqport.runtime.rewriting.forms import native_form
from seqport.runtime.rewriting.packing import pack

INPUT_DIM, HIDDEN = 5, 6
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FLOAT = TensorProto.FLOAT
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Form:
    """A stack of recurrent layers, as exporters write them.

    Attributes:
        given: initial states are inputs, and final states outputs.
        joined: "batch" for [B, T, D · H], "time" for [T, B, D · H], "raw" for ONNX's own Y; "" for final states only.
        batch_first: the input is [B, T, I].
    """

    cell: str = "LSTM"
    layers: int = 1
    direction: str = "forward"
    given: bool = False
    joined: str = "batch"
    batch_first: bool = True
    attributes: tuple[tuple[str, Any], ...] = ()
    peepholes: bool = False

    @property
    def num_directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.cell == "LSTM" else ("h",)


def model_of(form: Form, seed: int = 0) -> ModelProto:
    """The model: inputs x, lengths [B] int64, then the initial states; outputs y, then the final states."""
    random = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    D, gates = form.num_directions, GATES[form.cell]
    nodes.append(helper.make_node("Cast", ["lengths"], ["lengths_32"], to=TensorProto.INT32))
    value = "x"
    if form.batch_first:
        nodes.append(helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]))
        value = "x_t"
    inputs = [_info("x", ["B", "T", INPUT_DIM] if form.batch_first else ["T", "B", INPUT_DIM]), _lengths()]
    outputs = []
    for layer in range(form.layers):
        width = INPUT_DIM if layer == 0 else D * HIDDEN
        shapes = {"W": (D, gates * HIDDEN, width), "R": (D, gates * HIDDEN, HIDDEN), "B": (D, 2 * gates * HIDDEN)}
        shapes |= {"P": (D, 3 * HIDDEN)} if form.peepholes else {}
        names = {key: f"{key}{layer}" for key in shapes}
        weights += [
            numpy_helper.from_array(random.normal(0, 0.4, shapes[k]).astype(np.float32), names[k]) for k in shapes
        ]
        first = [f"{s}_0.{layer}" if form.given else "" for s in form.states]
        last = [f"{s}_T.{layer}" for s in form.states]
        fed = [value, names["W"], names["R"], names["B"], "lengths_32", *first]
        fed += [""] * (7 - len(fed)) + [names["P"]] if form.peepholes else []
        more = {"direction": form.direction, "hidden_size": HIDDEN, **dict(form.attributes)}
        nodes.append(helper.make_node(form.cell, fed, [f"Y{layer}", *last], name=f"layer{layer}", **more))
        inputs += [_info(name, [D, "B", HIDDEN]) for name in first if name]
        outputs += [_info(name, [D, "B", HIDDEN]) for name in last]
        value = _join(nodes, weights, f"Y{layer}", f"joined{layer}", D)
    outputs = [*_outputs(form, nodes, value, D), *outputs]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _info(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _lengths() -> Any:
    return helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"])


def _join(nodes: list[NodeProto], weights: list[TensorProto], y: str, joined: str, D: int) -> str:
    """[T, D, B, H] as [T, B, D · H]."""
    if D == 1:
        weights.append(numpy_helper.from_array(np.array([1]), f"{joined}.axes"))
        nodes.append(helper.make_node("Squeeze", [y, f"{joined}.axes"], [joined]))
    else:
        weights.append(numpy_helper.from_array(np.array([0, 0, -1]), f"{joined}.shape"))
        nodes.append(helper.make_node("Transpose", [y], [f"{joined}.rows"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"{joined}.rows", f"{joined}.shape"], [joined]))
    return joined


def _outputs(form: Form, nodes: list[NodeProto], value: str, D: int) -> list[Any]:
    if not form.joined:
        return []
    if form.joined == "raw":
        return [_info(f"Y{form.layers - 1}", ["T", D, "B", HIDDEN])]
    if form.joined == "time":
        return [_info(value, ["T", "B", D * HIDDEN])]
    nodes.append(helper.make_node("Transpose", [value], ["y"], perm=[1, 0, 2]))
    return [_info("y", ["B", "T", D * HIDDEN])]


def feed_of(form: Form, lengths: list[int], steps: int, seed: int = 0) -> Feed:
    """A padded batch with NaN behind each row's end: whatever is read there shows."""
    random = np.random.default_rng(seed)
    rows = len(lengths)
    x = random.standard_normal((rows, steps, INPUT_DIM), np.float32)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = np.nan
    feed = {"x": x if form.batch_first else np.ascontiguousarray(x.swapaxes(0, 1)), "lengths": np.array(lengths)}
    for layer in range(form.layers if form.given else 0):
        for state in form.states:
            feed[f"{state}_0.{layer}"] = random.standard_normal((form.num_directions, rows, HIDDEN), np.float32)
    return feed


def packed(model: ModelProto, increment: float, form: FormOf = native_form) -> ModelProto:
    """The model with its layers packed, cut at this increment; a valid one."""
    copy = ModelProto()
    copy.CopyFrom(model)
    assert pack(copy, Path(), lambda _: increment, form)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def run(model: ModelProto, feed: Feed) -> dict[str, np.ndarray]:
    """ONNX Runtime's answer on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))  # type: ignore[arg-type]

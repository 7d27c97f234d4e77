"""Single recurrent layers, in all that a node may have, on seqport's operators and on ONNX Runtime's nodes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from seqport.runtime import kernels
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.rewriting.own_layers import Machine
from seqport.runtime.rewriting.own_operators import use_own_operators
from seqport.runtime.threads import Threads

from .recurrent_graphs import GATES, Feed, run

DIRECTIONS = ("forward", "reverse", "bidirectional")
RAGGED = [3, 9, 1, 9, 4, 2, 7]
# Its RNN node sums in an order of its own, another one in each batch.
CLOSE = 5e-6


@dataclass(frozen=True)
class Layer:
    """One recurrent node; `given` names those of its optional inputs that it has."""

    cell: str = "LSTM"  # of CELLS
    direction: str = "forward"
    input_dim: int = 3
    hidden: int = 20
    given: tuple[str, ...] = ("lengths", "h_0", "c_0")

    @property
    def op_type(self) -> str:
        return self.cell.split()[0]

    @property
    def num_directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def states(self) -> tuple[str, ...]:
        return ("h_0", "c_0") if self.cell == "LSTM" else ("h_0",)

    def model(self) -> ModelProto:
        """Outputs: Y, Y_h, and the LSTM's Y_c."""
        random = np.random.default_rng(self.hidden)
        D, rows = self.num_directions, GATES[self.op_type] * self.hidden
        shapes = {"W": (D, rows, self.input_dim), "R": (D, rows, self.hidden), "B": (D, 2 * rows)}
        weights = [
            numpy_helper.from_array(random.standard_normal(shape, np.float32) / np.float32(self.hidden**0.5), name)
            for name, shape in shapes.items()
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
        optional = ("lengths", *self.states)
        for name in (name for name in optional if name in self.given):
            kind = TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT
            inputs.append(helper.make_tensor_value_info(name, kind, None))
        outputs = ["Y", "Y_h", "Y_c"][: 1 + len(self.states)]
        fed = ["x", *shapes, *(name if name in self.given else "" for name in optional)]
        node = helper.make_node(
            self.op_type, fed, outputs, self.cell, hidden_size=self.hidden, direction=self.direction
        )
        if self.op_type == "RNN":
            names = [self.cell.split()[1].capitalize()] * D
            node.attribute.append(helper.make_attribute("activations", names))
        if self.op_type == "GRU":
            node.attribute.append(helper.make_attribute("linear_before_reset", int(self.cell == "GRU reset after")))
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph([node], "layer", inputs, values, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def feed(self, lengths: Sequence[int], steps: int, seed: int = 0) -> Feed:
        """A padded batch with NaN behind each row's end: whatever is read there shows."""
        random = np.random.default_rng(seed)
        x = random.standard_normal((steps, len(lengths), self.input_dim), np.float32)
        if "lengths" in self.given:
            x[np.arange(steps)[:, None] >= np.array(lengths)] = np.nan
        feed: Feed = {"x": x, "lengths": np.array(lengths, np.int32)}
        feed |= {s: random.standard_normal((self.num_directions, len(lengths), self.hidden), np.float32)
                 for s in self.states}  # fmt: skip
        return {name: value for name, value in feed.items() if name == "x" or name in self.given}


@functools.cache
def widths() -> tuple[int, ...]:
    """Of vectors, in floats: those that this processor has."""
    found = []
    for width in (8, 16):
        try:
            opened(Layer().model(), vectors=width)
            found.append(width)
        except InvalidArgument as error:
            assert "this processor or this version of seqport does not know such a layer" in str(error)
    return tuple(found)


def own(model: ModelProto, threads: int = 1, vectors: int = 0) -> ModelProto:
    """A copy of a model on seqport's operators."""
    copy = ModelProto()
    copy.CopyFrom(model)
    assert use_own_operators(copy, Path(), Machine(threads, vectors=vectors, lists=True))
    return copy


def opened(model: ModelProto, threads: int = 1, vectors: int = 0) -> onnxruntime.InferenceSession:
    """A model on seqport's operators, opened."""
    data = own(model, threads, vectors).SerializeToString()
    return open_session(data, Host(Threads(threads)), CPU_PROVIDER, operators=kernels.library())


def answers(session: onnxruntime.InferenceSession, feed: Feed) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))


def require_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 0.0) -> None:
    """The same bits; only where a tolerance is given, numbers as close as that, absolutely or for their size."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        if atol:
            np.testing.assert_allclose(found[name], value, rtol=atol, atol=atol, err_msg=name)
        else:
            bits = np.int32 if value.dtype == np.float32 else value.dtype
            np.testing.assert_array_equal(found[name].view(bits), value.view(bits), err_msg=name)


def without(answer: dict[str, np.ndarray], rows: list[int]) -> dict[str, np.ndarray]:
    """A layer's answer with these rows left out."""
    return {name: np.ascontiguousarray(np.delete(value, rows, axis=-2)) for name, value in answer.items()}


def require_onnxruntime(layer: Layer, sessions: Sequence[onnxruntime.InferenceSession], *batches: Feed) -> None:
    """Each session answers as ONNX Runtime does, but for rows of no steps: these are 0, and keep their states."""
    model = layer.model()
    for feed in batches:
        lengths = feed.get("lengths", np.ones(feed["x"].shape[1], np.int32))
        empty = np.flatnonzero(lengths == 0).tolist()
        expected = run(model, feed)
        for session in sessions:
            found = answers(session, feed)
            require_same(without(found, empty), without(expected, empty), CLOSE if layer.op_type == "RNN" else 0.0)
            assert not found["Y"][:, :, empty].any()
            for output, state in zip(("Y_h", "Y_c"), layer.states, strict=False):
                kept = feed[state][:, empty] if state in feed else np.zeros_like(found[output][:, empty])
                np.testing.assert_array_equal(found[output][:, empty], kept, err_msg=output)

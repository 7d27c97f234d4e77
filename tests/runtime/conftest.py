"""Small real artifacts, built with onnx.helper: what an exporter would write, without an exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seqport.runtime.artifact import METADATA_KEY, Description, RecurrentInfo, SequenceInfo, StateInfo, TensorInfo

from .machines import forget, gpu, machine  # noqa: F401 - fixtures of all files here

INPUT_DIM, HIDDEN = 3, 4
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
ONNX_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

Build = Callable[..., Path]


def describe(
    cell: str = "lstm",
    *,
    directions: int = 1,
    vocab_size: int | None = None,
    out_dim: int = 5,
    seq: str | int = "seq",
    states: bool = False,
    head: bool = True,
    padding_value: float = 0.0,
) -> Description:
    """The description of what `build` builds from the same arguments."""
    state = (directions, "batch", HIDDEN)
    names = ["h", "c"] if cell == "lstm" else ["h"]
    fed = ("ids", "int64", ("batch", seq)) if vocab_size else ("x", "float32", ("batch", seq, INPUT_DIM))
    inputs = [TensorInfo(*fed), TensorInfo("lengths", "int64", ("batch",))]
    inputs += [TensorInfo(f"{name}_0", "float32", state) for name in names if states]
    outputs = [TensorInfo("output", "float32", ("batch", seq, out_dim))] if head else []
    outputs += [TensorInfo(f"{name}_T", "float32", state) for name in names]
    return Description(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        sequences=(
            SequenceInfo(
                "seq", "batch", "lengths", {fed[0]: 1}, {"output": 1} if head else {}, padding_value=padding_value
            ),
        ),
        states=tuple(StateInfo(f"{name}_0", f"{name}_T") for name in names if states),
        recurrent=(
            RecurrentInfo(
                "recurrent",
                cell.upper(),
                "recurrent",
                "bidirectional" if directions == 2 else "forward",
                HIDDEN,
                "lengths",
                "zero",
            ),
        ),
        convention="pytorch",
        opset=18,
    )


def build(
    path: Path,
    cell: str = "lstm",
    *,
    seed: int = 0,
    scale: float = 1.0,
    metadata: str | None = None,
    attributes: dict[str, Any] | None = None,
    **form: Any,
) -> Path:
    """Write a recurrent model with a native node, sequence_lens and, unless `metadata` says otherwise, metadata.

    Weights are drawn with the deviation `scale`; at 1, a long sequence makes much of a rounding.
    """
    description = describe(cell, **form)
    sizes = {"directions": 1, "vocab_size": None, "out_dim": 5, "head": True, **form}
    directions, vocab_size, out_dim = sizes["directions"], sizes["vocab_size"], sizes["out_dim"]
    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(scale=scale, size=shape).astype(np.float32), name)

    rows = GATES[cell] * HIDDEN
    weights = [weight("W", directions, rows, INPUT_DIM), weight("R", directions, rows, HIDDEN)]
    nodes = [helper.make_node("Cast", ["lengths"], ["lens"], to=TensorProto.INT32)]
    features = "x"
    if vocab_size:
        weights.append(weight("embedding", vocab_size, INPUT_DIM))
        nodes.append(helper.make_node("Gather", ["embedding", "ids"], ["embedded"]))
        features = "embedded"
    initial = [info.name for info in description.inputs[2:]]
    final = [info.name for info in description.outputs if info.name != "output"]
    attributes = {**({"linear_before_reset": 1} if cell == "gru" else {}), **(attributes or {})}
    nodes += [
        helper.make_node("Transpose", [features], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            cell.upper(),
            ["steps", "W", "R", "", "lens", *initial],
            ["Y", *final],
            name="recurrent",
            hidden_size=HIDDEN,
            direction="bidirectional" if directions == 2 else "forward",
            **attributes,
        ),
    ]
    if sizes["head"]:
        weights += [weight("W_oh", directions * HIDDEN, out_dim), numpy_helper.from_array(np.array([0, 0, -1]), "flat")]
        nodes += [
            helper.make_node("Transpose", ["Y"], ["Yt"], perm=[2, 0, 1, 3]),
            helper.make_node("Reshape", ["Yt", "flat"], ["h_t"]),
            helper.make_node("MatMul", ["h_t", "W_oh"], ["output"]),
        ]

    def value(info: TensorInfo) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(info.name, ONNX_TYPES[info.dtype], info.axes)

    graph = helper.make_graph(
        nodes, cell, [value(i) for i in description.inputs], [value(o) for o in description.outputs], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if metadata != "":
        helper.set_model_props(model, {METADATA_KEY: metadata or description.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture
def artifact(tmp_path: Path) -> Build:
    """Builds an artifact in a fresh file: the arguments of `build`; metadata="" leaves a plain ONNX file."""
    count = iter(range(100))
    return lambda cell="lstm", **form: build(tmp_path / f"{cell}{next(count)}.onnx", cell, **form)

"""Run an artifact and the model it came from side by side, at shapes that the trace never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from seqport.exporters import Input

# (size of the batch, of the first other axis, of the one after): below, at and above whatever was traced.
SHAPES = ((1, 1, 4), (1, 9, 2), (4, 3, 1), (7, 31, 12))
# Lengths of another axis than "seq".
_OF_AXIS = {"y_lengths": "out_seq", "z_lengths": "out_seq", "chars_lengths": "size"}
# Float32 against float32, over a few tens of steps.
TOLERANCE = 1e-5
NATIVE = {"RNN", "GRU", "LSTM"}


def draw(
    inputs: Sequence[Input],
    shape: Sequence[int],
    *,
    vocabulary: int,
    sorted_rows: bool = False,
    shortest: int = 1,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Random inputs: lengths with 1 and the whole axis among them, every other int an id."""
    random = np.random.default_rng(seed)
    names = list(dict.fromkeys(n for item in inputs for n in item.dynamic_axes.values()))
    names.sort(key=lambda name: name != "batch")
    sizes = dict(zip(names, (*shape, 3), strict=False))
    if "batch" not in sizes:
        sizes = dict(zip(names, shape[1:], strict=False))
    sizes = {name: size if name == "batch" else max(size, shortest) for name, size in sizes.items()}
    arrays: dict[str, np.ndarray] = {}
    for item in inputs:
        target = item.shape(sizes)
        if item.name.endswith("lengths"):
            longest = sizes[_OF_AXIS.get(item.name, "seq")]
            values = random.integers(shortest, longest + 1, target)
            flat = values.reshape(-1)
            flat[random.integers(len(flat))] = longest
            if len(flat) > 1:
                flat[flat.argmin()] = shortest
            arrays[item.name] = (-np.sort(-values) if sorted_rows else values).astype(item.dtype)
        elif item.dtype.startswith("float"):
            arrays[item.name] = random.standard_normal(target).astype(item.dtype)
        elif item.dtype == "bool":
            arrays[item.name] = random.random(target) < 0.6
        else:
            arrays[item.name] = random.integers(0, vocabulary, target).astype(item.dtype)
    return arrays


def run_file(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The artifact's outputs, straight from ONNX Runtime."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(array) for name, array in zip(names, session.run(names, dict(arrays)), strict=True)}


def assert_same(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], where: str) -> None:
    """Equal shapes, and values within TOLERANCE, or the largest difference in the message."""
    assert len(found) == len(expected), f"{where}: {len(found)} outputs, expected {len(expected)}"
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, f"{where}: output {index} has shape {one.shape}, expected {other.shape}"
        assert np.array_equal(np.isnan(one), np.isnan(other)), f"{where}: output {index} has NaN in other places"
        gap = float(np.nanmax(np.abs(one.astype(np.float64) - other), initial=0.0))
        assert gap <= TOLERANCE, f"{where}: output {index} differs by {gap:.3g}, at most {TOLERANCE} allowed"


def assert_contract(path: Path, inputs: Sequence[Input]) -> None:
    """Native nodes only, every declared axis dynamic and named, the user's names in their order."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    ops = [node.op_type for node in model.graph.node]
    assert not {"Loop", "Scan", "If"} & set(ops), ops
    assert {node.domain for node in model.graph.node} == {""}
    assert [value.name for value in model.graph.input] == [item.name for item in inputs]
    for value, item in zip(model.graph.input, inputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        assert tuple(d.dim_param or d.dim_value for d in dims) == item.axes
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            assert dim.dim_param or dim.dim_value > 0, f"{value.name} has an axis without a name"


def native_nodes(path: Path) -> list[onnx.NodeProto]:
    """The native recurrent nodes of an artifact."""
    return [node for node in onnx.load(path).graph.node if node.op_type in NATIVE]

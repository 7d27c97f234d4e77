"""The one comparison of the properties: values relative to each where that is above 1, shapes as declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from support.checks import run_file

from seqport.exporters import Input

# Float32 against float32, over a dozen steps.
TOLERANCE = 1e-5


def assert_agree(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], where: object) -> None:
    """Equal shapes and types, and each value within TOLERANCE times max(1, |value|)."""
    assert len(found) == len(expected), f"{where}: {len(found)} outputs, expected {len(expected)}"
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, f"{where}: output {index} has shape {one.shape}, expected {other.shape}"
        assert one.dtype == other.dtype, f"{where}: output {index} is {one.dtype}, expected {other.dtype}"
        finite = np.isfinite(other)  # a mean over no steps is NaN, and a maximum -inf
        assert np.array_equal(one[~finite], other[~finite], equal_nan=True), f"{where}: output {index}: inf or NaN"
        one, other = np.where(finite, one, 0).astype(np.float64), np.where(finite, other, 0).astype(np.float64)
        gaps = np.abs(one - other) / np.maximum(1.0, np.abs(other))
        place = np.unravel_index(gaps.argmax(), gaps.shape) if gaps.size else ()
        assert (gaps <= TOLERANCE).all(), (
            f"{where}: output {index} at {list(map(int, place))} is {one[place]:.7g}, "
            f"expected {other[place]:.7g}: a gap of {gaps[place]:.3g}, at most {TOLERANCE} allowed"
        )


def run_as_declared(path: Path, inputs: Sequence[Input], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The artifact's outputs, each of the shape that it declares for these inputs."""
    sizes = {axis: n for item in inputs for axis, n in zip(item.axes, arrays[item.name].shape, strict=True)}
    outputs = run_file(path, arrays)
    for output in ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_outputs():
        found = outputs[output.name].shape
        wanted = [
            sizes.get(axis, size if isinstance(axis, str) else axis)
            for axis, size in zip(output.shape, found, strict=True)
        ]
        assert list(found) == wanted, f"{output.name} is declared as {output.shape} and has the shape {found}"
    return list(outputs.values())

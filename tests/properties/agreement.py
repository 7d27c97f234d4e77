"""The one comparison of the properties: two lists of arrays, relative to each value where that is above 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Float32 against float32, over a dozen steps.
TOLERANCE = 1e-5


def assert_agree(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], where: object) -> None:
    """Equal shapes and types, and each value within TOLERANCE times max(1, |value|)."""
    assert len(found) == len(expected), f"{where}: {len(found)} outputs, expected {len(expected)}"
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, f"{where}: output {index} has shape {one.shape}, expected {other.shape}"
        assert one.dtype == other.dtype, f"{where}: output {index} is {one.dtype}, expected {other.dtype}"
        assert np.isfinite(other).all(), f"{where}: output {index} of the model is not finite, and proves nothing"
        gaps = np.abs(one.astype(np.float64) - other) / np.maximum(1.0, np.abs(other.astype(np.float64)))
        place = np.unravel_index(gaps.argmax(), gaps.shape) if gaps.size else ()
        assert (gaps <= TOLERANCE).all(), (
            f"{where}: output {index} at {list(map(int, place))} is {one[place]:.7g}, "
            f"expected {other[place]:.7g}: a gap of {gaps[place]:.3g}, at most {TOLERANCE} allowed"
        )

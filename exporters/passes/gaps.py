"""How far two answers are apart, element by element."""

from __future__ import annotations

import numpy as np


def gaps(found: np.ndarray, expected: np.ndarray, unit: np.ndarray | float = 1.0) -> np.ndarray | None:
    """By how much each element differs, in units; infinitely where one is not finite. None for another shape or kind.

    For whole numbers and flags: infinitely where they are others.
    """
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        return None
    if expected.dtype.kind != "f":
        return np.where(found == expected, 0.0, np.inf)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.abs(found - expected) / unit
    return np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))


def undefined(array: np.ndarray) -> np.ndarray:
    """Where it is NaN."""
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)

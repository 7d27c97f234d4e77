"""Lays weights out as the operators read them: see cells.h."""

from __future__ import annotations

import numpy as np

PANEL = 16


def panels(weights: np.ndarray, hidden: int) -> np.ndarray:
    """The weights of one direction, in panels of 16 units.

    Args:
        weights: [gates · H, inputs], in ONNX's order of gates.
        hidden: H.

    Returns:
        [blocks, gates, inputs, 16], zeros behind the last unit.
    """
    gates, inputs = weights.shape[0] // hidden, weights.shape[1]
    blocks = -(-hidden // PANEL)
    units = np.zeros((gates, blocks * PANEL, inputs), np.float32)
    units[:, :hidden] = weights.reshape(gates, hidden, inputs)
    return np.ascontiguousarray(units.reshape(gates, blocks, PANEL, inputs).transpose(1, 0, 3, 2))


def biases(bias: np.ndarray, hidden: int, *, apart: bool) -> np.ndarray:
    """The biases of one direction: of W and R added, but for those of a GRU's candidate where they are kept apart.

    Args:
        bias: [2 · gates · H]: of W, then of R.
        hidden: H.
        apart: the reset gate comes behind the product with R (`linear_before_reset`).

    Returns:
        [blocks, gates, 16], and one more in place of each candidate's where `apart`.
    """
    of_w, of_r = bias.reshape(2, -1, hidden)
    rows = np.concatenate([(of_w + of_r)[:-1], of_w[-1:], of_r[-1:]]) if apart else of_w + of_r
    blocks = -(-hidden // PANEL)
    units = np.zeros((len(rows), blocks * PANEL), np.float32)
    units[:, :hidden] = rows
    return np.ascontiguousarray(units.reshape(len(rows), blocks, PANEL).transpose(1, 0, 2))

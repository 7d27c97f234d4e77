"""Drawn inputs, with lengths where a probe wants them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqport.exporters.passes.draws import Draws


def placed(
    draws: Draws, arrays: Mapping[str, np.ndarray], axes: Mapping[str, int], longest: int | None
) -> dict[str, np.ndarray]:
    """The arrays with lengths up to the end of their axis, or up to a longest one; an example's lengths end before.

    Args:
        draws: where the arrays come from.
        arrays: drawn.
        axes: the size of every dynamic axis.
        longest: the largest of the lengths; None where that is the size of their axis.
    """
    found = dict(arrays)
    for item in draws.inputs:
        array = arrays[item.name]
        bound = draws.bound(item, dict(axes))
        is_lengths = bound is not None and (item.name in draws.roles or item.name not in draws.example)
        if bound is not None and is_lengths and (longest is not None or item.name in draws.example):
            random = np.random.default_rng(bound)
            lengths = np.sort(random.integers(1, (longest or bound) + 1, array.shape[0]))[::-1]
            lengths[0] = longest or bound
            found[item.name] = lengths.reshape(array.shape).astype(array.dtype)
        elif longest is not None and array.ndim == 2 and array.dtype.kind in "bi" and bound is None:
            found[item.name] = _ending(array, longest)
    return found


def _ending(array: np.ndarray, longest: int) -> np.ndarray:
    """A mask, or ids, of which no row is longer and the first row is as long."""
    ended = array.copy()
    ended[:, longest:] = 0
    ended[0, :longest] = np.where(ended[0, :longest] == 0, 1, ended[0, :longest])
    return ended

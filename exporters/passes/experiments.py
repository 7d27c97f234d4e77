"""Inputs for experiments with an artifact: those of a probe, cut to fewer steps and with nothing masked.

Needs: the inputs of a probe. Guarantees: other arrays than those, of the same types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.signature import Input

Arrays = Mapping[str, np.ndarray]


def unmasked(
    arrays: Arrays, inputs: Sequence[Input], masks: Collection[str], padding: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """The same inputs where every step counts: masks of ones, and no value that a model takes for padding.

    Args:
        arrays: of a probe.
        inputs: the declared inputs.
        masks: inputs of numbers that are masks.
        padding: input → the value that the model masks, where it is not 0.
    """
    found = dict(arrays)
    for item in inputs:
        array = arrays[item.name]
        if is_per_row(item):  # a length, or what may be any number
            continue
        if array.dtype == bool or item.name in masks:
            found[item.name] = np.ones_like(array)
        elif item.name in padding or array.dtype.kind in "iu":
            found[item.name] = np.where(array == padding.get(item.name, 0), 1, array).astype(array.dtype)
    return found


def size_of(arrays: Arrays, inputs: Sequence[Input], axis: str) -> int:
    """The size of an axis."""
    return next(arrays[item.name].shape[item.axes.index(axis)] for item in inputs if axis in item.axes)


def cut(arrays: Arrays, inputs: Sequence[Input], axis: str | int, start: int, stop: int) -> dict[str, np.ndarray]:
    """The inputs between two steps of an axis; whatever does not have it is whole."""
    found = dict(arrays)
    for item in inputs:
        if axis in item.dynamic_axes.values():
            along = item.axes.index(axis)
            found[item.name] = arrays[item.name][(slice(None),) * along + (slice(start, stop),)]
    return found


def counting(arrays: Arrays, steps: int, bounded: Collection[str], lengths: str = "") -> dict[str, np.ndarray]:
    """The inputs with these steps as lengths of every row.

    Args:
        arrays: the inputs.
        steps: how many.
        bounded: inputs that may be lengths too, and have at most as many.
        lengths: the input of lengths; none where left out.
    """
    found = dict(arrays)
    for name in bounded:
        found[name] = np.minimum(found[name], steps).astype(found[name].dtype)
    if lengths:
        found[lengths] = np.full_like(found[lengths], steps)
    return found

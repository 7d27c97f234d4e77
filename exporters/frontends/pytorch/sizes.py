"""Sizes at which a module is traced, so that what follows from one of them can be told from all else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from seqport.exporters.signature import Input, axis_names

# Sizes of the dynamic axes while tracing. Values never matter (the tensors are fake), but a size of 1
# would be taken for a constant, and a convolution over time needs some steps.
_FIRST_SIZE = 19
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
# What the longest lengths are, where loops run up to them; then the axes begin at a size of which also the half is none
# of the first of these, nor a step or two less.
_NUMBERS, _LONGER = (7, 11, 17, 23, 29), 37


def axis_sizes(model: nn.Module, inputs: Sequence[Input], *, few: bool, skip: int, longer: bool) -> dict[str, int]:
    """A size for every dynamic axis; where loops will unroll, small ones that no weight has.

    The last axis of the last input gets the smallest: batches come first, and nobody loops over those.
    """
    names = axis_names(inputs)
    if not few:
        return {name: _FIRST_SIZE + 4 * i for i, name in enumerate(names)}
    free = [size for size in _free(model, inputs, _PRIMES) if size >= _LONGER or not longer]
    return dict(zip(reversed(names), free[skip:], strict=False))


def longest_lengths(model: nn.Module, inputs: Sequence[Input], skip: int) -> list[int]:
    """Numbers for the longest lengths that loops run up to, below all sizes of the axes."""
    return _free(model, inputs, _NUMBERS)[skip:]


def _free(model: nn.Module, inputs: Sequence[Input], sizes: Sequence[int]) -> list[int]:
    """Those of the sizes that no weight and no fixed axis has."""
    taken = {size for p in model.parameters() for size in p.shape}
    taken |= {axis for item in inputs for axis in item.axes if isinstance(axis, int)}
    return [size for size in sizes if size not in taken]

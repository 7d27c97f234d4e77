"""What a model's code asks of sizes: the tracer's own list, and what the code compared when the model ran.

Needs: draws that the model takes. Guarantees: each comparison of a number that follows a size is one condition, a
function of the sizes of axes and of the longest lengths; no condition where the frontend cannot note comparisons. What
a run at larger sizes takes of memory is known from the same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from seqport.exporters.comparisons import Condition, Notes, longest_of
from seqport.exporters.passes.draws import MEASURED, Draws, Sizes
from seqport.exporters.passes.follows import condition
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.placed import placed

# Sizes that tell what a number follows, with those of the usual probes: all differ, and the parts of them do.
_SIZES = (*MEASURED, Sizes((4, 37, 41, 43), 9, True), Sizes((7, 83, 71, 79), 11, True))
# A tensor of so many elements takes half a gigabyte; a model has several at once.
_LARGEST = 2**27
# Where steps meet steps, the largest tensor grows by more than this, for each element that the axes span.
_FASTER = 1.3


class _Noted(NamedTuple):
    """One run: the sizes of its axes, its longest lengths, and what it noted."""

    axes: dict[str, int]
    longest: dict[str, int]
    notes: Notes


@dataclass(frozen=True)
class Asked:
    """What a model asks of sizes.

    Attributes:
        conditions: those of comparisons first, whose line is known.
        fits: whether a run at these sizes of the axes fits into memory.
        numbers: whole numbers that a loop may end at without a comparison.
    """

    conditions: list[Condition]
    fits: Callable[[Mapping[str, int]], bool]
    numbers: frozenset[int]


def asked(job: Job, draws: Draws, scale: int, kind: str) -> Asked:
    """What the model asks of sizes.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
    """
    if job.capture.noted is None:
        return Asked(list(job.capture.conditions), lambda _: True, frozenset())
    runs: list[_Noted] = []
    for sizes in _SIZES:
        axes = draws.sizes(sizes, scale)
        if sizes not in MEASURED:
            axes = {axis: size * scale for axis, size in axes.items()}
        arrays = draws.arrays(sizes, scale, kind, axes)
        if draws.example:  # its lengths would be the same in every run
            steps = [size for axis, size in axes.items() if axis not in draws.rows]
            arrays = placed(draws, arrays, axes, max(1, min(steps, default=1) - sizes.shorter))
        try:
            runs.append(_Noted(axes, _longest(draws, arrays, axes), job.capture.noted(arrays)))
        except Exception:  # the model takes no such sizes
            continue
    numbers = frozenset(number for run in runs for number in run.notes.numbers)
    return Asked([*_compared(runs), *job.capture.conditions], _fitting(runs), numbers)


def _compared(runs: Sequence[_Noted]) -> list[Condition]:
    """The conditions of comparisons that every run made."""
    if len(runs) < 2:
        return []
    found: list[Condition] = []
    sizes = [{**run.axes, **run.longest} for run in runs]
    for key in runs[0].notes.comparisons:
        several = [run.notes.comparisons[key] for run in runs if key in run.notes.comparisons]
        if len(several) == len(runs) and (item := condition(several, sizes)) is not None:
            found.append(item)
    return found


def _fitting(runs: Sequence[_Noted]) -> Callable[[Mapping[str, int]], bool]:
    """Whether the largest tensor stays below a bound at certain sizes: steps against steps grow as squares."""
    if not runs or not all(run.notes.largest for run in runs):
        return lambda _: True
    density = [run.notes.largest / prod(run.axes.values()) for run in runs]
    last = runs[-1].axes
    grows = density[-1] > _FASTER * density[0]

    def fits(axes: Mapping[str, int]) -> bool:
        further = max(size / last[axis] for axis, size in axes.items()) if grows else 1.0
        return max(density) * prod(axes.values()) * max(1.0, further) <= _LARGEST

    return fits


def _longest(draws: Draws, arrays: Mapping[str, np.ndarray], axes: dict[str, int]) -> dict[str, int]:
    """The longest length in every input that may tell lengths: as numbers, as a mask, or by ids that are not 0."""
    found: dict[str, int] = {}
    for item in draws.inputs:
        array = arrays[item.name]
        if draws.bound(item, axes) is not None:
            found[longest_of(item.name)] = int(array.max())
        elif array.ndim == 2 and array.dtype.kind in "bi":
            found[longest_of(item.name)] = int((array != 0).sum(1).max())
    return found

"""What a model's code asks of sizes: the tracer's own list, and what the code compared when the model ran.

Needs: draws that the model takes. Guarantees: each comparison of a number that follows a size is one condition, a
function of the sizes of axes and of the longest lengths; no condition where the frontend cannot note comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqport.exporters.comparisons import Condition, Notes, longest_of
from seqport.exporters.passes.draws import MEASURED, Draws, Sizes
from seqport.exporters.passes.follows import condition
from seqport.exporters.passes.job import Job

# Sizes that tell what a number follows, with those of the usual probes: all differ, and the parts of them do.
_SIZES = (*MEASURED, Sizes((4, 37, 41, 43), 9, True), Sizes((7, 83, 71, 79), 11, True))


def conditions(job: Job, draws: Draws, scale: int, kind: str) -> list[Condition]:
    """What the model asks of sizes.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
    """
    if job.capture.noted is None:
        return list(job.capture.conditions)
    runs: list[tuple[Mapping[str, int], Notes]] = []
    for sizes in _SIZES:
        axes = draws.sizes(sizes, scale)
        if sizes not in MEASURED:
            axes = {axis: size * scale for axis, size in axes.items()}
        arrays = draws.arrays(sizes, scale, kind, axes)
        try:
            runs.append(({**axes, **_longest(draws, arrays, axes)}, job.capture.noted(arrays)))
        except Exception:  # the model takes no such sizes
            continue
    return [*_compared(runs), *job.capture.conditions]


def _compared(runs: list[tuple[Mapping[str, int], Notes]]) -> list[Condition]:
    """The conditions of comparisons that every run made."""
    found: list[Condition] = []
    sizes = [at for at, _ in runs]
    for key in runs[0][1] if len(runs) > 1 else ():
        several = [notes[key] for _, notes in runs if key in notes]
        if len(several) == len(runs) and (item := condition(several, sizes)) is not None:
            found.append(item)
    return found


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

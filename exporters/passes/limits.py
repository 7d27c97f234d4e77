"""How short and how long an axis may be: measured on the user's own model.

Needs: a model that refused the shortest or the longest inputs drawn for the proof, whose trace holds up to a size, or
whose code asks for sizes too large to try.
Guarantees: axis → the sizes that the model takes, for the runtime to name where ONNX Runtime would fail in the middle
of the graph, or end the process. A trace that ends where the model itself goes on is a refusal in the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from seqport.exporters.capture import Arrays
from seqport.exporters.errors import Refusal
from seqport.exporters.passes.draws import MEASURED, Draws
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.placed import placed

# Axis → the smallest and the largest size; None where there is no largest.
Limits = dict[str, tuple[int, int | None]]
_FULL = MEASURED[1]._replace(full=True)


def measured_limits(
    job: Job,
    draws: Draws,
    scale: int,
    kind: str,
    *,
    short: bool,
    long: Mapping[str, int],
    untried: Mapping[str, int],
    fits: Callable[[Mapping[str, int]], bool],
) -> Limits:
    """The limits of every axis but the rows'.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
        short: whether the model refused axes of size 1.
        long: axis → the smallest size above the usual ones that the model refused.
        untried: axis → the size up to which nothing turns that was not tried.
        fits: whether a run at certain sizes fits into memory.
    """
    usual = draws.sizes(_FULL, scale)
    bounds = job.capture.bounds
    found: Limits = {}
    rows = next(iter(usual), None)
    for axis in usual:
        wanted = axis in bounds or axis in long or axis in untried
        if not wanted and (axis == rows or not short):
            continue

        def takes(size: int, axis: str = axis) -> bool:
            try:
                arrays = _kept(draws.arrays(_FULL, scale, kind, {axis: size}))
                answers = job.capture.reference(placed(draws, arrays, {**usual, axis: size}, None))
                if size < usual[axis]:  # values that grow beyond all bounds over many steps are no limit
                    require_answer(answers)
            except Exception:
                return False
            return True

        if not takes(usual[axis]):
            continue  # nothing to start from: lengths of all steps are not what this model takes
        bound = bounds.get(axis)
        if bound is not None and not fits({**usual, axis: bound + 1}):
            ends = [bound, untried.get(axis)]
        else:
            ends = [_largest(job, axis, usual[axis], takes, long.get(axis)), untried.get(axis)]
        largest = min((end for end in ends if end is not None), default=None)
        smallest = _smallest(usual[axis], takes) if short else 1
        if smallest > 1 or largest is not None:
            found[axis] = smallest, largest
    return found


class NoAnswerError(ValueError):
    """An output is NaN throughout."""


def require_answer(answers: Arrays) -> None:
    """Take an answer that is NaN throughout for none: a standard deviation over one step, say.

    Raises:
        NoAnswerError: an output is NaN throughout.
    """
    for name, array in answers.items():
        if array.dtype.kind == "f" and array.size and np.isnan(array).all():
            raise NoAnswerError(f"output {name!r} is NaN throughout")


def _kept(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, with a step in each row of a mask: that a model refuses rows without any says nothing of sizes."""
    for array in arrays.values():
        if array.dtype == bool and array.ndim > 1:
            array[0] = array[:, 0] = True  # whichever axis the rows are
    return arrays


def _largest(job: Job, axis: str, usual: int, takes: Callable[[int], bool], long: int | None) -> int | None:
    bound = job.capture.bounds.get(axis)
    if bound is not None:
        if takes(bound + 1):
            job.refusals.append(_one_side(axis, bound))
            return None
        return bound if takes(bound) else _last(usual, bound, takes)
    return _last(usual, long, takes) if long is not None and long > usual and not takes(long) else None


def _last(good: int, bad: int, takes: Callable[[int], bool]) -> int:
    """The largest size that the model takes, between one that it takes and one that it does not."""
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if takes(middle) else (good, middle)
    return good


def _smallest(good: int, takes: Callable[[int], bool]) -> int:
    """The smallest size that the model takes, up to one that it takes."""
    bad = 0
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if takes(middle) else (good, middle)
    return good


def _one_side(axis: str, bound: int) -> Refusal:
    return Refusal(
        "the model",
        f"was traced on one side of a Python branch: it holds for {axis!r} of {bound} at most",
        f"write the branch with a slice (x[:, :{bound}]) or with tensor operations, or declare {axis!r} with a "
        "fixed size",
    )

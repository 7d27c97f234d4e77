"""What a model's code asks of sizes: the tracer's own list, and what the code compared when the model ran.

Needs: draws that the model takes. Guarantees: each comparison of a number that follows a size is one condition, a
function of the sizes of axes and of the longest lengths; no condition where the frontend cannot note comparisons. What
a run at larger sizes takes of memory is known from the same runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np

from seqport.exporters.comparisons import Condition, Notes, longest_of
from seqport.exporters.errors import Refusal
from seqport.exporters.passes.draws import FAR, MEASURED, Draws, Sizes
from seqport.exporters.passes.follows import condition
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.placed import placed

# Sizes that tell what a number follows, with those of the usual probes: all differ, and the parts of them do.
_SIZES = (*MEASURED, Sizes((4, 37, 41, 43), 9, True), Sizes((7, 83, 71, 79), 11, True))
# A tensor of so many elements takes half a gigabyte; a model has several at once.
LARGEST = 2**27
# Where steps meet steps, the largest tensor grows by more than this, for each element that the axes span.
_FASTER = 1.3


Key = tuple[object, ...]
_NONE: Mapping[Key, Condition | None] = {}
_TRUTH = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")}


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
        elements: how many the largest tensor has at these sizes of the axes.
        numbers: whole numbers that a loop may end at without a comparison.
        runs: those that told it.
        known: comparison → its condition, None where its numbers follow no size.
    """

    conditions: list[Condition]
    elements: Callable[[Mapping[str, int]], float]
    numbers: frozenset[int]
    runs: Sequence[_Noted]
    known: Mapping[Key, Condition | None]

    def fits(self, axes: Mapping[str, int], most: int = LARGEST) -> bool:
        """Whether a run at these sizes of the axes fits into so much memory, in elements of its largest tensor."""
        return self.elements(axes) <= most


def asked(job: Job, draws: Draws, scale: int, kind: str) -> Asked:
    """What the model asks of sizes.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
    """
    found: list[_Noted] = []
    for sizes in _SIZES:
        axes = draws.sizes(sizes, scale)
        if sizes not in MEASURED:
            axes = {axis: size * scale for axis, size in axes.items()}
        found += _noted(job, draws, sizes, scale, kind, axes, sized=True)
    failed = next((run.notes.failed for run in found if run.notes.failed), "")
    if failed and job.capture.fixed_axes:
        job.refusals.append(
            Refusal(
                "the model",
                f"has a loop whose turns cannot be found, because its code fails at numbers that note what they are "
                f"compared with ({failed})",
                "let it take any int: isinstance(n, int) in the place of type(n) is int",
            )
        )
    elif failed:
        job.capture.notes.append(
            "branches on sizes: only those that the framework's tracer tells are known, because the model's code fails "
            f"at numbers that note what they are compared with ({failed})"
        )
    numbers = frozenset(number for run in found for number in run.notes.numbers)
    known = _compared(found)
    compared = [item for item in known.values() if item is not None]
    return Asked([*compared, *job.capture.conditions], _growing(found), numbers, found, known)


def asked_further(
    job: Job, draws: Draws, scale: int, kind: str, before: Asked, steps: int, turned: Sequence[Mapping[str, int]]
) -> Asked:
    """What it asks where it has turned: `if n > 100: ... if n > 400` asks the second at more than 100 steps alone.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
        before: what it asks below.
        steps: the size of every axis but the rows'.
        turned: sizes of all axes on the other side of a turn.
    """
    sizes = draws.sizes(FAR, 1)
    far = {axis: steps + 2 * at if at else size for at, (axis, size) in enumerate(sizes.items())}
    runs, conditions, known = list(before.runs), list(before.conditions), dict(before.known)
    for axes in (far, *turned):
        if not before.fits(axes) or any(run.axes == axes for run in runs):
            continue
        shapes = FAR._replace(shorter=min(13, min(axes.values()) - 1))
        found = _noted(job, draws, shapes, scale, kind, dict(axes), sized=False)
        further = _compared(found, known)
        known = {**further, **known}
        conditions = [*(item._replace(found_at=dict(axes)) for item in further.values() if item), *conditions]
        runs += found
    return replace(before, conditions=conditions, runs=runs, known=known)


def _noted(
    job: Job, draws: Draws, sizes: Sizes, scale: int, kind: str, axes: dict[str, int], *, sized: bool
) -> list[_Noted]:
    """The run at these sizes; none where no frontend notes, or the model takes no such sizes."""
    arrays = draws.arrays(sizes, scale, kind, axes)
    if draws.example:  # its lengths would be the same in every run
        steps = [size for axis, size in axes.items() if axis not in draws.rows]
        arrays = placed(draws, arrays, axes, max(1, min(steps, default=1) - sizes.shorter))
    try:
        notes = None if job.capture.noted is None else job.capture.noted(arrays, sized)
    except Exception:
        return []
    return [] if notes is None else [_Noted(axes, _longest(draws, arrays, axes), notes)]


def _compared(runs: Sequence[_Noted], known: Mapping[Key, Condition | None] = _NONE) -> dict[Key, Condition | None]:
    """The conditions of comparisons, each from the runs that made it; without those that are known."""
    found: dict[Key, Condition | None] = {}
    for key in dict.fromkeys(key for run in runs for key in run.notes.comparisons):
        making = [run for run in runs if key in run.notes.comparisons]
        if key not in known or any(_is_another(known[key], run, key) for run in making):
            several = [run.notes.comparisons[key] for run in making]
            found[key] = condition(several, [{**run.axes, **run.longest} for run in making])
    return found


def _is_another(known: Condition | None, run: _Noted, key: Key) -> bool:
    """Whether a run compares something else at the same place: `(n, m) == (20, 30)` asks for m where n is 20."""
    if known is None:
        return False
    noted = run.notes.comparisons[key]
    return noted.operator in _TRUTH and bool(known.at({**run.axes, **run.longest})) != bool(
        _TRUTH[noted.operator](noted.left.value, noted.right.value)
    )


def _growing(runs: Sequence[_Noted]) -> Callable[[Mapping[str, int]], float]:
    """How many elements the largest tensor has at certain sizes: steps against steps grow as squares."""
    if not runs or not all(run.notes.largest for run in runs):
        return lambda _: 0.0
    density = [run.notes.largest / prod(run.axes.values()) for run in runs]
    last = runs[-1].axes
    grows = density[-1] > _FASTER * density[0]

    def elements(axes: Mapping[str, int]) -> float:
        further = max(size / last[axis] for axis, size in axes.items()) if grows else 1.0
        return max(density) * prod(axes.values()) * max(1.0, further)

    return elements


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

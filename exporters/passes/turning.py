"""Sizes at which a condition in the model's own code turns, for the proof to look at either side of it.

Needs: the conditions, as functions of the sizes. Guarantees: every condition that turns at a size up to 8192 is tried
on both sides, next to the usual sizes and farthest from them; an axis at which one turns beyond that holds up to there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqport.exporters.comparisons import Condition, Turn
from seqport.exporters.errors import Refusal
from seqport.exporters.passes.draws import FAR, LONG, Draws

# Sizes that are looked at one by one; and two at a time, of which arrays would become too large.
FARTHEST, _FARTHEST_OF_TWO = 8192, 512
# Beyond those a condition is looked for up to here: no axis is longer.
_BEYOND = 2**31
# A condition that turns more often than this is one of remainders, and turns alike everywhere.
_FEW = 8
# Other probes have seen the double of a size below this.
_DOUBLED = 32
# From this number of steps on two rows do.
_MANY, _ROWS = 400, 2


def rows_of(draws: Draws, looped: Collection[str]) -> list[str]:
    """The axes that count rows: those that lengths tell, else the first, unless a loop runs over it."""
    first = list(draws.sizes(FAR, 1))[:1]
    return sorted(draws.rows - set(looped)) or [axis for axis in first if axis not in looped]


def far(draws: Draws, looped: Collection[str]) -> dict[str, int]:
    """Sizes far beyond every other, of the axes of steps; where a loop runs over the first axis, of those looped."""
    sizes = draws.sizes(FAR, 1)
    rows = rows_of(draws, looped)
    long = [axis for axis in sizes if axis not in rows and (rows or axis in looped)]
    return {axis: LONG + 2 * long.index(axis) if axis in long else _ROWS + i for i, axis in enumerate(sizes)}


@dataclass
class Turns:
    """What the conditions of a model ask for.

    Attributes:
        tried: sizes to try.
        limits: axis → the size up to which it turns nothing that cannot be tried, and the line that does.
        untried: lines whose condition turns only where two axes are long at once.
    """

    tried: list[Turn] = field(default_factory=list)
    limits: dict[str, tuple[int, str]] = field(default_factory=dict)
    untried: list[str] = field(default_factory=list)


def turns_of(conditions: Iterable[Condition], usual: Mapping[str, int], rows: Sequence[str]) -> Turns:
    """Where conditions turn.

    Args:
        conditions: of the model.
        usual: the size of every axis, at which the artifact was compared.
        rows: the axes that count rows; no lengths are bounded by those.
    """
    return _Search(usual, rows).run(conditions)


class _Search:
    def __init__(self, usual: Mapping[str, int], rows: Sequence[str]) -> None:
        self._axes = usual
        self._rows = rows
        self._steps = [axis for axis in usual if axis not in rows]
        self._longest = min((usual[axis] for axis in self._steps), default=1)
        self._seen: set[tuple[tuple[str, ...], int]] = set()
        self._found = Turns()

    def run(self, conditions: Iterable[Condition]) -> Turns:
        for condition in conditions:
            turned = [self._alone(condition, name) for name in condition.names]
            if any(turned):
                continue
            if len(condition.names) > 1:
                self._together(condition)
            elif condition.names and condition.everywhere:
                self._limit(condition)
        return self._found

    def _alone(self, condition: Condition, name: str) -> bool:
        """Try where the condition turns with one size; whether it does."""
        flips = self._flips(condition, (name,), FARTHEST)
        for size in _near(flips, self._usual(name)):
            for near in _beside(size):
                self._try(condition, (name,), near)
        return bool(flips)

    def _together(self, condition: Condition) -> None:
        """Try where the condition turns with all its sizes alike."""
        flips = self._flips(condition, condition.names, _FARTHEST_OF_TWO)
        for near in _beside(flips[0])[:3] if flips else ():
            self._try(condition, tuple(condition.names), near)
        if not flips and condition.everywhere and self._beyond(condition, _FARTHEST_OF_TWO) is not None:
            self._found.untried.append(condition.line)

    def _limit(self, condition: Condition) -> None:
        size = self._beyond(condition, FARTHEST)
        (name,) = condition.names
        for axis in (name,) if name in self._axes else self._steps:
            if size is not None and size - 1 < self._found.limits.get(axis, (_BEYOND, ""))[0]:
                self._found.limits[axis] = size - 1, condition.line

    def _try(self, condition: Condition, names: tuple[str, ...], size: int) -> None:
        if (names, size) in self._seen:
            return
        self._seen.add((names, size))
        few = [axis for axis in self._rows if size > _MANY and axis not in condition.names]
        sizes = dict.fromkeys(few, _ROWS) | {name: size for name in names if name in self._axes}
        if all(name in self._axes for name in names):
            self._found.tried.append(Turn(sizes, None, condition.line))
            return
        for more in (0, 3):  # lengths up to the end of their axis, and below it
            steps = dict.fromkeys(self._steps, size + more)
            self._found.tried.append(Turn({**steps, **sizes}, size, condition.line))

    def _usual(self, name: str) -> int:
        return self._axes.get(name, self._longest)

    def _sizes(self, condition: Condition) -> dict[str, int]:
        return {**self._axes, **{name: self._usual(name) for name in condition.names}}

    def _flips(self, condition: Condition, names: Sequence[str], largest: int) -> list[int]:
        """Sizes of the named axes at which it turns out otherwise than at one less."""
        grid = np.arange(1, largest + 1)
        truth = np.asarray(condition.at({**self._sizes(condition), **dict.fromkeys(names, grid)}), bool)
        truth = np.broadcast_to(truth, grid.shape)
        return [int(size) for size in grid[1:][truth[1:] != truth[:-1]]]

    def _beyond(self, condition: Condition, good: int) -> int | None:
        """The first size beyond those that were looked at one by one at which it turns; None where it never does."""

        def truth(size: int) -> bool:
            try:
                return bool(condition.at({**self._sizes(condition), **dict.fromkeys(condition.names, size)}))
            except ArithmeticError:
                return False

        first, bad = truth(good), good
        while truth(bad) == first:
            good, bad = bad, 2 * bad
            if bad > _BEYOND:
                return None
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if truth(middle) == first else (good, middle)
        return bad


def _near(flips: Sequence[int], usual: int) -> list[int]:
    """Those next to the usual size, on either side, and those farthest from it: 30 and 101 of 30 <= n <= 100."""
    above, below = [n for n in flips if n > usual], [n for n in flips if n <= usual]
    farthest = {*above[-1:], *below[:1]} if len(flips) <= _FEW else ()
    return sorted({*above[:2], *below[-2:], *farthest})


def _beside(size: int) -> list[int]:
    """The sizes on either side of where a condition turns, and far behind it."""
    return [size - 1, size, size + 1, *([2 * size] if _DOUBLED <= size <= FARTHEST // 2 else ())]


def smallest_above(usual: Mapping[str, int], refused: Sequence[Turn]) -> dict[str, int]:
    """Axis → the smallest size above the usual one at which the model took nothing."""
    found: dict[str, int] = {}
    for turn in refused:
        for axis, size in turn.sizes.items():
            if size > usual[axis]:
                found[axis] = min(size, found.get(axis, size))
    return found


def untried(line: str) -> Refusal:
    """The refusal of a condition that no probe can reach."""
    return Refusal(
        "the model",
        f"takes one side of a Python branch at {line}, and would take the other only where several axes are large at "
        "once, which is too large to try",
        "write the branch with tensor operations, or give the module an input that is cut",
    )

"""Sizes at which a condition in the model's own code turns, for the proof to look at either side of it.

Needs: the conditions, as functions of the sizes. Guarantees: every condition that turns at a size up to 8192 is tried
on both sides, next to the usual sizes and farthest from them; an axis at which one turns beyond that holds up to there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqport.exporters.comparisons import Condition, Turn
from seqport.exporters.errors import Refusal
from seqport.exporters.passes.conditions import LARGEST, Asked, asked, asked_further
from seqport.exporters.passes.draws import FAR, LONG, Draws
from seqport.exporters.passes.job import Job

# Sizes that are looked at one by one; and two at a time, of which arrays would become too large.
FARTHEST, _FARTHEST_OF_TWO = 8192, 512
# Where a condition turns once, beyond those, it is tried up to this size.
_TRIED = 2**16
# Beyond those a condition is looked for up to here: no axis is longer.
_BEYOND = 2**31
# Where nothing says that it turns, no larger tensor is made to see.
_FAR_LARGEST = LARGEST // 8
# A loop of so many steps, whose comparisons are noted, takes a tenth of a second.
_LONG_LOOP = 2048
# A condition that turns more often than this is one of remainders, and turns alike everywhere.
_FEW = 8
# How often the model is asked again what it asks beyond its turns.
_ROUNDS = 3
# At so many of the sizes that are tried the model says again what it asks.
_NOTED_AGAIN = 8
# Other probes have seen the double of a size below this.
_DOUBLED = 32
# From this number of steps on two rows do.
_MANY, _ROWS = 400, 2


def rows_of(draws: Draws, looped: Collection[str]) -> list[str]:
    """The axes that count rows: those that lengths tell, else the first, unless a loop runs over it."""
    first = list(draws.sizes(FAR, 1))[:1]
    return sorted(draws.rows - set(looped)) or [axis for axis in first if axis not in looped]


def far(draws: Draws, looped: Collection[str], ends: Collection[int], questions: Asked) -> list[Turn]:
    """Sizes far beyond every other, of the axes of steps; where a loop runs over the first axis, of those looped.

    Args:
        draws: of the inputs.
        looped: the axes that a loop runs over.
        ends: numbers that a loop may end at, for sizes beyond all of them too.
        questions: what the model asks of sizes.
    """
    sizes = draws.sizes(FAR, 1)
    rows = rows_of(draws, looped)
    long = [axis for axis in sizes if axis not in rows and (rows or axis in looped)]
    found: list[Turn] = []
    for largest in (LONG, *sorted((end + 1 for end in ends if LONG <= end <= FARTHEST), reverse=True)):
        axes = {axis: largest + 2 * long.index(axis) if axis in long else _ROWS + i for i, axis in enumerate(sizes)}
        if not found or questions.fits(axes, _FAR_LARGEST):
            found.append(Turn(axes, None, ""))
    return found[:2]


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


def searched(
    job: Job, draws: Draws, scale: int, kind: str, usual: Mapping[str, int], rows: Sequence[str]
) -> tuple[Asked, Turns]:
    """What a model asks of sizes, and where that turns; what it asks only where something turned may turn again.

    Args:
        job: the export.
        draws: of its inputs.
        scale: at which the model takes them.
        kind: of values that the model takes.
        usual: the size of every axis, at which the artifact was compared.
        rows: the axes that count rows; no lengths are bounded by those.
    """
    questions = asked(job, draws, scale, kind)
    turns = turns_of(questions, usual, rows)
    for _ in range(_ROUNDS if turns.tried else 0):
        known = len(questions.conditions)
        turned = _beyond_turns(turns, usual)
        questions = asked_further(job, draws, scale, kind, questions, _farthest(turns), turned)
        if len(questions.conditions) == known:
            break
        turns = turns_of(questions, usual, rows)
    return questions, turns


def turns_of(questions: Asked, usual: Mapping[str, int], rows: Sequence[str]) -> Turns:
    """Where conditions turn.

    Args:
        questions: the conditions of the model.
        usual: the size of every axis, at which the artifact was compared.
        rows: the axes that count rows; no lengths are bounded by those.
    """
    return _Search(questions.fits, usual, rows).run(questions.conditions)


class _Search:
    def __init__(
        self, fits: Callable[[Mapping[str, int]], bool], usual: Mapping[str, int], rows: Sequence[str]
    ) -> None:
        self._fits = fits
        self._axes = usual
        self._rows = rows
        self._steps = [axis for axis in usual if axis not in rows]
        self._longest = min((usual[axis] for axis in self._steps), default=1)
        self._seen: set[tuple[tuple[tuple[str, int], ...], int | None]] = set()
        self._found = Turns()

    def run(self, conditions: Iterable[Condition]) -> Turns:
        for condition in conditions:
            turned = [self._alone(condition, name) for name in condition.names]
            if any(turned):
                continue
            if len(condition.names) > 1:
                self._together(condition)
            elif condition.names and condition.everywhere:
                self._far_away(condition)
        return self._found

    def _alone(self, condition: Condition, name: str) -> bool:
        """Try where the condition turns with one size; whether it does."""
        flips = self._flips(condition, (name,), FARTHEST)
        for size in _near(flips, self._usual(condition, name)):
            if not self._try(condition, (name,), _beside(size)) and condition.everywhere:
                self._limit(condition, name, size - 1)
        return bool(flips)

    def _together(self, condition: Condition) -> None:
        """Try where the condition turns with all its sizes alike."""
        names = tuple(condition.names)
        size = next(iter(self._flips(condition, names, _FARTHEST_OF_TWO)), None)
        if size is None and condition.everywhere:
            size = self._beyond(condition, _FARTHEST_OF_TWO)
        if size is not None and not self._try(condition, names, [size - 1, size, size + 1]) and condition.everywhere:
            self._found.untried.append(condition.line)

    def _far_away(self, condition: Condition) -> None:
        """Try where the condition turns beyond the sizes that are looked at one by one."""
        size = self._beyond(condition, FARTHEST)
        (name,) = condition.names
        if size is not None and (size > _TRIED or not self._try(condition, (name,), [size - 1, size, size + 1])):
            self._limit(condition, name, size - 1)

    def _limit(self, condition: Condition, name: str, size: int) -> None:
        for axis in (name,) if name in self._axes else self._steps:
            if size < self._found.limits.get(axis, (_BEYOND, ""))[0]:
                self._found.limits[axis] = size, condition.line

    def _try(self, condition: Condition, names: tuple[str, ...], several: Sequence[int]) -> bool:
        """Try these sizes of what the names stand for; False where the first three do not fit into memory."""
        probes = [(size, turn) for size in several for turn in self._turns(condition, names, size)]
        fitting = [(size, turn) for size, turn in probes if self._fits({**self._axes, **turn.sizes})]
        if {size for size, _ in fitting}.isdisjoint(several[1:3]):
            return False
        for _, turn in fitting:
            probe = tuple(sorted(turn.sizes.items())), turn.longest
            if probe not in self._seen:
                self._seen.add(probe)
                self._found.tried.append(turn)
        return True

    def _turns(self, condition: Condition, names: tuple[str, ...], size: int) -> list[Turn]:
        """The probes at one size: of an axis; of the longest length, up to the end of its axis and below it."""
        few = [axis for axis in self._rows if size > _MANY and axis not in condition.names]
        sizes = dict(condition.found_at or {}) | dict.fromkeys(few, _ROWS)
        sizes |= {name: size for name in names if name in self._axes}
        if all(name in self._axes for name in names):
            stays = any(name not in self._axes for name in condition.names)  # the longest length, which is compared too
            longest = min([self._longest, *(size for axis, size in sizes.items() if axis in self._steps)])
            return [Turn(sizes, longest if stays else None, condition.line)]
        several = [dict.fromkeys(self._steps, size + more) for more in (0, 3)]  # as long as the longest, and longer
        return [Turn({**steps, **sizes}, size, condition.line) for steps in several]

    def _usual(self, condition: Condition, name: str) -> int:
        return (condition.found_at or self._axes).get(name, self._longest)

    def _sizes(self, condition: Condition) -> dict[str, int]:
        usual = condition.found_at or self._axes
        return {**usual, **{name: self._usual(condition, name) for name in condition.names}}

    def _flips(self, condition: Condition, names: Sequence[str], largest: int) -> list[int]:
        """Sizes of the named axes at which it turns out otherwise than at one less."""
        grid = np.arange(1, largest + 1)
        truth = np.broadcast_to(condition.at({**self._sizes(condition), **dict.fromkeys(names, grid)}), grid.shape)
        return [int(size) for size in grid[1:][truth[1:] != truth[:-1]]]

    def _beyond(self, condition: Condition, good: int) -> int | None:
        """The first size beyond those that were looked at one by one at which it turns; None where it never does."""

        def truth(size: int) -> bool:
            try:
                return bool(condition.side({**self._sizes(condition), **dict.fromkeys(condition.names, size)}))
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


def _farthest(turns: Turns) -> int:
    """The largest size that is tried, up to where a loop in Python takes long."""
    return max((size for turn in turns.tried for size in turn.sizes.values() if size <= _LONG_LOOP), default=LONG)


def _beyond_turns(turns: Turns, usual: Mapping[str, int]) -> list[dict[str, int]]:
    """Some of the sizes that are tried, of all axes: those nearest to the usual ones, and the others by turns."""
    fitting = [
        turn for turn in turns.tried if max(turn.sizes.values(), default=0) <= _LONG_LOOP and turn.longest is None
    ]
    several = [{**usual, **turn.sizes} for turn in fitting]
    step = max(1, len(several) // _NOTED_AGAIN)
    return several[::step][:_NOTED_AGAIN]


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

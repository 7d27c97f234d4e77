"""Which curve over steps a counter follows: 0 + 1 + ... + (n - 1), 0.02 + 0.02 + ..., 0.99 * 0.99 * ...

Needs: a counter's value after several numbers of steps. Guarantees: a function that gives all of them, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isfinite, lcm, log
from typing import Any

import numpy as np

# A sum of floats is rounded at each step: 0.02 + 0.02 + ... is no multiple of 0.02.
_CLOSE = 1e-9
# Of the runs, so many determine a parabola, and the others prove it.
_POINTS = 3


def curve(steps: Sequence[int], values: Sequence[float]) -> Callable[[Any], Any] | None:
    """The curve through all values: a line or a parabola over the steps, or a power of them.

    Args:
        steps: how many steps each run has, more than three runs.
        values: the counter at the end of each.
    """
    if len(set(steps[:_POINTS])) < _POINTS or not all(isinstance(value, int) or isfinite(value) for value in values):
        return None
    if all(isinstance(value, int) for value in values):
        return _whole(steps, [int(value) for value in values])
    if (found := _rounded(steps, values)) is not None:
        return found
    if min(values) <= 0 or (power := _rounded(steps, [log(value) for value in values])) is None:
        return None
    return lambda n: np.exp(power(n))


def _whole(steps: Sequence[int], values: Sequence[int]) -> Callable[[Any], Any] | None:
    curved = _parabola(steps, [Fraction(value) for value in values[:_POINTS]])
    if any(_at(curved, n) != value for n, value in zip(steps, values, strict=True)):
        return None
    parts = lcm(*(item.denominator for item in curved))
    a, b, c = (int(item * parts) for item in curved)
    return lambda n: ((a * n + b) * n + c) // parts


def _rounded(steps: Sequence[int], values: Sequence[float]) -> Callable[[Any], Any] | None:
    curved = _parabola(steps, [Fraction(value) for value in values[:_POINTS]])
    bound = _CLOSE * max(abs(value) for value in values)
    if any(abs(_at(curved, n) - Fraction(value)) > bound for n, value in zip(steps, values, strict=True)):
        return None
    # What rounding alone has bent is a line.
    a, b, c = (0.0 if abs(item) < bound else float(item) for item in curved)
    return lambda n: (a * n + b) * n + c


_Curve = tuple[Fraction, Fraction, Fraction]


def _at(curved: _Curve, n: int) -> Fraction:
    return (curved[0] * n + curved[1]) * n + curved[2]


def _parabola(steps: Sequence[int], values: Sequence[Fraction]) -> _Curve:
    """a, b and c of a n² + b n + c through the first three."""
    slope = (values[1] - values[0]) / (steps[1] - steps[0])
    further = (values[2] - values[1]) / (steps[2] - steps[1])
    a = (further - slope) / (steps[2] - steps[0])
    b = slope - a * (steps[0] + steps[1])
    return a, b, values[0] - (a * steps[0] + b) * steps[0]

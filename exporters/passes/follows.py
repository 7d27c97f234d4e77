"""Which size a number follows, and for which sizes a comparison of such numbers holds.

Needs: the same comparison, noted in runs of the model at several sizes. Guarantees: a function of the sizes that gives
what was noted in every run, or None. 10, 12 and 15 where an axis has 19, 23 and 29 steps is (n + 1) // 2.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from seqport.exporters.comparisons import CHANGES, Comparison, Condition, Term
from seqport.exporters.passes.curves import curve

# Sizes by name → the number; an array of sizes gives an array.
Function = Callable[[Mapping[str, Any]], Any]

# A size may be up to so many times an axis, or up to so many times less.
_TIMES, _PARTS = 4, 16


# No number of a model's code is larger; a power that is stays a float.
_WHOLE = 2.0**62


def _power(base: Any, exponent: Any) -> Any:
    found = np.power(np.asarray(base, np.float64), exponent)
    whole = all(np.asarray(side).dtype.kind in "iu" for side in (base, exponent)) and np.min(exponent) >= 0
    return np.power(base, exponent) if whole and np.max(np.abs(found), initial=0) < _WHOLE else found


def _logarithm(value: Any, base: Any = np.e) -> Any:
    return np.log(value) / np.log(base)


def _python(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Python's numbers, for arrays of them; NaN where it takes none of them."""

    def one(*numbers: Any) -> Any:
        try:
            return function(*(np.asarray(number).item() for number in numbers))
        except (ArithmeticError, TypeError, ValueError):
            return np.nan

    return lambda *sides: np.asarray(np.asarray(np.frompyfunc(one, len(sides), 1)(*sides)).tolist())


def _whole(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: function(np.asarray(value, np.float64)).astype(np.int64)


OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pos")},
    **{name: getattr(operator, name) for name in ("xor", "lshift", "rshift", "abs")},
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "and": operator.and_,
    "or": operator.or_,
    "pow": _power,
    "float": lambda value: np.asarray(value, np.float64),
    **{name: _whole(getattr(np, name)) for name in ("ceil", "floor", "trunc")},
    "round": _whole(np.rint),
    "log": _logarithm,
    **{name: getattr(np, name) for name in ("sqrt", "log2", "log10", "log1p", "exp", "fabs", "fmod", "gcd")},
}


class _At(dict[str, Any]):
    """Sizes, and what was computed of them: a number that is used twice is computed once."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__(sizes)
        self.known: dict[int, Any] = {}


def condition(runs: Sequence[Comparison], sizes: Sequence[Mapping[str, int]]) -> Condition | None:
    """For which sizes a comparison holds; None where its numbers are no known function of the sizes.

    Args:
        runs: the comparison in each run.
        sizes: of each run.
    """
    follower = _Follower(sizes)
    try:
        left, right = (follower.function(terms) for terms in ([run.left for run in runs], [run.right for run in runs]))
    except RecursionError:  # a number that was computed from itself at each of many steps
        return None
    if left is None or right is None:
        return None

    def comparing(name: str) -> Function:
        def once(where: Mapping[str, Any]) -> Any:
            sizes = _At(where)
            with np.errstate(all="ignore"):
                return OPERATORS[name](left(sizes), right(sizes)) if name != CHANGES else left(sizes)

        return lambda where: _each(once, where)

    name = runs[0].operator
    side = comparing("ge" if name in ("eq", "ne") else name)
    everywhere = name != CHANGES
    return Condition(comparing(name), side, sorted(follower.names), runs[0].line, everywhere=everywhere)


def _each(function: Function, where: Mapping[str, Any]) -> Any:
    """What a function gives for arrays of sizes; one by one where arrays cannot hold its numbers, else False."""
    try:
        return function(where)
    except (ArithmeticError, TypeError, ValueError):
        grids = {name: sizes for name, sizes in where.items() if np.ndim(sizes)}
        if not grids:
            return False
        several = zip(*(sizes.tolist() for sizes in grids.values()), strict=True)
        return np.array([_each(function, {**where, **dict(zip(grids, one, strict=True))}) for one in several])


class _Follower:
    """Finds functions for numbers that were noted in several runs.

    Args:
        sizes: of each run.
    """

    def __init__(self, sizes: Sequence[Mapping[str, int]]) -> None:
        self._sizes = sizes
        self._known: dict[tuple[int, ...], Function | None] = {}
        self.names: set[str] = set()

    def function(self, terms: Sequence[Term]) -> Function | None:
        """What the numbers are, one of each run."""
        key = tuple(id(term) for term in terms)
        if key not in self._known:
            self._known[key] = self._of_operands(terms) or self._of_values([term.value for term in terms])
        return self._known[key]

    def _of_operands(self, terms: Sequence[Term]) -> Function | None:
        """The function where all numbers were computed alike: a counter was not, it was added to more or less often."""
        first = terms[0]
        alike = all((term.operator, len(term.operands)) == (first.operator, len(first.operands)) for term in terms)
        apply = OPERATORS.get(first.operator) if isinstance(first.operator, str) else _python(first.operator)
        if not alike or apply is None:
            return None
        found = [self.function(several) for several in zip(*(term.operands for term in terms), strict=True)]
        operands = [operand for operand in found if operand is not None]
        if len(operands) != len(found):
            return None

        def compute(at: Any) -> Any:
            if id(compute) not in at.known:
                at.known[id(compute)] = apply(*(operand(at) for operand in operands))
            return at.known[id(compute)]

        return compute

    def _of_values(self, values: Sequence[float]) -> Function | None:
        if len(set(values)) == 1 and (len(values) > 1 or not isinstance(values[0], int)):
            return lambda _: values[0]
        if not all(isinstance(value, int) for value in values):
            return self._of_counter(values)
        if (line := _line(values, self._sizes)) is not None:
            name, times, parts, plus = line
            self.names.add(name)
            return lambda at: (times * at[name] + plus) // parts
        if len(values) > 1 and (product := _product(values, self._sizes)) is not None:
            times, one, other = product
            self.names.update((one, other))
            return lambda at: times * at[one] * at[other]
        return (lambda _: values[0]) if len(values) == 1 else self._of_counter(values)

    def _of_counter(self, values: Sequence[float]) -> Function | None:
        """What was added to, or multiplied, at each step."""
        for name in self._sizes[0] if len(values) > 3 else ():
            found = curve([at[name] for at in self._sizes], values)
            if found is not None:
                self.names.add(name)
                return lambda at, name=name, found=found: found(at[name])
        return None


def _line(values: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> tuple[str, int, int, int] | None:
    """(name, p, q, r) where each value is (p n + r) // q; the simplest, and with two runs no part of an axis.

    A single run tells no more than that a value is a size, or the step before or after its last.
    """
    if len(values) == 1:
        (value,), (at,) = values, sizes
        return next(
            ((name, 1, 1, int(value) - n) for by in (0, 1) for name, n in at.items() if abs(value - n) == by), None
        )
    for parts in range(1, _PARTS + 1 if len(values) > 2 else 2):
        for times in range(1, _TIMES + 1):
            if np.gcd(times, parts) > 1:
                continue
            for name in sizes[0]:
                pairs = [(value, at[name]) for value, at in zip(values, sizes, strict=True)]
                least = max(int(value) * parts - times * n for value, n in pairs)
                most = min((int(value) + 1) * parts - 1 - times * n for value, n in pairs)
                if least <= most:
                    return name, times, parts, _middle(least, most, parts)
    return None


def _middle(least: int, most: int, parts: int) -> int:
    """Of the numbers in question the likeliest: n // q, else (n + q - 1) // q, else any."""
    return next((plus for plus in (0, parts - 1) if least <= plus <= most), least)


def _product(values: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> tuple[int, str, str] | None:
    """(c, one, other) where each value is c times the product of two sizes."""
    for one, other in combinations_with_replacement(list(sizes[0]), 2):
        ratios = {value / (at[one] * at[other]) for value, at in zip(values, sizes, strict=True)}
        if len(ratios) == 1 and (ratio := next(iter(ratios))) == int(ratio) and ratio > 0:
            return int(ratio), one, other
    return None

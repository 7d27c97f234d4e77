"""The longest length as a Python number, for the trace of a loop that runs up to it.

`range(int(lengths.max()))` and `while t < lengths.max()` need a number. They get one that no other size has, so that
what follows from it can be found in the graph again. Where the module compares it, or what it computes from it, the
trace takes one side; for which lengths it would take the other is written down, and the probe looks there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")
}
# What PyTorch calls a comparison → the comparison.
COMPARISONS: dict[Any, Callable[[Any, Any], bool]] = {
    getattr(owner, form): function
    for name, function in _OPERATORS.items()
    for owner, form in ((torch, name), (Tensor, name), (Tensor, f"__{name}__"))
}
# Lengths beyond this are not looked at.
_FAR = 4096


class Longest(int):
    """A number that notes for which other lengths a comparison would turn out otherwise.

    Args:
        length: the longest length.
        turns: gets those lengths, the nearest on either side.
        of: the number that this is, of any longest length.
    """

    _length: int
    _turns: set[int]
    _of: Callable[[int], int]

    def __new__(cls, length: int, turns: set[int], of: Callable[[int], int] = lambda length: length) -> Longest:  # noqa: D102
        made = super().__new__(cls, of(length))
        made._length, made._turns, made._of = length, turns, of
        return made

    def __int__(self) -> int:
        raise TypeError("Python's own int() makes a number of the longest length that forgets where it comes from")

    __hash__ = int.__hash__

    def plain(self) -> int:
        """The number."""
        return int.__int__(self)


def _comparison(name: str) -> Callable[[Longest, Any], Any]:
    holds = _OPERATORS[name]

    def compare(self: Longest, other: Any) -> Any:
        if isinstance(other, (int, float)):
            other = other.plain() if isinstance(other, Longest) else other
            usual = holds(self.plain(), other)
            sides = (range(self._length - 1, 0, -1), range(self._length + 1, _FAR))
            for side in sides:
                self._turns.update(next(([n] for n in side if holds(self._of(n), other) != usual), []))
        return getattr(int, f"__{name}__")(self, other)

    return compare


def _arithmetic(name: str) -> Callable[[Longest, Any], Any]:
    own = getattr(int, name)

    def compute(self: Longest, other: Any) -> Any:
        if type(other) is not int:
            return own(self, other.plain() if isinstance(other, Longest) else other)
        of = self._of
        return Longest(self._length, self._turns, lambda length: own(of(length), other))

    return compute


for _name in _OPERATORS:
    setattr(Longest, f"__{_name}__", _comparison(_name))
for _name in ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__floordiv__", "__mod__"):
    setattr(Longest, _name, _arithmetic(_name))

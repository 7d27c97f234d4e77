"""The longest length as a Python number, for the trace of a loop that runs up to it.

`range(int(lengths.max()))` and `while t < lengths.max()` need a number. They get one that no other size has, so that
what follows from it can be found in the graph again. Where the module compares it, the trace takes one side; for which
lengths it would take the other, noting.py finds.
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


class Longest(int):
    """The longest length; what is computed from it by an int is one too, so that neither is a constant to the trace."""

    def __int__(self) -> int:
        raise TypeError("Python's own int() makes a number of the longest length that forgets where it comes from")

    def plain(self) -> int:
        """The number."""
        return int.__int__(self)


def _arithmetic(name: str) -> Callable[[Longest, Any], Any]:
    own = getattr(int, name)

    def compute(self: Longest, other: Any) -> Any:
        result = own(self, other.plain() if isinstance(other, Longest) else other)
        return Longest(result) if type(other) is int else result

    return compute


for _name in ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__floordiv__", "__mod__"):
    setattr(Longest, _name, _arithmetic(_name))

"""Inputs to probe an artifact with: sizes that no trace saw, and values that a model is likely to take.

Needs: the declared inputs, and which of them hold lengths. Guarantees: the same draws for the same model; lengths
between 1 and a bound below their axis, so that an axis cut to the longest row shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from seqport.exporters.capture import Arrays
from seqport.exporters.signature import Input, axis_names

# Lengths input → the axis (name, or fixed size) that bounds its values.
Roles = Mapping[str, str | int]


class Sizes(NamedTuple):
    """One probe's sizes: of the batch (or the first dynamic axis), of those after it, and the lengths'."""

    axes: tuple[int, ...]
    shorter: int  # by how much the longest row stays below its axis
    ordered: bool  # rows fall in length, as some models want them
    full: bool = False  # every row is as long as the axis


# All sizes differ, so that an output's axis tells where its size comes from.
MEASURED = (Sizes((3, 13, 17, 23), 5, True), Sizes((5, 19, 29, 37), 7, True))
_SCALED = tuple(sizes.axes for sizes in MEASURED)
# A single row of a single step; even sizes, rows in any order, the longest as long as the axis; and sizes that fall,
# for a trace that took the larger of two for granted.
FURTHER = (Sizes((1, 1, 1, 1), 0, True), Sizes((4, 8, 6, 10), 0, False), Sizes((12, 11, 9, 3), 0, False))
# Far beyond every other size, for what only shows there: the last fifty steps of many.
LONG = 307
FAR = Sizes((2, LONG, LONG + 4, LONG + 6), 0, True)

# A model may need more steps than that (a convolution over time): then all sizes grow.
SCALES = (1, 8)
# Ways to draw values, the likeliest first; a model that refuses one may take another.
KINDS = ("usual", "ones", "short", "long")


@dataclass(frozen=True)
class Draws:
    """Draws inputs of one model.

    Attributes:
        inputs: the declared inputs.
        roles: which of them hold lengths, and of which axis.
        example: the user's own values by name, which are drawn from where they are given.
        padding: name → the value that the model itself masks.
        ids: input of ids → the smallest and the largest that every table has which they reach.
    """

    inputs: Sequence[Input]
    roles: Roles
    example: Arrays
    padding: Mapping[str, float]
    ids: Mapping[str, tuple[int, int]]

    def sizes(self, sizes: Sizes, scale: int) -> dict[str, int]:
        """Every dynamic axis's size."""
        return {
            name: sizes.axes[min(i, 3)] * (scale if sizes.axes in _SCALED else 1) + max(0, i - 3)
            for i, name in enumerate(self._axes)
        }

    @cached_property
    def rows(self) -> set[str]:
        """The axes that are known to count rows."""
        per_row = [item for item in self.inputs if item.name in self.roles or is_per_row(item)]
        return {item.axes[0] for item in per_row if isinstance(item.axes[0], str)}

    @cached_property
    def _axes(self) -> list[str]:
        """The dynamic axes; what counts rows comes first, also where the steps stand before them."""
        return sorted(axis_names(self.inputs), key=lambda name: name not in self.rows)

    def arrays(
        self, sizes: Sizes, scale: int, kind: str, changed: Mapping[str, int] | None = None
    ) -> dict[str, np.ndarray]:
        """One array an input; some axes may have other sizes."""
        random = np.random.default_rng(sum(sizes.axes))
        found = {**self.sizes(sizes, scale), **(changed or {})}
        return {item.name: self._array(item, sizes, found, kind, random) for item in self.inputs}

    def _array(
        self, item: Input, sizes: Sizes, found: dict[str, int], kind: str, random: np.random.Generator
    ) -> np.ndarray:
        shape = item.shape(found)
        bound = self.bound(item, found)
        if item.name in self.example:
            values = random.choice(np.asarray(self.example[item.name]).reshape(-1), shape)
            return (values if bound is None else np.minimum(values, bound)).astype(item.dtype)
        if bound is not None:
            return _lengths(shape, bound, sizes, kind, random).astype(item.dtype)
        is_mask = kind == "ones" and item.dtype.startswith("float") and len(shape) == 2 and not is_per_row(item)
        if item.dtype == "bool" or is_mask:
            return _mask(shape, kind, random).astype(item.dtype)
        if not item.dtype.startswith("float"):
            # Small where no table bounds it: an int may be an id all the same. Zeros may be masked, so some are drawn.
            low, high = self.ids.get(item.name, (0, 1))
            ids = random.integers(min(max(low, 0), high), high + 1, shape)
            if low <= 0 <= high:
                ids *= random.random(shape) < 0.8
            return (np.ones(shape) if kind == "ones" else ids).astype(item.dtype)
        if kind != "usual" and is_per_row(item):  # perhaps lengths: fractions of the longest, or whole
            longest = min((n for axis, n in found.items() if axis != item.axes[0]), default=1)
            lengths = _lengths(shape, longest, sizes, kind, random)
            return (lengths / lengths.max() if kind == "ones" else lengths).astype(item.dtype)
        values = random.standard_normal(shape)
        if item.name in self.padding and values.ndim >= 3:
            values[random.random(shape[:2]) < 0.3] = self.padding[item.name]
        return values.astype(item.dtype)

    def bound(self, item: Input, found: dict[str, int]) -> int | None:
        """The largest length, for an input of lengths; or of what looks like lengths, one int a row."""
        axis = self.roles.get(item.name)
        if axis is not None:
            return found[axis] if isinstance(axis, str) else axis
        if not is_per_row(item) or not item.dtype.startswith("int") or item.name in self.ids:
            return None
        others = [found[a] for other in self.inputs for a in other.axes if isinstance(a, str) and a != item.axes[0]]
        return min(others, default=None)


def is_per_row(item: Input) -> bool:
    """Whether an input holds one value a row."""
    return len(item.axes) >= 1 and all(axis == 1 for axis in item.axes[1:])


def tries() -> Iterator[tuple[int, str]]:
    """Scales and kinds, in the order in which they are tried."""
    return ((scale, kind) for scale in SCALES for kind in KINDS)


def _lengths(shape: tuple[int, ...], bound: int, sizes: Sizes, kind: str, random: np.random.Generator) -> np.ndarray:
    longest = max(1, bound // 4 if kind == "short" else bound - sizes.shorter)
    if sizes.full:
        return np.full(shape, bound)
    shortest = max(1, longest - longest // 4) if kind == "long" else 1
    values = np.sort(random.integers(shortest, longest + 1, shape[0]))[::-1].copy()
    values[0] = longest
    if len(values) > 1:
        values[-1] = shortest
    return (values if sizes.ordered else random.permutation(values)).reshape(shape)


def _mask(shape: tuple[int, ...], kind: str, random: np.random.Generator) -> np.ndarray:
    """Any mask; or one that only says which steps come before a length."""
    if kind == "usual" or len(shape) < 2:
        return random.random(shape) < 0.6
    lengths = random.integers(1, shape[1] + 1, (shape[0], 1))
    return np.broadcast_to((np.arange(shape[1]) < lengths).reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)

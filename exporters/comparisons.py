"""What a model's own Python code compares while it runs: numbers, and how they were computed.

`if x.size(1) * 0.02 > 8` is a comparison of `Term(0.38, "mul", (Term(19), Term(0.02)))` with `Term(8.0)`, where x has
19 steps. The same comparison noted at several sizes tells which size each number follows (exporters/passes/follows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """A number, and the operator and operands that gave it; a size, a step or a constant has neither.

    Attributes:
        value: the number.
        operator: a key of `exporters.passes.follows.OPERATORS`, or a Python function of numbers.
        operands: what the operator was applied to.
        depth: how many operators lie between this and a size.
    """

    value: float
    operator: str | Callable[..., float] = ""
    operands: tuple[Term, ...] = ()
    depth: int = 0


CHANGES = "changes"


class Comparison(NamedTuple):
    """Two numbers that the model's code compared, and the user's line that did."""

    operator: str  # lt, le, gt, ge, eq or ne; or CHANGES, where the left number chooses by its value
    left: Term
    right: Term
    line: str


class Notes(NamedTuple):
    """What one run of a model noted.

    Attributes:
        comparisons: which one it is, the same in every run (the lines that led to it, and which of its visits) → what
            was compared.
        largest: how many elements the largest tensor had.
        numbers: whole numbers that the code names, and lengths of lists: what it may cut a sequence to in ways that
            compare nothing (`steps[:400]`, `zip(steps, self.gains)`).
        failed: why nothing was noted: the error of the model's code at numbers that note.
    """

    comparisons: Mapping[tuple[object, ...], Comparison]
    largest: int
    numbers: Collection[int]
    failed: str = ""


class Condition(NamedTuple):
    """What a model's code asks of sizes, as a function of them.

    Attributes:
        at: sizes by name → whether it holds; an array of sizes gives an array.
        side: the same of what turns but once where `at` holds at a single size: `t >= 400` of `t == 400`.
        names: the sizes that it depends on, axes or `longest_of` an input.
        line: the user's line that asks.
        everywhere: whether the user's own code asks, so that it matters however large the size is.
        found_at: the sizes of all axes at which it was found to be asked; None where it is at usual ones.
    """

    at: Callable[[Mapping[str, Any]], Any]
    side: Callable[[Mapping[str, Any]], Any]
    names: Sequence[str]
    line: str
    everywhere: bool
    found_at: Mapping[str, int] | None = None


class Turn(NamedTuple):
    """Sizes at which a condition turns out otherwise than at those that were traced, or right beside such sizes.

    Attributes:
        sizes: axis → size, of the axes that differ from the usual ones.
        longest: the longest length, where that is what was compared; else None, and lengths are as long as their axis.
        line: the user's line that asks.
    """

    sizes: Mapping[str, int]
    longest: int | None
    line: str


def longest_of(name: str) -> str:
    """What the largest length in an input is called among the sizes."""
    return f"max({name})"

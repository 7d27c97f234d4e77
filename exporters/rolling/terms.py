"""A loop's body: what each of its values is at step i, whatever i is.

A family is one value a step. A term says what the members of a family are: the same value at each step, one step of a
sequence, a number that counts, an operator of other terms, or what another family was one step before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

# What to do about a loop that no recurrent operator of ONNX computes.
ONE_STEP = (
    "export one step (its input and states in, its states out) and run the loop around it, or use nn.RNN, nn.GRU or "
    "nn.LSTM over the whole sequence"
)

# One value a step. The last may be missing: a state after the last step that nobody reads was never traced.
Family = tuple[ir.Value | None, ...]


class NotRollable(Exception):  # noqa: N818 (a verdict on a graph, not a fault)
    """Why values are no steps of one loop, or cannot be computed over the whole time axis at once.

    Args:
        reason: what stands in the way.
        layer: the user's name of the layer, where it is known.
        remedy: what to do about it, where that is something of its own.
    """

    def __init__(self, reason: str, *, layer: str = "", remedy: str = "") -> None:
        self.layer, self.remedy = layer, remedy
        super().__init__(reason)


@dataclass(eq=False)
class Term:
    """What the members of a family are.

    Attributes:
        family: the members.
    """

    family: Family

    @property
    def count(self) -> int:
        """The number of steps, as traced."""
        return len(self.family)

    def example(self) -> ir.Value:
        """One member, whose rank and element type are those of all."""
        return next(value for value in (self.family[1:2] or self.family) + self.family if value is not None)

    def parts(self) -> Iterator[Term]:
        """The terms that it is made of."""
        yield from ()


@dataclass(eq=False)
class Same(Term):
    """The same value at each step."""

    value: ir.Value


@dataclass(eq=False)
class Taken(Term):
    """Step `start + stride * i` of an axis of a sequence; `kept` where the axis stays, of size 1."""

    source: ir.Value
    axis: int
    start: int
    stride: int
    kept: bool


@dataclass(eq=False)
class Counted(Term):
    """The number `start + stride * i`."""

    start: float
    stride: float


@dataclass(eq=False)
class Applied(Term):
    """One output of an operator."""

    node: ir.Node
    index: int
    operands: list[Term | None] = field(default_factory=list)

    def parts(self) -> Iterator[Term]:
        """The terms that it is made of."""
        yield from (operand for operand in self.operands if operand is not None)


@dataclass(eq=False)
class Before(Term):
    """The initial value at the first step, and then what `after` was one step before."""

    initial: ir.Value
    after: Term

    def parts(self) -> Iterator[Term]:
        """The terms that it is made of."""
        yield self.after


@dataclass(eq=False)
class Window(Term):
    """Another term without some of its first and last steps."""

    of: Term
    front: int
    back: int

    def parts(self) -> Iterator[Term]:
        """The terms that it is made of."""
        yield self.of


@dataclass(eq=False)
class Flipped(Term):
    """Another term, the last step first."""

    of: Term

    def parts(self) -> Iterator[Term]:
        """The terms that it is made of."""
        yield self.of

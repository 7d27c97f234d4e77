"""Which cells a step computes: the states that belong together, and what each cell is.

Needs: the states of a loop with their gates taken off. Guarantees: one cell for every h, with its c where it has one; a
NotLiftedError where a state is no cell's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import onnx_ir as ir

from seqport.exporters.lift.algebra import Expression, leaf, with_leaf
from seqport.exporters.lift.cells import Cell, single_state, two_states
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.evaluate import Evaluator
from seqport.exporters.lift.steps import State, Steps
from seqport.exporters.lift.walk import body_of


@dataclass(frozen=True)
class Candidate:
    """A state, and the body's value of it after a valid step."""

    state: State
    new: ir.Value


# By the number that the leaves carry: "state 0" before the step, "new 0" after it.
States = Mapping[int, Candidate]


def recognise(
    steps: Steps, states: States, inputs: dict[str, ir.Value], dependencies: Mapping[ir.Value, set[ir.Value]]
) -> Iterator[tuple[Cell, int, int | None]]:
    """Every cell with the numbers of its h and c.

    Args:
        steps: the loop.
        states: those that a step depends on.
        inputs: filled with what the cells read: the name of the leaf, the body's value.
        dependencies: see `dependencies_of`.

    Raises:
        NotLiftedError: a state is no RNN's, GRU's or LSTM's; says what it is.
    """
    expressions = _expressions(steps, states, inputs, dependencies)
    for h, c in _pairs(expressions):
        yield _cell(expressions, h, c), h, c


def dependencies_of(steps: Steps) -> dict[ir.Value, set[ir.Value]]:
    """For every body value: the body inputs that it depends on, or their pieces."""
    found: dict[ir.Value, set[ir.Value]] = {
        value: set(steps.parts.get(value, [value])) for value in body_of(steps.node).inputs
    }
    for node in body_of(steps.node):
        reached: set[ir.Value] = set()
        for value in node.inputs:
            if value is not None:
                reached |= found.get(value, set())
        for output in node.outputs:
            found[output] = reached
    return found


def _expressions(
    steps: Steps, states: States, inputs: dict[str, ir.Value], dependencies: Mapping[ir.Value, set[ir.Value]]
) -> dict[int, Expression]:
    """Every new state, in terms of old states, of the others' new states and of the step's input."""
    widths = {}
    for i in states:
        state = states[i].state
        widths[i] = state.width(steps.facts)
        if widths[i] is None:
            raise NotLiftedError(f"the size of its state {state.entry.name!r} is not known")
    entries = {states[i].state.entry for i in states}
    dependent = {value for value, reached in dependencies.items() if reached & entries}
    found = {}
    for i in states:
        leaves = {states[j].state.entry: leaf(f"state {j}", widths[j] or 0) for j in states}
        for j in states:
            if j != i:
                new = leaf(f"new {j}", widths[j] or 0)
                leaves[states[j].new] = new
                leaves[steps.resolve(states[j].state.leaving)] = new
        evaluator = Evaluator(steps, leaves, dependent, inputs)
        found[i] = evaluator.expression(states[i].new)
    # A native operator of one step gives h and c at once, and its h does not go through the body's c.
    return {
        i: reduce(lambda h, j: with_leaf(h, found[j], f"new {j}"), (j for j in states if j != i), found[i])
        for i in states
    }


def _pairs(expressions: dict[int, Expression]) -> list[tuple[int, int | None]]:
    """(h, c) of every LSTM, (h, None) of every other cell."""
    pairs: list[tuple[int, int | None]] = []
    cells: set[int] = set()
    leaves = {
        i: {factor.name for factor in expression.factors() if factor.kind == "leaf"}
        for i, expression in expressions.items()
    }
    for i, names in leaves.items():
        for j, own in leaves.items():
            # A c is read by the new h as it is, after its own step; a c of another layer would reach it through an h.
            if i != j and f"new {j}" in names and {f"state {i}", f"state {j}"} <= own and j not in cells:
                pairs.append((i, j))
                cells |= {i, j}
                break
    return sorted(pairs + [(i, None) for i in expressions if i not in cells])


def _cell(expressions: dict[int, Expression], h: int, c: int | None) -> Cell:
    if c is None:
        return single_state(expressions[h], f"state {h}")
    return two_states(expressions[h], expressions[c], f"state {h}", f"state {c}", f"new {c}")

"""A state that is several states joined into one vector, taken apart: TF 1's `state_is_tuple=False`, [c, h] of an LSTM.

Needs: a loop's states with their gates taken off. Guarantees: a state for every vector that a step joins; the loop's
own values are not changed, `Steps.parts` says what they consist of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import onnx_ir as ir

from seqport.exporters.lift.gates import Carried
from seqport.exporters.lift.steps import State, Steps
from seqport.exporters.lift.walk import attribute


def separated(steps: Steps, carried: list[Carried]) -> list[Carried]:
    """The states, each joined one replaced by its pieces."""
    found: list[Carried] = []
    for item in carried:
        found.extend(_pieces(steps, item) or [item])
    return found


def _pieces(steps: Steps, item: Carried) -> list[Carried] | None:
    news = list(_joined(steps, item.new))
    if len(news) < 2:
        return None
    edges = _edges(steps, item, news)
    if edges is None:
        return None
    state, pieces = item.state, []
    for number, (new, columns) in enumerate(zip(news, pairwise(edges), strict=True)):
        entry, leaving, final = (ir.Value(name=f"{v.name}/{number}") for v in (state.entry, state.leaving, state.final))
        piece = State(state.initial, entry, leaving if item.choice else new, final, columns, state)
        choice = None if item.choice is None else replace(item.choice, new=new, old=entry)
        pieces.append(Carried(piece, new, choice))
    steps.parts[state.entry] = [piece.state.entry for piece in pieces]
    if item.choice is not None:
        steps.parts[steps.resolve(state.leaving)] = [piece.state.leaving for piece in pieces]
    return pieces


def _joined(steps: Steps, value: ir.Value) -> Iterator[ir.Value]:
    """The vectors that a value is joined of, however often."""
    value = steps.resolve(value)
    node = value.producer()
    if node is None or node.op_type != "Concat" or not steps.is_inner(value) or attribute(node, "axis") not in (1, -1):
        yield value
        return
    for part in node.inputs:
        if part is not None:
            yield from _joined(steps, part)


def _edges(steps: Steps, item: Carried, news: list[ir.Value]) -> list[int] | None:
    """Where each vector begins and ends: from their sizes, or from where the step cuts the old state."""
    state, facts = item.state, steps.facts
    total = next((w for v in (state.entry, state.initial, state.leaving) if (w := facts.width(v)) is not None), None)
    sizes = [facts.width(value) for value in news]
    if all(size is not None for size in sizes):
        edges = [0]
        for size in sizes:
            edges.append(edges[-1] + (size or 0))
    elif total is not None:
        edges = sorted({0, total} | set(_cuts(steps, state.entry, 0, total)))
    else:
        return None
    return edges if len(edges) == len(news) + 1 and total in (None, edges[-1]) else None


def _cuts(steps: Steps, value: ir.Value, offset: int, width: int) -> Iterator[int]:
    """Columns of the whole at which a step cuts this value, which begins at `offset`."""
    for node in value.consumers():
        if node.op_type == "Identity":
            yield from _cuts(steps, node.outputs[0], offset, width)
        elif node.op_type == "Split":
            given = steps.facts.of(node.inputs[1]) if len(node.inputs) > 1 else None
            count = len(node.outputs)
            sizes = [width // count] * count if given is None else [int(size) for size in given]
            start = offset
            for output, size in zip(node.outputs, sizes, strict=True):
                yield start
                yield from _cuts(steps, output, start, size)
                start += size
        elif node.op_type == "Slice":
            bounds = [steps.facts.of(item) for item in node.inputs[1:3]]
            if all(bound is not None and bound.size for bound in bounds):
                start, end = (max(0, min(width, int(bound.reshape(-1)[-1]))) for bound in bounds if bound is not None)
                yield from (offset + start, offset + end)
                yield from _cuts(steps, node.outputs[0], offset + start, end - start)

"""Families that are worth a look: steps that are joined, and chains of steps of which each reads the one before.

Needs: a straightened graph. Guarantees nothing but that the order is the graph's: what a family really is, the unifier
finds out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from seqport.exporters.cell import WEIGHTS, H, is_cell
from seqport.exporters.passes.builder import constant
from seqport.exporters.rolling.terms import Family

# Fewer steps than this show no pattern that could not be chance.
FEWEST = 3
_PRODUCTS = ("MatMul", "Gemm")
# Operators that a value may go through again and again: sums, extremes, choices.
_FOLDS = frozenset({"Add", "Sub", "Mul", "Max", "Min", "Where", "Or", "And", "Concat"})


def joins(graph: ir.Graph) -> Iterator[tuple[ir.Node, int, int]]:
    """(Concat, first, one past the last): inputs of a Concat that were made by like nodes."""
    for node in graph:
        if node.op_type != "Concat" or len(node.inputs) < FEWEST:
            continue
        start = 0
        kinds = [_kind(value) for value in node.inputs]
        for end in range(1, len(kinds) + 1):
            if end == len(kinds) or kinds[end] != kinds[start]:
                if end - start >= FEWEST and kinds[start] is not None:
                    yield node, start, end
                start = end


def _kind(value: ir.Value | None) -> object:
    node = None if value is None else value.producer()
    return None if node is None else (node.domain, node.op_type, len(node.inputs))


def chains(graph: ir.Graph, sizes: Sequence[int]) -> Iterator[list[ir.Node]]:
    """Like nodes of which each depends on the one before: cells and products with the same weights, and folds.

    Args:
        graph: straightened.
        sizes: numbers of steps that loops may have, where a chain is longer than one loop.
    """
    groups: dict[object, list[ir.Node]] = {}
    for node in graph:
        if is_cell(node):
            groups.setdefault(tuple(node.inputs[WEIGHTS:]), []).append(node)
        elif node.op_type in _PRODUCTS:
            weight = next((value for value in node.inputs[1::-1] if _is_weight(value)), None)
            if weight is not None:
                groups.setdefault((node.op_type, weight), []).append(node)
    place = {node: i for i, node in enumerate(graph)}
    for nodes in groups.values():
        for chain in _dependent(nodes, place):
            yield from _parts(chain, sizes)
    for chain in _folds(graph):
        yield from _parts(chain, sizes)


def _is_weight(value: ir.Value | None) -> bool:
    while value is not None:
        if value.is_initializer() or constant(value) is not None:
            return True
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in ("Transpose", "Identity", "Cast") else None
    return False


def _dependent(nodes: list[ir.Node], place: dict[ir.Node, int]) -> Iterator[list[ir.Node]]:
    """Chains of the nodes by dependence, each node in one."""
    wanted = set(nodes)
    previous: dict[ir.Node, ir.Node] = {}
    for node in nodes:
        found = _nearest(node, wanted, place)
        if found is not None and found not in previous.values():
            previous[node] = found
    following = {before: node for node, before in previous.items()}
    for node in nodes:
        if node not in previous:
            chain = [node]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            if len(chain) >= FEWEST:
                yield chain


def _nearest(node: ir.Node, wanted: set[ir.Node], place: dict[ir.Node, int]) -> ir.Node | None:
    """The last of the wanted nodes that this one depends on; a cell, by its state."""
    low = min(place[item] for item in wanted)
    seen: set[ir.Node] = set()
    stack = [[node.inputs[H]] if is_cell(node) else list(node.inputs)]
    best: ir.Node | None = None
    while stack:
        for value in stack.pop():
            maker = None if value is None else value.producer()
            if maker is None or maker in seen or place.get(maker, -1) < (low if best is None else place[best]):
                continue
            seen.add(maker)
            if maker in wanted:
                best = maker if best is None or place[maker] > place[best] else best
            else:
                stack.append(list(maker.inputs))
    return best


def _folds(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """Chains of one operator whose result is an operand of the next, at the same place."""
    done: set[tuple[ir.Node, int]] = set()
    for node in graph:
        if node.op_type not in _FOLDS:
            continue
        for index in range(len(node.inputs)):
            if (node, index) in done:
                continue
            chain = [node]
            while (following := _reader(chain[-1], index)) is not None:
                done.add((following, index))
                chain.append(following)
            if len(chain) >= FEWEST:
                yield chain


def _reader(node: ir.Node, index: int) -> ir.Node | None:
    for use in node.outputs[0].uses():
        if use.idx == index and use.node.op_type == node.op_type:
            return use.node
    return None


def _parts(chain: list[ir.Node], sizes: Sequence[int]) -> Iterator[list[ir.Node]]:
    """The chain; where it is longer than one loop, one loop after another, or one layer above another."""
    if len(chain) <= max(sizes, default=len(chain)):
        yield chain
        return
    for size in sizes:
        if len(chain) % size == 0:
            yield from (chain[at : at + size] for at in range(0, len(chain), size))
            layers = len(chain) // size  # of one cell, one above the other
            yield from (chain[at::layers] for at in range(layers))
    for size in sizes:
        for rest in sizes:
            if size + rest == len(chain) and size != rest:
                yield from (chain[:size], chain[size:])


def outlets(chain: list[ir.Node], place: dict[ir.Node, int]) -> Iterator[Family]:
    """Families that are computed from a chain, step by step, found by walking from all steps forward at once."""
    waiting: list[Family] = [tuple(node.outputs[i] for node in chain) for i in range(len(chain[0].outputs))]
    ends = [place[node] for node in chain[1:]]
    seen: set[ir.Value | None] = set()
    while waiting:
        family = waiting.pop(0)
        if family[-1] in seen:
            continue
        seen.add(family[-1])
        yield family
        for use in family[-1].uses() if family[-1] is not None else ():
            users = [_like(use, value, place, end) for value, end in zip(family, ends, strict=False)]
            nodes = [*users, use.node]
            if all(node is not None for node in nodes) and len(set(nodes)) == len(nodes):
                for i in range(len(use.node.outputs)):
                    waiting.append(tuple(node.outputs[i] for node in nodes if node is not None))


def _like(use: Any, value: ir.Value | None, place: dict[ir.Node, int], end: int) -> ir.Node | None:
    """The reader of a value, before the next step of the chain, that is like another reader."""
    if value is None:
        return None
    found = [
        other.node
        for other in value.uses()
        if other.idx == use.idx
        and other.node.op_type == use.node.op_type
        and other.node.domain == use.node.domain
        and place.get(other.node, end) < end
    ]
    return found[0] if found else None

"""Looks words up piece by piece: the vectors of a batch's words need not be laid out for its padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto, helper

from seqport.runtime.rewriting.links import permutation
from seqport.runtime.rewriting.rowwise import ELEMENTWISE, Layout, Step, follow
from seqport.runtime.rewriting.sources import Padded, Window
from seqport.runtime.rewriting.view import View, attribute

# Each costs a node a piece.
_MOST_STEPS = 8


@dataclass(frozen=True)
class Front:
    """A lookup in a table, and elementwise work around it, in front of a layer.

    Attributes:
        entry: what it starts from, one number a step.
        steps: in the order of the graph.
        output: what the layer takes.
    """

    entry: str
    steps: tuple[Step, ...]
    output: str


@dataclass(frozen=True)
class LookedUp:
    """A padded batch of numbers, whose vectors a piece looks up."""

    numbers: Padded
    front: Front

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, I]: what a piece takes; each row from its end where it runs backward."""
        values = {self.front.entry: self.numbers.take(window, backward)}
        for step in self.front.steps:
            values[step.output] = step.emit(window.emit, values)
        return values[self.front.output]


def front_of(view: View, fed: str, takers: Sequence[NodeProto], *, batch_major: bool) -> Front | None:
    """The lookup that gives a value.

    Args:
        view: the graph.
        fed: the value, [B, T, I] or [T, B, I].
        takers: the layers that are packed.
        batch_major: the first of these.

    Returns:
        None where it comes from anything else, or somebody else reads it, for whom it is laid out anyway.
    """
    layers = {id(node) for node in takers}
    readers = [node for _, node in _readers(view, fed)]
    if fed in view.given or any(id(node) not in layers and _extent_of(node) is None for node in readers):
        return None
    nodes, entries, todo = set[int](), set[str](), [fed]
    while todo:
        name = todo.pop()
        node = view.producers.get(name)
        if node is None or node.op_type not in ELEMENTWISE | {"Gather"}:
            entries.add(name)
        elif id(node) not in nodes:
            nodes.add(id(node))
            todo += [given for given in node.input if given and view.shape(given) is None]
        if len(nodes) > _MOST_STEPS or len(entries) > 1:
            return None
    members = [node for node in view.graph.node if id(node) in nodes]
    if len(entries) != 1 or not any(node.op_type == "Gather" for node in members):
        return None
    (entry,) = entries
    steps: Sequence[Step] = follow(view, members, {entry: Layout(batch_major, featured=False)})
    made = {step.output: step.layout for step in steps}
    if len(steps) != len(members) or made.get(fed) != Layout(batch_major):
        return None
    return Front(entry, tuple(steps), fed)


def extents_elsewhere(view: View, front: Front) -> list[tuple[NodeProto, NodeProto]]:
    """Nodes that ask for the batch or the steps of what is looked up → nodes that ask what it starts from."""
    found = []
    for turned, node in _readers(view, front.output):
        axis = _extent_of(node)
        if axis is not None:
            axis = 1 - axis if turned else axis
            found.append(
                (node, helper.make_node("Shape", [front.entry], node.output, node.name, start=axis, end=axis + 1))
            )
    return found


def _readers(view: View, name: str) -> list[tuple[bool, NodeProto]]:
    """Who reads a value, and whether with the batch and the steps swapped."""
    found = [(False, node) for node in view.readers[name]]
    turns = [node for _, node in found if node.op_type == "Transpose" and permutation(node) == [1, 0, 2]]
    known = {id(node) for node in turns if node.output[0] not in view.given}
    found = [(turned, node) for turned, node in found if id(node) not in known]
    return found + [(True, node) for turn in turns if id(turn) in known for node in view.readers[turn.output[0]]]


def _extent_of(node: NodeProto) -> int | None:
    """The axis, 0 or 1, whose extent a node asks for."""
    if node.op_type != "Shape":
        return None
    start = attribute(node, "start", 0)
    return start if start in (0, 1) and attribute(node, "end", None) == start + 1 else None

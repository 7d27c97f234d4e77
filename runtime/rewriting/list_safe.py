"""Whether a model on seqport's operators may get its rows as a list: their steps one behind the other, as one row's.

It may where nothing but the operators, which know the rows' lengths, looks at more than one step: everything else that
follows from a sequence is computed step by step, and extents are read by the operators alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from onnx import NodeProto

from seqport.runtime.kernels import DOMAIN
from seqport.runtime.rewriting.lengths import input_behind
from seqport.runtime.rewriting.links import permutation
from seqport.runtime.rewriting.rowwise import Layout, step_of
from seqport.runtime.rewriting.view import View, attribute, reads

_X, _EXTENTS = 0, 7  # inputs of Recurrent
_VALID, _NODE = 2, 3  # its layouts
# Y as ONNX has it, [T, D, B, H], and with the directions behind the rows: by the order of axes that leads there
_TURNS: Mapping[tuple[int, ...], Layout] = {
    (0, 2, 1, 3): Layout(batch_major=False),
    (2, 0, 1, 3): Layout(batch_major=True),
}
# What takes a size out of a shape, on its way to the lengths that are bounded by it.
_SIZES = frozenset(("Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"))


def takes_lists(view: View, sequences: Collection[str]) -> bool:
    """Whether a model may get its rows as a list.

    Args:
        view: of a model on seqport's operators.
        sequences: its inputs that have an entry a step; all others have one a row.
    """
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in view.graph.input if v.name in sequences}
    if not ranks or not set(ranks.values()) <= {2, 3}:
        return False
    return any(
        _Walk(view, {name: Layout(batch_major, rank == 3) for name, rank in ranks.items()}).ends()
        for batch_major in (True, False)
    )


@dataclass
class _Walk:
    """A walk through a graph, from its sequences to whatever follows from them.

    Attributes:
        steps: what has an entry a step.
        nodes: outputs of layers whose directions are still apart; None as ONNX has them, else what joining them gives.
        sizes: what follows from the extents of `steps`.
    """

    view: View
    steps: dict[str, Layout]
    nodes: dict[str, Layout | None] = field(default_factory=dict)
    sizes: set[str] = field(default_factory=set)
    sequences: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.sequences = frozenset(self.steps)

    def ends(self) -> bool:
        """Whether it gets to the end without a node that looks at more than one step."""
        return all(self._passes(node) for node in self.view.graph.node)

    def _passes(self, node: NodeProto) -> bool:
        read = set(reads(node))
        if node.domain == DOMAIN:
            return self._operator(node)
        if read & self.nodes.keys():
            return self._joins(node)
        if read & self.sizes:
            # A size may only go to the operators, or bound lengths, which never exceed it.
            if node.op_type in _SIZES and not read & self.steps.keys():
                self.sizes |= set(node.output)
                return True
            return self._bounds_lengths(node)
        if not read & self.steps.keys():
            return True
        if node.op_type == "Shape":
            self.sizes |= set(node.output)
            return True
        step = step_of(self.view, node, self.steps)
        layout = self._placed(node) or (step.layout if step else None)
        if layout is None:
            return False
        self.steps[node.output[0]] = layout
        return True

    def _operator(self, node: NodeProto) -> bool:
        """One of ours, which takes steps and extents in their own places alone."""
        recurrent = node.op_type == "Recurrent"
        own = {_X, _EXTENTS} if recurrent else {0, len(node.input) - 1} if node.op_type == "Spread" else {1}
        for place, name in enumerate(node.input):
            if place not in own and (name in self.steps or name in self.sizes or name in self.nodes):
                return False
        if not recurrent:
            major = bool(attribute(node, "batch_major", 0))
            self.steps[node.output[0]] = Layout(major, featured=node.op_type == "Spread")
            return True
        x_layout, y_layout = attribute(node, "x_layout", 0), attribute(node, "y_layout", 0)
        given = self.steps.get(node.input[_X])
        if given is None or (x_layout != _VALID and bool(x_layout) != given.batch_major):
            return False
        if node.output[0] and y_layout == _NODE:
            self.nodes[node.output[0]] = None
        elif node.output[0]:
            self.steps[node.output[0]] = Layout(batch_major=y_layout != 0)
        return True

    def _joins(self, node: NodeProto) -> bool:
        """What makes [T, B, D · H] or [B, T, D · H] of Y as ONNX has it."""
        name = node.input[0]
        constant = self.view.constant(node.input[1]) if len(node.input) > 1 else None
        values = [] if constant is None else constant.reshape(-1).tolist()
        turned = self.nodes.get(name)
        if name in self.nodes and turned is None and node.op_type == "Squeeze" and values == [1]:
            self.steps[node.output[0]] = Layout(batch_major=False)
            return True
        if name in self.nodes and turned is None and node.op_type == "Transpose":
            self.nodes[node.output[0]] = layout = _TURNS.get(tuple(permutation(node) or ()))
            return layout is not None
        if turned is not None and node.op_type == "Reshape" and len(values) == 3 and values[:2] == [0, 0]:
            self.steps[node.output[0]] = turned
            return True
        return False

    def _bounds_lengths(self, node: NodeProto) -> bool:
        """A Min of lengths and sizes."""
        others = [input_behind(self.view, name) for name in node.input if name not in self.sizes]
        return node.op_type == "Min" and bool(others) and all(name and name not in self.sequences for name in others)

    def _placed(self, node: NodeProto) -> Layout | None:
        """What brings words to their valid steps, [1, N], and answers that are not floats back from there."""
        if node.op_type == "Reshape":
            given, shape = self.steps.get(node.input[0]), self.view.constant(node.input[1])
            flat = given is not None and not given.featured and shape is not None and shape.tolist() == [1, -1]
            return Layout(batch_major=True, featured=False) if flat else None
        gather = self.view.producers.get(node.input[0]) if node.op_type == "Squeeze" else node
        if gather is None or gather.op_type != "Gather" or attribute(gather, "axis", 0) != 1:
            return None
        place, layout = self.view.producers.get(gather.input[1]), self.steps.get(gather.input[0])
        if place is None or place.domain != DOMAIN or layout is None:
            return None
        return layout if gather is node else Layout(bool(attribute(place, "batch_major", 0)), layout.featured)

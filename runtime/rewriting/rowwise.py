"""Finds what a graph computes step by step behind packed layers, so that it can be left out at padded steps.

A node belongs to it where its answer at a step follows from its inputs at that step and from constants: a linear layer,
an activation, a normalisation, a join along the features. At padded steps all of these give one and the same answer,
which is computed once. The valid steps stand in one row, [1, N + 1, F] instead of [B, T, F] or [T, B, F], so that nodes
keep their axes, and ONNX Runtime its ways to compute them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto, helper

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.links import permutation
from seqport.runtime.rewriting.view import View, attribute

# A linear layer of fewer weights takes less time at padded steps than taking them out and in again.
_WORTH = 2048

ELEMENTWISE = frozenset((
    "Abs", "Add", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "Max", "Min", "Mish", "Mul", "Neg", "Not", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid",
    "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where",
))  # fmt: skip
# What works along the features, with the default of its axis.
_ALONG = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "LayerNormalization": -1, "ArgMax": 0, "ArgMin": 0}
_REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
_LAST = (-1, 2)


@dataclass(frozen=True)
class Layout:
    """How a padded value with an entry a step is laid out.

    Attributes:
        batch_major: [B, T, …], else [T, B, …].
        featured: F numbers a step, in a third axis; else one.
    """

    batch_major: bool
    featured: bool = True


@dataclass(frozen=True)
class Step:
    """A node that is computed step by step.

    Attributes:
        node: as it stands in the graph.
        needs: those of its inputs that have an entry a step.
        layout: of its output.
    """

    node: NodeProto
    needs: tuple[str, ...]
    layout: Layout

    @property
    def output(self) -> str:
        """The only output that is read."""
        return self.node.output[0]

    def emit(self, emit: Emitter, valid: Mapping[str, str]) -> str:
        """Emit it for the valid steps of what it needs."""
        if self.node.op_type == "Transpose":  # of time and batch, which are one
            return valid[self.needs[0]]
        inputs = [valid.get(name, name) for name in self.node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        return emit.op(self.node.op_type, *inputs, **attributes)


def steps_behind(view: View, sources: Mapping[str, Layout], wanted: Collection[str]) -> list[Step]:
    """What is worth computing step by step, in the order of the graph.

    Args:
        view: the graph.
        sources: what packed layers that share lengths give.
        wanted: what other such layers take: what leads there need not be padded in between.
    """
    return _worthwhile(view, follow(view, view.graph.node, sources), wanted)


def follow(view: View, nodes: Iterable[NodeProto], sources: Mapping[str, Layout]) -> list[Step]:
    """Those of some nodes, in the order of the graph, that are computed step by step from these values."""
    known = dict(sources)
    found: list[Step] = []
    for node in nodes:
        if node.output and node.output[0] not in known:
            step = step_of(view, node, known)
            if step is not None:
                known[step.output] = step.layout
                found.append(step)
    return found


def _worthwhile(view: View, found: Sequence[Step], wanted: Collection[str]) -> list[Step]:
    """Steps that something worthwhile follows from, or that follow from it."""
    makers = {step.output: place for place, step in enumerate(found)}
    before = [{makers[name] for name in step.needs if name in makers} for step in found]
    worth = {place for place, step in enumerate(found) if step.output in wanted or _is_large(view, step.node)}
    leads, follows = set(worth), {place for place in worth if found[place].output not in wanted}
    for place in reversed(range(len(found))):
        if place in leads:
            leads |= before[place]
    for place in range(len(found)):
        if before[place] & follows:
            follows.add(place)
    return [step for place, step in enumerate(found) if place in leads | follows]


def _is_large(view: View, node: NodeProto) -> bool:
    return node.op_type == "MatMul" and math.prod(view.shape(node.input[1]) or (0,)) >= _WORTH


def step_of(view: View, node: NodeProto, known: Mapping[str, Layout]) -> Step | None:
    """A node that works step by step on these values; None for any other."""
    if node.domain not in ("", "ai.onnx") or any(node.output[1:]):
        return None
    needs = tuple(name for name in node.input if name in known)
    layouts = {known[name] for name in needs}
    constant = all(view.shape(name) is not None for name in node.input if name and name not in known)
    if len(layouts) != 1 or not constant:
        return None
    rule = _RULES.get(node.op_type)
    layout = rule(view, node, layouts.pop()) if rule else None
    return None if layout is None else Step(node, needs, layout)


# The layout of a node's inputs → that of its output; None where it does more than work step by step
_Rule = Callable[[View, NodeProto, Layout], Layout | None]


def _elementwise(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    for name in node.input:
        shape = view.shape(name)
        if shape is None:
            continue
        alike = math.prod(shape[:-1]) == 1 if layout.featured else math.prod(shape) == 1
        if len(shape) > 2 + layout.featured or not alike:
            return None  # it differs from step to step, or from row to row
    return layout


def _linear(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    shape = view.shape(node.input[1])
    return layout if layout.featured and shape is not None and len(shape) == 2 else None


def _along_features(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    del view
    if not layout.featured or attribute(node, "axis", _ALONG[node.op_type]) not in _LAST:
        return None
    picks = node.op_type.startswith("Arg")
    return Layout(layout.batch_major, bool(attribute(node, "keepdims", 1))) if picks else layout


def _reduction(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    axes = _axes(view, node) if len(node.input) > 1 else list(attribute(node, "axes", ()))
    if not layout.featured or axes not in ([-1], [2]):
        return None
    return Layout(layout.batch_major, bool(attribute(node, "keepdims", 1)))


def _looked_up(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    table = view.shape(node.input[0])
    rows = table is not None and len(table) == 2 and attribute(node, "axis", 0) == 0
    return Layout(layout.batch_major) if rows and not layout.featured else None


def _joined(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    alike = all(view.shape(name) is None for name in node.input)
    return layout if layout.featured and alike and attribute(node, "axis", 0) in _LAST else None


def _turned(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    del view
    swapped = [1, 0, 2] if layout.featured else [1, 0]
    return Layout(not layout.batch_major, layout.featured) if permutation(node) == swapped else None


def _squeezed(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    return Layout(layout.batch_major, False) if layout.featured and _axes(view, node) in ([-1], [2]) else None


def _unsqueezed(view: View, node: NodeProto, layout: Layout) -> Layout | None:
    return None if layout.featured or _axes(view, node) not in ([-1], [2]) else Layout(layout.batch_major)


def _axes(view: View, node: NodeProto) -> list[int]:
    """The axes that a node takes as its second input."""
    value = view.constant(node.input[1]) if len(node.input) > 1 else None
    return [] if value is None else value.reshape(-1).tolist()


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_ALONG, _along_features),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "MatMul": _linear,
    "Gather": _looked_up,
    "Concat": _joined,
    "Transpose": _turned,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
}

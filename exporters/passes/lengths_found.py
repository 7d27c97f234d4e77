"""Which inputs are the lengths of an axis: found by running the artifact, not by what leads where in its graph.

Needs: a lowered graph and the inputs of a probe. Guarantees: an input is the lengths of an axis where, for every length
n that is tried, a node takes as many steps of a row of length n as it takes of an axis of n steps. So n alone and n
among longer rows are one: `lengths`, `(lengths + 1) // 2` behind a layer that halves the steps, `lengths - 1` of
`x[:, :-1]`. A number of padded steps, a first step, a fraction, or samples of which two make a step are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.passes.experiments import Arrays, counting, cut, size_of
from seqport.exporters.passes.layers_seen import Layers
from seqport.exporters.passes.roles import SEQUENCE_LENS, data_sources, upstream
from seqport.exporters.signature import Input

# Fewer lengths than these prove nothing.
_ENOUGH = 3


@dataclass
class Lengths:
    """What was found.

    Attributes:
        axes: lengths input → the axis that it counts the steps of.
        nodes: recurrent node's name → the input that its lengths are.
    """

    axes: dict[str, str | int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)


def found_lengths(layers: Layers, inputs: tuple[Input, ...], arrays: Arrays) -> Lengths:
    """Find them.

    Args:
        layers: the recurrent nodes.
        inputs: the declared inputs.
        arrays: inputs of a probe, of which no step is masked.
    """
    found = Lengths()
    for item in inputs:
        reached = [node for node in layers.nodes if _reaches(item, node)]
        for axis in _axes(item, reached, inputs) if reached else ():
            if nodes := _counted(layers, reached, item, axis, inputs, arrays):
                found.axes[item.name] = axis
                found.nodes |= {node.name or "": item.name for node in nodes if node.name not in found.nodes}
                break
    for axis in set(found.axes.values()):
        several = {name for name, other in found.axes.items() if other == axis}
        if len(several) > 1:  # which of them a row's own steps are, nothing tells: none is filled in
            found.axes = {name: other for name, other in found.axes.items() if name not in several}
            found.nodes = {node: name for node, name in found.nodes.items() if name not in several}
    return found


def _reaches(item: Input, node: ir.Node) -> bool:
    """Whether an input of one number a row reaches a node's lengths."""
    if not Layers.takes_lengths(node) or not is_per_row(item) or item.dtype == "bool":
        return False
    value = node.inputs[SEQUENCE_LENS]
    assert value is not None
    return item.name in upstream(value)


def _axes(item: Input, nodes: list[ir.Node], inputs: tuple[Input, ...]) -> Iterator[str | int]:
    """The axes that its values may count: of the data of these nodes, without the rows; dynamic ones first."""
    names = {name for node in nodes for name in data_sources(node, inputs)}
    rows = item.axes[0]
    axes = [
        axis
        for data in inputs
        if data.name in names
        for place, axis in enumerate(data.axes)
        if axis != rows and (isinstance(axis, str) or place < 2)
    ]
    yield from dict.fromkeys(axis for axis in axes if isinstance(axis, str))
    yield from dict.fromkeys(axis for axis in axes if isinstance(axis, int))


def _counted(
    layers: Layers, nodes: list[ir.Node], item: Input, axis: str | int, inputs: tuple[Input, ...], arrays: Arrays
) -> list[ir.Node]:
    """The nodes whose steps of an axis an input counts."""
    size = axis if isinstance(axis, int) else size_of(arrays, inputs, axis)
    found: dict[ir.Node, dict[int, tuple[int, int]]] = {node: {} for node in nodes}
    bounded = [other.name for other in inputs if is_per_row(other) and arrays[other.name].dtype.kind in "iu"]
    for steps in _tried(size):
        fewer = cut(arrays, inputs, axis, 0, steps)
        try:
            given = layers.lengths(counting(arrays, steps, bounded, item.name))
            taken = layers.sizes(counting(fewer, steps, bounded, item.name))
        except Exception:  # the model takes no such length, or not so few steps
            continue
        for node, lengths in found.items():
            lengths[steps] = _one_of(given[node]), taken[node][0]
    if len(next(iter(found.values()))) < min(_ENOUGH, size):
        return []
    return [node for node, lengths in found.items() if size in lengths and _agree(lengths, axis, size)]


def _agree(found: Mapping[int, tuple[int, int]], axis: str | int, size: int) -> bool:
    if isinstance(axis, int):
        return _follows(found, size)
    if all(given == taken for given, taken in found.values()):
        return True
    # A loop up to max(lengths) reads a sequence that some more steps were added to.
    added = {taken - steps for steps, (_, taken) in found.items()}
    return len(added) == 1 and min(added) > 0 and all(given == steps for steps, (given, _) in found.items())


def _follows(found: Mapping[int, tuple[int, int]], size: int) -> bool:
    """For an axis that cannot be cut: lengths fall with the steps, from all that there are."""
    _, whole = found[size]
    if whole == size:
        return all(given == steps for steps, (given, _) in found.items())
    in_order = [given for _, (given, _) in sorted(found.items())]
    return in_order == sorted(in_order) and in_order[-1] == whole and in_order[0] <= whole // 2


def _tried(size: int) -> list[int]:
    """Lengths below, among them odd and even ones, near the whole and near nothing."""
    tried = (size, size - 1, size - 2, size - 3, size // 2 + 1, size // 2, size // 3, size // 4, 2, 1)
    return sorted({steps for steps in tried if 1 <= steps <= size}, reverse=True)


def _one_of(lengths: np.ndarray) -> int:
    """The length that all rows have; one that none can have where they differ."""
    values = np.unique(lengths)
    return int(values[0]) if len(values) == 1 else -1
